"""The worker: ``python -m fargate_worker``. Settings come from the environment (``turnkeeper.settings``)."""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable

from fargate_worker.link import Link
from fargate_worker.machine import sized
from fargate_worker.signals import Signals
from turnkeeper.adapters.logs import set_up
from turnkeeper.settings import Settings


def main(before_work: Callable[[], object] = lambda: None) -> int:
    """``before_work``: what a process does before it takes jobs, and one that only starts others does not."""
    signals, link = Signals(), Link.of()
    settings = sized(Settings.from_environment())
    set_up(settings.log_level)
    # Nearly all that is made while a process starts stays: to look through it for garbage after every 700 objects costs
    # a tenth of that time (`process.spare_the_collector` is what holds from then on).
    gc.set_threshold(50_000, 20, 20)
    if link is None and (settings.worker_processes or 1) > 1:
        from fargate_worker.together import supervise

        return supervise(signals, settings)
    before_work()
    from fargate_worker.process import work

    return work(signals, settings, link)


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a tool or a call that hangs in a thread must not keep the process from ending.
    os._exit(code)
