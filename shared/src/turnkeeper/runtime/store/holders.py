"""Who asks for money, and for how much."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from turnkeeper.core.caps import Caps
from turnkeeper.core.ledger import Payer, ScopeState, affordable_tokens, bound_nanousd
from turnkeeper.core.money import parse_usd
from turnkeeper.core.policy import Terms
from turnkeeper.core.scopes import Scope
from turnkeeper.core.session import Head
from turnkeeper.ports import Rates
from turnkeeper.runtime.store import counters


@dataclass(slots=True)
class Want:
    """What a call asks for. ``input_tokens`` is a cheap upper bound; ``count`` asks the provider for a closer one,
    and is called once, only when the cheap one does not fit."""

    rates: Rates
    input_tokens: int
    max_tokens: int
    count: Callable[[], int] | None = None

    def amount(self, max_tokens: int) -> int:
        rates = self.rates
        return bound_nanousd(
            self.input_tokens, max_tokens, rates.input_nanousd, rates.output_nanousd, rates.fixed_nanousd
        )

    def affordable(self, budget: int) -> int:
        rates = self.rates
        return affordable_tokens(
            budget, self.input_tokens, rates.input_nanousd, rates.output_nanousd, rates.fixed_nanousd
        )

    def look_closer(self) -> bool:
        """Replace the cheap bound by the provider's count, once. True where that made it smaller."""
        if self.count is None:
            return False
        before, self.input_tokens = self.input_tokens, min(self.input_tokens, self.count())
        self.count = None
        return self.input_tokens < before


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks for money for one call: a session of the kit's own, or a token or session at the gateway."""

    payer: Payer
    #: Of the session or token: says which shard is its home.
    name: str
    #: Number of the call in the holder's ledger.
    call: int
    #: What the task may cost by its own word; the plan's may be tighter.
    task_limit: int | None
    #: Spent and reserved of the task, where its head knows exactly; ``None`` where an item of its own counts it.
    in_head: tuple[int, int] | None

    @classmethod
    def of(cls, head: Head) -> Holder:
        account, own = head.account, head.limits.task_usd
        return cls(
            counters.payer_of(head),
            head.session_id,
            account.calls + 1,
            parse_usd(own) if own is not None else None,
            (account.cost_nanousd, account.reserved_nanousd),
        )

    def caps(self, terms: Terms) -> Caps:
        """The caps that admit its calls."""
        return terms.caps.with_task(self.task_limit)

    def task_state(self, caps: Caps) -> ScopeState:
        """How the task stands by these caps, as far as its head counts it."""
        spent, reserved = self.in_head or (0, 0)
        return ScopeState("task", caps.cap("task"), spent, reserved)

    def periods(self, caps: Caps, now: datetime) -> dict[Scope, str]:
        """The scopes in whose counters its calls are reserved."""
        own: dict[Scope, str] = {"task": ""} if self.in_head is None else {}
        return {**own, **caps.periods(self.payer.agent, now)}
