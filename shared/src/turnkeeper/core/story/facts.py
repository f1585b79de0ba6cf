"""What a story is told of, and what it is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from turnkeeper.core.ledger import ScopeState, iso
from turnkeeper.core.money import format_usd
from turnkeeper.core.scopes import SCOPES, Scope
from turnkeeper.core.scoring import Score
from turnkeeper.core.session import Entry, Head

#: Of a text, what is redacted at all: more than is ever shown of one, so that no half of a secret is.
_LOOKED_AT = 4_000
_WIDTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that happened.

    ``refs`` names where it stands: ``seq`` (the transcript), ``call`` (the ledger), ``audit`` (the audit trail),
    ``trace_id``, ``request_id`` (the provider's, or of an input, the front door's), ``turn``, ``scope``,
    ``tool_use_id``.
    """

    at: str
    text: str
    refs: Mapping[str, Any] = field(default_factory=dict)
    #: What the session was charged here. Those of a whole story add up to the cost of the session.
    cost_nanousd: int | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """``why_ended`` is one or two sentences, and one more of what was flagged, denied, left unknown or scored too low;
    ``what_now`` has one way on in a line."""

    lines: tuple[Line, ...]
    why_ended: str
    what_now: str


@dataclass(frozen=True, slots=True)
class Scored:
    """What one evaluator made of one turn, and when."""

    turn: int
    at: str
    score: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that is known of a session."""

    head: Head
    entries: Sequence[Entry]
    #: Records of the ledger and of the audit trail, as they are stored.
    calls: Sequence[Mapping[str, Any]] = ()
    records: Sequence[Mapping[str, Any]] = ()
    scored: Sequence[Scored] = ()
    #: How the scopes that it pays from stand now.
    scopes: Sequence[ScopeState] = ()
    #: The tenant's kill switch.
    paused: bool = False
    #: Up to which its iterations can be raised by an operator.
    most_iterations: int
    #: The agent's own cap of its tasks is the tighter one: no change of the plan's moves it.
    capped_by_agent: bool = False
    #: Since when its runner was not heard of, where it should have been.
    silent_since: str | None = None
    #: Told to somebody who may know of all of the tenant's money and of its operators.
    admin: bool
    now: datetime
    redact: Callable[[str], str]

    @property
    def first_seq(self) -> int:
        """The first entry of its own: those before it are copies of another session's."""
        return self.head.forked_from.seq + 1 if self.head.forked_from else 1

    def unread(self) -> Facts:
        """The same without what was said: where only matters how many lines there are, and when."""
        return replace(self, redact=lambda _: "")

    def turn_of(self, inputs: int) -> int:
        """The turn behind so many inputs. In an erased session, the kit's own look like a user's."""
        return max(1, min(inputs, self.head.turn.number))

    def say(self, text: Any, width: int = _WIDTH) -> str:
        """Whatever comes from outside the kit: on one line, without secrets, not too long."""
        line = " ".join(self.redact(str(text)[:_LOOKED_AT]).split())
        return line if len(line) <= width else f"{line[: width - 1]}…"

    def quoted(self, text: Any, width: int = _WIDTH) -> str:
        return f"“{self.say(text, width)}”"

    def named(self, arguments: Any, width: int = _WIDTH) -> str:
        """Arguments that are redacted already, as they stand in a call."""
        if not isinstance(arguments, Mapping):
            return ""
        parts = (f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in arguments.items())
        return self.say(", ".join(parts), width)

    def may_see(self, scope: str) -> bool:
        """What the tenant has spent as a whole is for its admins."""
        row = next((row for name, row in SCOPES.items() if name == scope), None)
        return self.admin or (row is not None and row.holder in ("task", "user"))

    def who(self, actor: Any) -> str:
        """Who did something, for the reader: operators have names for admins only."""
        if not actor or actor == self.head.user_id:
            return "the user"
        return self.say(actor, 100) if self.admin else "somebody else"


_OWNERS: Mapping[Scope, str] = {
    "task": "this session's own budget",
    "user_daily": "the user's budget for the day",
    "user_monthly": "the user's budget for the month",
    "tenant_monthly": "the tenant's budget for the month",
    "agent_daily": "the agent's budget for the day",
}


def budget(scope: object) -> str:
    """A scope in words."""
    return next((words for name, words in _OWNERS.items() if name == scope), f"the budget {str(scope)[:40]}")


def usd(nanousd: int) -> str:
    return f"${format_usd(nanousd)}"


def took(millis: int) -> str:
    return f"{millis} ms" if millis < 1_000 else f"{millis / 1_000:.1f} s"


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def moment(at: Any) -> str:
    """A time as every line has it, whoever wrote it down."""
    try:
        return iso(datetime.fromisoformat(str(at)).astimezone(UTC))
    except ValueError:
        return str(at)


def seconds_between(first: str, last: str) -> float:
    return max(0.0, (datetime.fromisoformat(last) - datetime.fromisoformat(first)).total_seconds())


def refs(**named: Any) -> dict[str, Any]:
    """Those that there are."""
    return {name: value for name, value in named.items() if value is not None}
