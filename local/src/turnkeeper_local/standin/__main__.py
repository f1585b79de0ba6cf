"""``python -m turnkeeper_local.standin --port N [--host H] [--scenario F] [--slow SECONDS] [--slow-per-token SECONDS]``

Prints one line of JSON with its address once it listens, then serves until it is told to stop. Exits 2 on wrong
usage, a scenario file that cannot be used included, and 1 where it cannot listen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import uvicorn

from turnkeeper_local.standin.model import StandIn
from turnkeeper_local.standin.scenario import Pace, Scenario, ScenarioError, load
from turnkeeper_local.standin.server import make_app
from turnkeeper_local.standin.serving import BACKLOG, listen


class _Server(uvicorn.Server):
    """Says where it listens, once it does."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            line = {"base_url": f"http://{shown}:{port}", "host": host, "port": port, "pid": os.getpid()}
            print(json.dumps(line), flush=True)


class _Quiet(logging.Filter):
    """Drops the complaint about an answer that was cut short on purpose."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "returned without completing response" not in record.getMessage()


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m turnkeeper_local.standin", description="The stand-in model.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--scenario", type=Path, default=None, help="a scenario file (YAML)")
    parser.add_argument("--slow", type=_seconds, help="seconds before the first byte of every answer")
    parser.add_argument("--slow-per-token", type=_seconds, help="seconds for every output token")
    parser.add_argument("--with-parent", action="store_true", help="end when whoever started this has ended")
    return parser


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(0)


def _scenario(arguments: argparse.Namespace) -> Scenario:
    path = arguments.scenario or os.environ.get("TURNKEEPER_SCENARIO") or None
    scenario = load(Path(path)) if path else Scenario()
    first = scenario.pace.first_byte_seconds if arguments.slow is None else arguments.slow
    token = scenario.pace.token_seconds if arguments.slow_per_token is None else arguments.slow_per_token
    return replace(scenario, pace=Pace(first, token))


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        scenario = _scenario(arguments)
    except ScenarioError as error:
        print(f"standin: {error}", file=sys.stderr)
        return 2
    try:
        listener = listen(arguments.host, arguments.port)
    except (OSError, OverflowError) as error:
        print(f"standin: cannot listen on {arguments.host}:{arguments.port}: {error}", file=sys.stderr)
        return 1
    logging.getLogger("uvicorn.error").addFilter(_Quiet())
    if arguments.with_parent:
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    config = uvicorn.Config(
        make_app(StandIn(scenario)),
        log_level="warning",
        access_log=False,
        lifespan="off",
        backlog=BACKLOG,
        # Longer than clients keep idle connections, so that it is never us who closes one just as it is used.
        timeout_keep_alive=120,
        timeout_graceful_shutdown=1,
    )
    with contextlib.suppress(KeyboardInterrupt):
        _Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
