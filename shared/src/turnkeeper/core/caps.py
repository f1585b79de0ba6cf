"""What caps say: of one scope, and of all scopes of one tenant together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from turnkeeper.core.agent import AGENT_NAME
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.ledger import iso
from turnkeeper.core.money import format_usd, parse_usd
from turnkeeper.core.periods import UTC_NAME, next_period, period_of
from turnkeeper.core.scopes import SCOPES, Scope, ScopeRow

UNLIMITED = "unlimited"


def parse_cap(value: Any) -> int | None:
    """Nano-dollars of a cap; ``None`` for ``"unlimited"``.

    Raises:
        ValueError: neither an amount in dollars as a string nor ``"unlimited"``.
    """
    if value == UNLIMITED:
        return None
    if not isinstance(value, str):
        raise ValueError("a cap is a string: an amount in dollars such as '5.00', or 'unlimited'")
    return parse_usd(value)


def format_cap(nanousd: int | None) -> str:
    return UNLIMITED if nanousd is None else format_usd(nanousd)


@dataclass(frozen=True, slots=True)
class CapRule:
    """The cap of one scope, in nano-dollars; ``None`` is unlimited."""

    amount: int | None = None
    #: Caps of agents that have one of their own; ``amount`` is for all others.
    by_agent: Mapping[str, int | None] = field(default_factory=dict)

    def cap(self, agent: str | None) -> int | None:
        return self.amount if agent is None else self.by_agent.get(agent, self.amount)


NO_CAP = CapRule()


def parse_rule(row: ScopeRow, value: Any) -> CapRule:
    """What a plan says of a scope: one cap, or a table of caps by agent for a scope that agents hold. An agent that the
    table does not name has no cap.

    Raises:
        ValueError: the text says what is wrong with which key.
    """
    try:
        if not (row.by_agent and isinstance(value, Mapping)):
            return CapRule(parse_cap(value))
        if odd := sorted(agent for agent in value if not AGENT_NAME.fullmatch(agent)):
            raise ValueError(f"no agent can be named {', '.join(odd)}")
        return CapRule(None, {agent: parse_cap(cap) for agent, cap in value.items()})
    except ValueError as error:
        raise ValueError(f"{row.plan_key}: {error}") from error


def format_rule(rule: CapRule) -> str | dict[str, str]:
    """As a plan says it."""
    return {agent: format_cap(cap) for agent, cap in rule.by_agent.items()} or format_cap(rule.amount)


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps in force for one tenant, and the time zone of its days and months."""

    rules: Mapping[Scope, CapRule]
    timezone: str
    #: Changes whenever one of them does: the shards of the tenant's counter hold it, so that no call is admitted by
    #: caps, or in days, that are no longer in force.
    fingerprint: str

    def cap(self, scope: Scope, agent: str | None = None) -> int | None:
        """Nano-dollars, or ``None`` for unlimited. Agents may differ in it only in a scope that agents hold."""
        return self.rules[scope].cap(agent)

    def counts(self, scope: Scope, agent: str | None) -> bool:
        """Whether calls of this agent are counted in this scope, outside of their sessions."""
        row = SCOPES[scope]
        if row.holder == "task" or (row.holder == "agent" and agent is None):
            return False
        return not (row.only_where_capped and self.cap(scope, agent) is None)

    def with_task(self, limit: int | None) -> Caps:
        """With the task's cap as one holder has it: the tighter of the plan's and its own. The terms stay the same, and
        so does the fingerprint."""
        own = min((cap for cap in (self.cap("task"), limit) if cap is not None), default=None)
        return replace(self, rules={**self.rules, "task": CapRule(own)})

    def period(self, scope: Scope, now: datetime) -> str:
        """The day or month that the scope is in."""
        return period_of(SCOPES[scope].period, now, self.timezone)

    def periods(self, agent: str | None, now: datetime) -> dict[Scope, str]:
        """The scopes in whose counters a call of this agent is reserved now, each with its day or month."""
        return {scope: self.period(scope, now) for scope in SCOPES if self.counts(scope, agent)}

    def resets_at(self, scope: Scope, now: datetime) -> str | None:
        """When the scope starts anew, UTC, ISO 8601; ``None`` for a task."""
        resets = next_period(SCOPES[scope].period, now, self.timezone)
        return None if resets is None else iso(resets)


def caps_from(rules: Mapping[Scope, CapRule], timezone: str, shards: int) -> Caps:
    # What is not there by default is left out, so that a tenant who has none of it keeps the fingerprint that its
    # shards hold since a version that knew nothing of it: they need not be dealt anew.
    capped = {
        scope: [rule.amount, dict(rule.by_agent)] if rule.by_agent else rule.amount
        for scope, rule in rules.items()
        if SCOPES[scope].required or rule != NO_CAP
    }
    content = [shards, capped] if timezone == UTC_NAME else [shards, capped, timezone]
    digest = hashlib.sha256(sorted_json(content, ascii=True, spaced=True)).hexdigest()
    return Caps(rules, timezone, digest[:16])
