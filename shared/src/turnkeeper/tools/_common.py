"""What all guarded tools share: argument models, deadlines, bounded text, safe quoting of what the model sent."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from turnkeeper.core.tools import Effect, Tool, ToolContext, ToolError, schema_of

Scopes = Iterable[str]

#: What the Messages API takes as the name of a tool.
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
#: C0 and C1 controls, the two Unicode line ends, and marks that turn the reading direction around.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


class Arguments(BaseModel):
    """Arguments of a guarded tool. Strict and closed: an unknown argument is an error, nothing is coerced."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


A = TypeVar("A", bound=Arguments)


def guarded(
    *,
    name: str,
    description: str,
    effect: Effect,
    arguments: type[A],
    run: Callable[[ToolContext, A], Any],
    scopes: Scopes,
    timeout_seconds: float,
) -> Tool:
    """Make a tool of an argument model and what to do with it.

    Raises:
        ValueError: a name that the API would refuse, or a timeout that is not above zero.
    """
    if not _TOOL_NAME.fullmatch(name):
        raise ValueError(f"a tool's name is 1 to 64 of a-z, A-Z, 0-9, _ and -, not {name!r}")
    positive("timeout_seconds", timeout_seconds)

    def body(ctx: ToolContext, raw: Mapping[str, Any]) -> Any:
        return run(ctx, arguments.model_validate(dict(raw)))

    return Tool(
        name=name,
        description=description,
        effect=effect,
        input_schema=schema_of(arguments),
        body=body,
        scopes=frozenset(strings("scopes", scopes)),
        timeout_seconds=timeout_seconds,
        untrusted=True,
    )


def strings(what: str, values: Iterable[str]) -> tuple[str, ...]:
    """The values as a tuple.

    Raises:
        TypeError: one bare string, which would silently be taken letter by letter, or something else than strings.
    """
    if isinstance(values, str):
        raise TypeError(f"{what} is a list of strings, not one string")
    taken = tuple(values)
    if not all(isinstance(value, str) for value in taken):
        raise TypeError(f"{what} is a list of strings")
    return taken


def positive(what: str, value: float) -> None:
    """Raises ValueError where a limit is zero or less: a tool without a limit is a mistake, not a wish."""
    if not value > 0:
        raise ValueError(f"{what} must be above zero")


class Unreachable(ToolError):
    """Nobody there answers now: no such host, no connection, one that broke or took too long."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """One end for a whole call, however many steps it takes. Monotonic, so a clock that is set does not move it."""

    at: float
    timeout_seconds: float

    @classmethod
    def of(cls, ctx: ToolContext, timeout_seconds: float) -> Deadline:
        """The tool's own timeout or what the call has left, whichever is sooner. Ask where the call begins.

        Raises:
            ToolError: there is no time left.
        """
        left = ctx.timeout_seconds
        if left is None:
            ends = ctx.deadline if ctx.deadline.tzinfo else ctx.deadline.replace(tzinfo=UTC)
            left = (ends - datetime.now(UTC)).total_seconds()
        seconds = min(timeout_seconds, left)
        if seconds <= 0:
            raise ToolError("No time is left for this call.")
        return cls.after(seconds)

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds, seconds)

    def sooner(self, seconds: float) -> Deadline:
        """One that ends so many seconds from now, at the end of this one at the latest."""
        return min(self, Deadline.after(seconds), key=lambda deadline: deadline.at)

    def left(self) -> float:
        return self.at - time.monotonic()

    def passed(self) -> bool:
        return self.left() <= 0


def cut(text: str, max_bytes: int) -> tuple[str, bool]:
    """The text in at most ``max_bytes`` bytes of UTF-8, never cut inside a character, and whether it was cut."""
    # A character is a byte at least, so what is past max_bytes characters never counts: no need to encode it.
    head = text[: max_bytes + 1]
    data = head.encode("utf-8", "replace")
    if len(head) == len(text) and len(data) <= max_bytes:
        return text, False
    return data[:max_bytes].decode("utf-8", "ignore"), True


def plain(text: str) -> str:
    """The text without control characters, which JSON would blow up to six bytes each and terminals would obey."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def shown(text: str, max_chars: int = 80) -> str:
    """What the model sent, fit to be said back to it: one short line, nothing that a reader could mistake."""
    short = text if len(text) <= max_chars else text[:max_chars] + "..."
    return ascii(short)


def listed(values: Iterable[str], max_values: int = 30) -> str:
    """The values as a short list for a message; ``none`` where there are none."""
    names = list(values)
    more = f" and {len(names) - max_values} more" if len(names) > max_values else ""
    return (", ".join(names[:max_values]) + more) or "none"
