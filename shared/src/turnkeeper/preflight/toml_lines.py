"""On which line of a TOML file something stands. The standard library's parser says it only of syntax errors.

Tables and keys are found statement by statement; whether one is whole, and what it sets, is for ``tomllib`` to say.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Path = tuple[str, ...]

_PLACE = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")


@dataclass
class TomlLines:
    """Where the tables and keys of a text stand. Of a text that is no TOML: those before the error."""

    text: str
    _lines: dict[Path, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        table: Path = ()
        counts: dict[Path, int] = {}
        for number, statement in _statements(self.text):
            [path] = _leaves(_parsed(statement), nested=statement.lstrip().startswith("["))[:1]
            if statement.lstrip().startswith("[["):
                index = counts[path] = counts.get(path, -1) + 1
                self._keep(path, number)
                table = (*path, str(index))
                self._keep(table, number)
            elif statement.lstrip().startswith("["):
                table = path
                self._keep(path, number)
            else:
                self._keep_key(table, number, statement)

    def line(self, path: Sequence[object]) -> int | None:
        """The line of a table or key, else of what it would stand in; ``None`` where that is the whole file."""
        names = tuple(map(str, path))
        return next((self._lines[names[:end]] for end in range(len(names), 0, -1) if names[:end] in self._lines), None)

    def _keep(self, path: Path, number: int) -> None:
        # A table that only its parts name (`[plans.trial]` names `plans`) begins where the first of them does.
        for end in range(1, len(path) + 1):
            self._lines.setdefault(path[:end], number)

    def _keep_key(self, table: Path, number: int, statement: str) -> None:
        value = _parsed(statement)
        for path in _leaves(value):
            self._keep((*table, *path), number)
        # What stands further down in an inline value is looked for by its name, each after the one before it.
        at = 0
        for path in _leaves(value):
            found = re.compile(rf"(?<![\w-]){re.escape(path[-1])}(?![\w-])").search(statement, at)
            if found is not None:
                at = found.end()
                self._lines[(*table, *path)] = number + statement.count("\n", 0, found.start())


def syntax_error(error: tomllib.TOMLDecodeError, text: str) -> tuple[str, int]:
    """What is wrong with a text that is no TOML, and the line."""
    found = _PLACE.search(str(error))
    line = int(found[1]) if found and found[1] else text.rstrip().count("\n") + 1
    return _PLACE.sub("", str(error)), line


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each table header and each key with its value, by the number of its first line."""
    kept: list[str] = []
    begun = 0
    for number, line in enumerate(text.split("\n"), 1):
        if not kept and not line.split("#")[0].strip():
            continue
        begun = begun if kept else number
        kept.append(line)
        try:
            tomllib.loads("\n".join(kept))
        except (ValueError, RecursionError):
            continue  # a value that goes on, or the error that the whole text has
        yield begun, "\n".join(kept)
        kept = []


def _parsed(statement: str) -> dict[str, Any]:
    return tomllib.loads(statement)


def _leaves(value: Mapping[str, Any], *, nested: bool = False) -> list[Path]:
    """The paths that a statement names, in its order; of a table's header, the table's own."""
    found: list[Path] = []
    for name, inner in value.items():
        if isinstance(inner, Mapping) and inner:
            found += [(name, *path) for path in _leaves(inner, nested=nested)]
        elif nested and isinstance(inner, list) and inner and inner[0]:
            found += [(name, *path) for path in _leaves(inner[0], nested=nested)]
        else:
            found.append((name,))
    return found
