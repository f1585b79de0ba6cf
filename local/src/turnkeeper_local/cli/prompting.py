"""What a person types in a chat: a line with editing and history, and words to the chat itself."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from turnkeeper_local.cli.place import local_json

_HISTORY_LINES = 1_000
PROMPT = "› "

HELP = """\
/help      this
/session   which session this is, where it stands, and what it cost
/exit      leave the chat; Ctrl-D does too. The session stays.
//TEXT     says /TEXT to the agent
Anything else is said to the agent. Ctrl-C leaves a turn running and asks for the next line."""


def lines() -> Iterator[str]:
    """What is typed, until the end. Blank lines are nobody's."""
    with _history(), contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            if text := input(PROMPT).strip():
                yield text


def history_file() -> Path:
    """Beside what else the kit of this project remembers."""
    return local_json().parent / "chat_history"


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Line editing, and the lines of earlier chats, where this Python has GNU readline or libedit."""
    try:
        import readline
    except ImportError:
        yield
        return
    file = history_file()
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(_HISTORY_LINES)
    try:
        yield
    finally:
        # What people say to agents is theirs alone.
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
            file.chmod(0o600)
            readline.write_history_file(file)


def is_interactive() -> bool:
    return sys.stdin.isatty()
