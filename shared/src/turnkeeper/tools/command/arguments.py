"""Which command lines are allowed: every argument fits a pattern, and none leads out of the working directory, but into
further folders that the agent's author has listed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from turnkeeper.core.tools import ToolDenied, ToolError
from turnkeeper.tools._common import listed, shown

#: Where commands are looked for; also the PATH that they see. No environment changes it.
SEARCH_PATH = ("/usr/bin", "/bin")
MAX_ARGUMENTS = 64
MAX_ARGUMENT_CHARS = 4096
_COMMAND = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
#: What may stand around a path: ``if=/etc/passwd``, ``host:../x``, ``@/etc/passwd``, ``> x``.
_AROUND_PATH = re.compile(r"""[=:,;@|<>(){}'"\s]""")
#: A flag that is longer than this is not looked through for what may be attached to it.
_MAX_FLAG_CHARS = 200


@dataclass(frozen=True)
class Commands:
    """The allowed commands, each with the patterns of its arguments."""

    patterns: Mapping[str, tuple[re.Pattern[str], ...]]

    @classmethod
    def of(cls, commands: Mapping[str, Sequence[str]]) -> Commands:
        """Raises ValueError for a name that is not a plain command, or a pattern that is not a regular expression."""
        compiled: dict[str, tuple[re.Pattern[str], ...]] = {}
        for name, patterns in commands.items():
            if not _COMMAND.fullmatch(name):
                raise ValueError(f"{name!r} is not the plain name of a command")
            if isinstance(patterns, str):
                raise ValueError(f"the patterns of {name!r} are a list, not one string")
            try:
                compiled[name] = tuple(re.compile(pattern) for pattern in patterns)
            except re.error as error:
                raise ValueError(f"a pattern of {name!r} is not a regular expression: {error}") from error
        return cls(compiled)

    def admit(self, command: str, arguments: Sequence[str], cwd: Path, roots: Sequence[Path] = ()) -> None:
        """Raises ToolDenied unless command and arguments are allowed, and the arguments stay inside ``cwd`` or one of
        the roots."""
        patterns = self.patterns.get(command)
        if patterns is None:
            raise ToolDenied(f"The command {shown(command)} is not allowed. Allowed: {listed(sorted(self.patterns))}.")
        allowed = f"Allowed arguments of {command} match one of: {listed(p.pattern for p in patterns)}."
        if len(arguments) > MAX_ARGUMENTS:
            raise ToolDenied(f"At most {MAX_ARGUMENTS} arguments are allowed.")
        for argument in arguments:
            if len(argument) > MAX_ARGUMENT_CHARS or not argument.isprintable():
                # Line ends and NUL above all: programs and patterns disagree about where the argument ends.
                raise ToolDenied(
                    f"An argument is one printable line of at most {MAX_ARGUMENT_CHARS} characters. {allowed}"
                )
            if not any(pattern.fullmatch(argument) for pattern in patterns):
                raise ToolDenied(f"The argument {shown(argument)} is not allowed. {allowed}")
            if not _stays_inside(argument, cwd, roots):
                further = f" or inside {listed(map(str, roots))}" if roots else ""
                raise ToolDenied(
                    f"The argument {shown(argument)} leads out of the working directory, or hides a path in a flag. "
                    f"Allowed are paths inside it{further}, each written as an argument of its own."
                )

    def described(self) -> str:
        return "; ".join(
            f"{name} ({listed(pattern.pattern for pattern in patterns)})" for name, patterns in self.patterns.items()
        )


def _stays_inside(argument: str, cwd: Path, roots: Sequence[Path]) -> bool:
    """Whether nothing in the argument that a program might take as a path leads out of the folders, symlinks
    followed. It is relative to ``cwd``."""
    folders = [os.path.realpath(folder) for folder in (cwd, *roots)]
    pieces = _AROUND_PATH.split(argument)
    if any(piece.startswith("-") and len(piece) > _MAX_FLAG_CHARS for piece in pieces):
        return False
    candidates = [argument, *(candidate for piece in pieces for candidate in _candidates(piece))]
    return all(_inside(candidate, folders) for candidate in candidates)


def _candidates(piece: str) -> Iterator[str]:
    """Everything in a piece that might be meant as a path. A plain name is one too: it may be a symlink."""
    yield piece
    if piece.startswith("-"):
        # A flag with its value attached: -f/etc/passwd, -fdir/x, -flink. Where the flags end and the path begins only
        # the program knows, so every place counts.
        for start in range(1, len(piece)):
            yield piece[start:]


def _inside(candidate: str, folders: Sequence[str]) -> bool:
    if candidate == "~" or candidate.startswith("~/"):
        return False
    # realpath also follows what does not exist yet, so a new file is judged by where it would be.
    real = os.path.realpath(os.path.join(folders[0], candidate))  # noqa: PTH118
    return any(real == folder or real.startswith(folder.rstrip("/") + "/") for folder in folders)


def find(command: str) -> str:
    """The absolute path of a command.

    Raises:
        ToolError: it is not installed.
    """
    for directory in SEARCH_PATH:
        path = Path(directory) / command
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    raise ToolError(f"The command {command} is not installed here.")
