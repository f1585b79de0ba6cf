"""Taking secrets and personal data out of what is captured, so that the same person is the same placeholder everywhere:
what a tool returned and what the agent said about it still agree."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from turnkeeper.adapters.redaction import Redactor

#: Shapes of personal data, by what they are called in the placeholder. A project's ``evals.toml`` adds its own.
SHAPES: Mapping[str, str] = {
    "email": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
    "iban": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b",
    "phone": r"(?<![\w.-])\+\d[\d ()/-]{7,18}\d\b",
    "ssn": r"\b\d{3}-\d{2}-\d{4}\b",
}
CONFIG = "evals.toml"


class Privacy:
    """Stateful: it remembers what stands for whom, over one capture."""

    def __init__(self, names: Mapping[str, str] | None = None, shapes: Mapping[str, str] | None = None) -> None:
        """``names`` are keys whose values are personal, with what to call them; ``shapes`` regular expressions by what
        they find."""
        self._names = {name.lower(): kind for name, kind in (names or {}).items()}
        self._shapes = {kind: re.compile(pattern) for kind, pattern in {**SHAPES, **(shapes or {})}.items()}
        self._redactor = Redactor()
        self._placeholders: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    @classmethod
    def of(cls, project: Path) -> Privacy:
        """As the project's ``evals.toml`` says: ``[personal] names = ["full_name"]``, ``[personal.shapes]``.

        Raises:
            ValueError: it cannot be read.
        """
        path = project / CONFIG
        if not path.exists():
            return cls()
        try:
            personal = tomllib.loads(path.read_text()).get("personal", {})
            names = {str(name): str(name) for name in personal.get("names", ())}
            return cls(names, {str(kind): str(pattern) for kind, pattern in personal.get("shapes", {}).items()})
        except (tomllib.TOMLDecodeError, re.error, AttributeError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def learn(self, value: Any) -> None:
        """Remember the values under personal names, so that they go out of texts that quote them, too."""
        match value:
            case Mapping():
                for name, item in value.items():
                    kind = self._names.get(str(name).lower())
                    if kind is not None and isinstance(item, str) and len(item) > 2:
                        self._placeholder(kind, item)
                    else:
                        self.learn(item)
            case list() | tuple():
                for item in value:
                    self.learn(item)

    def clean(self, value: Any) -> Any:
        """The same JSON without secrets and personal data."""
        return self._personal(self._redactor.redact(value))

    def _personal(self, value: Any) -> Any:
        match value:
            case str():
                return self._text(value)
            case Mapping():
                return {name: self._personal(item) for name, item in value.items()}
            case list() | tuple():
                return [self._personal(item) for item in value]
        return value

    def _text(self, text: str) -> str:
        for known in sorted(self._placeholders, key=len, reverse=True):
            text = text.replace(known, self._placeholders[known])
        for kind, pattern in self._shapes.items():
            text = pattern.sub(partial(self._replaced, kind), text)
        return text

    def _replaced(self, kind: str, found: re.Match[str]) -> str:
        return self._placeholder(kind, found.group())

    def _placeholder(self, kind: str, value: str) -> str:
        if value not in self._placeholders:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._placeholders[value] = f"[{kind}-{self._counts[kind]}]"
        return self._placeholders[value]
