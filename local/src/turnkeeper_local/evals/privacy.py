"""Taking secrets and personal data out of what is captured, so that the same person is the same placeholder everywhere:
what a tool returned and what the agent said about it still agree."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from turnkeeper.adapters.redaction import Redactor
from turnkeeper.evaluation.facts import facts_in

#: Shapes of personal data, by what they are called in the placeholder. A project's ``evals.toml`` adds its own.
SHAPES: Mapping[str, str] = {
    "email": r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}",
    "iban": r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b",
    "phone": r"(?<![\w.-])\+\d[\d ()/-]{7,18}\d\b",
    "ssn": r"\b\d{3}-\d{2}-\d{4}\b",
}
CONFIG = "evals.toml"
#: Values that are shorter go out where they stand under their name, not wherever the same signs are met.
_LEAST_CHARS = 4
_HIDDEN = "redacted:secret"


def _finds_something(pattern: str) -> str:
    if re.search(pattern, "") is not None:
        raise ValueError("it is found in an empty text, and so everywhere")
    return pattern


class _Known(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Personal(_Known):
    names: list[str] = []
    shapes: dict[str, Annotated[str, AfterValidator(_finds_something)]] = {}


class _Config(_Known):
    personal: _Personal = _Personal()


class Privacy:
    """Stateful: it remembers what stands for whom, over one capture."""

    def __init__(
        self,
        names: Mapping[str, str] | None = None,
        shapes: Mapping[str, str] | None = None,
        secret_names: Iterable[str] = (),
    ) -> None:
        """``names`` are keys whose values are personal, with what to call them; ``shapes`` regular expressions by what
        they find; ``secret_names`` keys whose values tools declare as secret."""
        self._names = {name.lower(): kind for name, kind in (names or {}).items()}
        self._shapes = {kind: re.compile(pattern) for kind, pattern in {**SHAPES, **(shapes or {})}.items()}
        self._declared = frozenset(name.lower() for name in secret_names)
        self._redactor = Redactor(self._declared)
        self._placeholders: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        #: Those that were found by their shape.
        self._shaped: set[str] = set()

    @classmethod
    def of(cls, project: Path, secret_names: Iterable[str] = ()) -> Privacy:
        """As the project's ``evals.toml`` says: ``[personal] names = ["full_name"]``, ``[personal.shapes]``.

        Raises:
            ValueError: it cannot be read, or says what is not known: what it means would not be hidden.
        """
        path = project / CONFIG
        if not path.exists():
            return cls(secret_names=secret_names)
        try:
            personal = _Config.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).personal
            return cls({name: name for name in personal.names}, personal.shapes, secret_names)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(
                f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg'].removeprefix('Value error, ')}"
            ) from error
        except (ValueError, re.error) as error:
            raise ValueError(f"{path}: {error}") from error

    def learn(self, value: Any) -> None:
        """Remember the values under personal and secret names, so that they go out of texts that quote them, too."""
        self._hide(value, None)

    def clean(self, value: Any) -> Any:
        """The same JSON without secrets and personal data."""
        return self._personal(self._redactor.redact(self._hide(value, None)))

    def _hide(self, value: Any, kind: str | None) -> Any:
        """With placeholders for what stands under names; ``kind`` is what such a name above makes of it. Each secret
        has a placeholder of its own: calls that differed still do."""
        match value:
            case Mapping():
                return {name: self._hide(item, kind or self._kind(str(name), item)) for name, item in value.items()}
            case list() | tuple():
                return [self._hide(item, kind) for item in value]
            case None | bool() | "":
                return value
        if kind is None:
            # Before the redactor, which would have one mark for all of them where a text is JSON.
            return self._known(value) if isinstance(value, str) else value
        return value if _is_placeholder(value) else self._placeholder(kind, str(value))

    def _kind(self, name: str, item: Any) -> str | None:
        if name.lower() in self._names:
            return self._names[name.lower()]
        # A number under "..._token" is a count, unless a tool declares it.
        counts = isinstance(item, int | float) and "token" in name.lower() and name.lower() not in self._declared
        return _HIDDEN if not counts and self._redactor.values({name: "?"}) else None

    def _personal(self, value: Any) -> Any:
        match value:
            case str():
                return self._text(value)
            case Mapping():
                return {self._text(str(name)): self._personal(item) for name, item in value.items()}
            case list() | tuple():
                return [self._personal(item) for item in value]
            case int() | float() if not isinstance(value, bool):
                return self._placeholders.get(str(value), value) if len(str(value)) >= _LEAST_CHARS else value
        return value

    def _known(self, text: str, *, shaped: bool = False) -> str:
        for known in sorted(self._placeholders, key=len, reverse=True):
            if len(known) >= _LEAST_CHARS and (known in self._shaped) is shaped:
                text = text.replace(known, self._placeholders[known])
        return text

    def _text(self, text: str) -> str:
        text = self._known(text)
        for kind, pattern in self._shapes.items():
            text = pattern.sub(partial(self._replaced, kind), text)
        # Behind the shapes, which take all of joann@example.com where ann@example.com is known.
        return self._known(text, shaped=True)

    def _replaced(self, kind: str, found: re.Match[str]) -> str:
        if found.group() not in self._placeholders:
            self._shaped.add(found.group())
        return self._placeholder(kind, found.group())

    def _placeholder(self, kind: str, value: str) -> str:
        if value not in self._placeholders:
            self._counts[kind] = number = self._counts.get(kind, 0) + 1
            # With a digit it is a fact that an answer states, which has to be grounded: only where the value was one.
            self._placeholders[value] = f"[{kind}-{number if any(facts_in(value)) else _letters(number)}]"
        return self._placeholders[value]


def _letters(number: int) -> str:
    """1 is a, 26 is z, 27 is aa."""
    rest, place = divmod(number - 1, 26)
    return (_letters(rest) if rest else "") + chr(ord("a") + place)


def _is_placeholder(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\[[\w :-]{1,80}\]", value) is not None
