"""What was spent, is set aside and may be spent."""

from pydantic import Field

from functions.api.documents import Document
from turnkeeper.core.caps import format_cap
from turnkeeper.core.ledger import ScopeState
from turnkeeper.core.money import format_usd
from turnkeeper.core.scopes import Scope


class ScopeSpend(Document):
    scope: Scope
    spent_usd: str
    reserved_usd: str = Field(description="Set aside for calls in flight.")
    in_doubt_usd: str | None = Field(
        default=None,
        exclude_if=lambda amount: amount is None,
        description="task: of what is spent, what may not have been.",
    )
    cap_usd: str = Field(description='An amount, or "unlimited".')
    resets_at: str | None
    agent: str | None = Field(
        default=None, exclude_if=lambda agent: agent is None, description="Whose counter it is, of a scope of agents."
    )


class Spend(Document):
    tenant_id: str
    user_id: str
    session_id: str | None = Field(description="Whose task is among the scopes.")
    scopes: list[ScopeSpend]


def scope_of(state: ScopeState, in_doubt_nanousd: int | None = None) -> ScopeSpend:
    return ScopeSpend(
        scope=state.scope,
        spent_usd=format_usd(state.spent),
        reserved_usd=format_usd(state.reserved),
        in_doubt_usd=None if in_doubt_nanousd is None else format_usd(in_doubt_nanousd),
        cap_usd=format_cap(state.cap),
        resets_at=state.resets_at,
        agent=state.agent,
    )
