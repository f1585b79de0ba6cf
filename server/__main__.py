"""The kit without AWS: ``python -m server front-door | worker | chores | all``, as docs/shapes.md says.

Settings come from the environment (``turnkeeper.settings``). ``migrate`` makes the database's tables, ``healthy URL``
is for a container's health check.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.settings import PREFIX
from turnkeeper.wiring.needs import MissingSetting

logger = logging.getLogger(__name__)

PASSWORD_FILE = "TURNKEEPER_DATABASE_PASSWORD_FILE"  # noqa: S105 - the name of a variable
PARTS = ("front-door", "worker", "chores", "all")


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    try:
        return _run(options)
    except (TurnkeeperError, MissingSetting, ValidationError, OSError) as error:
        # What an operator has put wrong, which a trace would only hide.
        return _failed(options, _said(error))
    except Exception as error:
        logger.exception("this process cannot start")
        return _failed(options, f"{type(error).__name__}: {error}")


def _run(options: argparse.Namespace) -> int:
    if options.command == "worker":
        from fargate_worker.__main__ import main as work

        return work(_read_password)
    _read_password()
    match options.command:
        case "healthy":
            return _healthy(options.url)
        case "migrate":
            from server.migrating import migrate

            return migrate()
        case command:
            from server.serving import Announced, run

            announced = None
            if options.announce is not None:
                announced = Announced(options.announce, tell=options.tell, as_json=options.json)
            return run(str(command), announced, search=options.search)


def _said(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    # Without the values: a setting may be a secret.
    found = [f"{PREFIX}{'.'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors()]
    return "; ".join(found)


def _failed(options: argparse.Namespace, why: str) -> int:
    """Told to the log, and to whoever waits to hear that this answers."""
    sys.stderr.write(f"cannot start: {why}\n")
    if (listener := getattr(options, "complain", None)) is not None:
        error = {"error": {"code": "kit_error", "detail": why}}
        with suppress(OSError):  # whoever listened is gone
            os.write(listener, (json.dumps(error, indent=2) if options.json else f"error  {why}").encode() + b"\n")
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m server", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in PARTS:
        part = commands.add_parser(name)
        part.add_argument("--announce", type=Path, help="a JSON file that says where this answers, while it does")
        part.add_argument("--tell", type=int, help="a file descriptor that is told where this answers, once it does")
        part.add_argument("--complain", type=int, help="a file descriptor that is told why it cannot start")
        part.add_argument("--json", action="store_true", help="tell it in JSON")
        part.add_argument("--search", action="store_true", help="where the port is taken, take one that follows it")
    commands.add_parser("migrate")
    commands.add_parser("healthy").add_argument("url")
    return parser


def _read_password() -> None:
    """A file that holds the database's password, for libpq. It takes one only whose group may not read it, which no
    mounted secret is."""
    if (path := os.environ.get(PASSWORD_FILE)) is not None:
        os.environ["PGPASSWORD"] = Path(path).read_text().strip()


def _healthy(url: str) -> int:
    """0 where the address answers 200. The address is this container's own: no proxy leads there."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=4) as answer:
            return 0 if answer.status == 200 else 1
    except OSError:
        return 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Not sys.exit: a tool or a call that hangs in a thread must not keep the process from ending.
    os._exit(code)
