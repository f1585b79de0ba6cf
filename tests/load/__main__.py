"""Load a kit, let its workers die, and check at the end what must hold. docs/operations/load.md.

    python -m tests.load                                      # ten minutes on a kit of its own
    python -m tests.load --minutes 2 --seed 7 --report soak.json
    python -m tests.load --local                              # the local kit that is up; nothing is killed
    python -m tests.load --stack Turnkeeper --agent support   # one that is deployed

Exit code 0 where everything held, 1 where something broke, 2 where the request did not fit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.load import report
from tests.load.run import Plan, run
from tests.load.target import Target, own_kit, running_target
from tests.load.traffic import KINDS, default_mix
from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.place import find


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    wanted = parser.parse_args(arguments)
    if wanted.url and not wanted.stack:
        parser.error("--url is where a deployed kit's API is: name the kit with --stack")
    if wanted.stack and not wanted.agent:
        parser.error("--stack needs --agent: a deployed kit has none of the test agents")
    if wanted.agent and not (wanted.stack or wanted.local):
        parser.error("--agent is for --local and --stack: a kit of the run's own has the test agents")
    if wanted.stack and wanted.kill_every:
        parser.error("--kill-every: nothing is killed in an account")
    # A supervisor that ends this process wants what it started to end as well.
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        with _target(wanted) as target:
            plan = _plan(parser, wanted, target)
            _say(f"seed {plan.seed}; tenants soak-{target.mark}-*; mix {_mix_text(plan.mix)}")
            found = run(target, plan, _say)
    except CliError as error:
        parser.error(f"{error}; {error.hint}" if error.hint else str(error))
    except KeyboardInterrupt:
        _say("interrupted: nothing was checked")
        return 130
    for line in report.lines(found):
        _say(line)
    if wanted.report:
        wanted.report.write_text(json.dumps(found, indent=2) + "\n")
    return 1 if found["broken"] else 0


def _parser() -> argparse.ArgumentParser:
    text = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m tests.load", description=__doc__, formatter_class=text)
    parser.add_argument("--minutes", type=_positive, default=10.0, help="how long users go on (10)")
    parser.add_argument("--users", type=_count, default=6, help="how many there are at once (6)")
    parser.add_argument("--rate", type=_positive, default=1.0, help="what all of them begin in a second, at most (1)")
    parser.add_argument("--seed", type=int, default=None, help="what is done when (by lot)")
    parser.add_argument(
        "--mix", type=_mix, default=None, help=f"kinds and shares, as turns=5,jobs=3: {', '.join(KINDS)}"
    )
    parser.add_argument("--kill-every", type=_seconds, default=None, help="about so many seconds, or never")
    parser.add_argument(
        "--growth", type=_positive, default=15.0, help="percent that memory may grow after warm-up (15)"
    )
    parser.add_argument("--report", type=_file, metavar="FILE.json", help="all of it, as JSON")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--local", action="store_true", help="the local kit that is up, instead of one of its own")
    where.add_argument("--stack", metavar="NAME", help="a deployed kit, by its stacks' prefix")
    parser.add_argument("--url", help="where its API is, if not where the stack says")
    parser.add_argument("--agent", help="whom users talk with, on a kit without the test agents")
    return parser


def _target(wanted: argparse.Namespace) -> contextlib.AbstractContextManager[Target]:
    if wanted.stack or wanted.local:
        return running_target(find(wanted.stack), wanted.agent, wanted.url)
    _say("bringing a kit up ...")
    return own_kit()


def _plan(parser: argparse.ArgumentParser, wanted: argparse.Namespace, target: Target) -> Plan:
    mix = wanted.mix or default_mix(scripted=target.scripted)
    scripted = [name for name in mix if KINDS[name].scripted]
    if scripted and not target.scripted:
        parser.error(f"--mix: {', '.join(scripted)} can only be done with the test agents and the stand-in model")
    kill_every = wanted.kill_every if wanted.kill_every is not None else (20.0 if target.own else 0.0)
    seed = wanted.seed if wanted.seed is not None else random.randrange(10**6)
    return Plan(wanted.minutes * 60, wanted.users, wanted.rate, seed, mix, kill_every, wanted.growth)


def _mix(text: str) -> dict[str, float]:
    mix = {}
    for part in text.split(","):
        name, _, share = part.partition("=")
        if name not in KINDS:
            raise argparse.ArgumentTypeError(f"there is no kind {name!r}; there are {', '.join(KINDS)}")
        mix[name] = _positive(share or "1")
    return mix


def _mix_text(mix: Mapping[str, float]) -> str:
    return ",".join(f"{name}={share:g}" for name, share in mix.items())


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _seconds(text: str) -> float:
    """`never` is 0."""
    return 0.0 if text == "never" else _positive(text)


def _file(text: str) -> Path:
    """Where it can be written, which ten minutes later would be too late to find out."""
    try:
        Path(text).touch()
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return Path(text)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    # Whoever still waits for an answer of a kit that is gone keeps nobody waiting.
    if threading.active_count() > 1:
        import os

        os._exit(exit_code)
    sys.exit(exit_code)
