"""Runs on a schedule, every minute."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from functions.process import kit as _kit
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.runtime.sweep import Report

logger = logging.getLogger(__name__)

#: Kept of the Lambda's time for the last session and the report.
_MARGIN_SECONDS = 10.0
#: Where nobody says how long it may take.
_DEFAULT_SECONDS = 45.0
#: How often the scores are looked at.
SCORES_EACH_MINUTES = 5


def handler(_event: dict[str, Any], context: Any) -> dict[str, Any]:
    """One sweep; what it did, also in the log. Before it, the worker is given as many tasks as the queue needs: a sweep
    may take all of its time."""
    kit = _kit()
    started = kit.clock.monotonic()

    def seconds_left() -> float:
        if hasattr(context, "get_remaining_time_in_millis"):
            return float(context.get_remaining_time_in_millis()) / 1000 - _MARGIN_SECONDS
        return _DEFAULT_SECONDS - (kit.clock.monotonic() - started)

    report = sweep(kit, seconds_left)
    if kit.clock.now().minute % SCORES_EACH_MINUTES == 0 and seconds_left() > 0:
        watch_scores(kit)
    return report


def sweep(kit: Kit, seconds_left: Callable[[], float], *, quiet: bool = False) -> dict[str, Any]:
    """One sweep, as far as time allows; what it did. ``quiet``: nothing is said where there was nothing to do."""
    kit.capacity.look()
    done = kit.sweep.run(seconds_left)
    report = done.to_json()
    if not quiet or done != Report():
        logger.info("swept", extra={"report": report})
    return report


def watch_scores(kit: Kit) -> None:
    """Not worth a failed sweep: the next look is minutes away."""
    try:
        kit.rollout_watch.look()
        kit.score_watch.look()
    except TurnkeeperError as error:
        logger.warning("the scores were not looked at: %s", error)
