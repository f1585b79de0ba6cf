"""How this program was called, so that what it says to type next can be typed as it stands.

Texts name commands as `turnkeeper VERB ...` between backticks. :func:`as_called` puts the program's real name there,
and behind it the options that say which kit and who is meant, so far as they were given and that command takes them.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

#: Options that go on from one command to the next.
_CARRIED = ("stack", "tenant", "user", "role")
_COMMAND = re.compile(r"`turnkeeper(?: ([^`]*))?`")

_given: dict[str, str] = {}
#: The commands that there are: none, where no program was called.
_root: list[Any] = []


def begin(commands: Any) -> None:
    """Nothing was given yet; and these are the commands that there are, as click has them."""
    _given.clear()
    _root[:] = [commands]


def remember(name: str) -> Any:
    """The callback of an option of this name, which names somebody or something."""

    def keep(value: str | None) -> str | None:
        if (named := not_empty(value)) and named != os.environ.get(f"TURNKEEPER_{name.upper()}"):
            _given[name] = named
        return value

    return keep


def not_empty(value: str | None) -> str | None:
    """The callback of what names somebody or something. Empty, as of a shell's variable that is not set, it would be
    taken for the one that is meant where nobody is named, or for all of them.

    Raises:
        BadParameter: it is said, and is empty.
    """
    if value is not None and not value.strip():
        raise typer.BadParameter("it is empty, and names nothing")
    return value


def as_called(text: str) -> str:
    """The text with every `turnkeeper ...` in it as it has to be typed here."""
    return _COMMAND.sub(lambda found: f"`{command_line(found[1] or '')}`", text)


def command_line(arguments: str) -> str:
    """``arguments`` as text, behind the program and before the options that were given."""
    taken = _options_of(arguments.split())
    options = [f"--{name} {shlex.quote(_given[name])}" for name in _CARRIED if name in _given and name in taken]
    missing = [option for option in options if f"{option.split()[0]} " not in f"{arguments} "]
    return " ".join(filter(None, [program(), arguments, *missing]))


def program() -> str:
    """The name that a shell finds this program by, or its path: from here where that is shorter."""
    path = Path(sys.argv[0])
    if path.name != "turnkeeper":
        return "turnkeeper"
    found = shutil.which("turnkeeper")
    if found is not None and Path(found).absolute() == path.absolute():
        return "turnkeeper"
    if not path.exists():
        return "turnkeeper"
    return min(shlex.quote(str(path)), shlex.quote(os.path.relpath(path)), key=len)


def _options_of(words: Sequence[str]) -> frozenset[str]:
    """Names of the options that the command takes which these words begin with; none where there is no such one."""
    command = _root[0] if _root else None
    for word in words:
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        command = inner
    # An argument is called like the option at some commands: `tenant show TENANT`.
    return frozenset(each.name for each in getattr(command, "params", ()) if each.param_type_name == "option")
