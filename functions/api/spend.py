"""What was spent, is set aside and may be spent."""

from __future__ import annotations

from functions.api.documents.money import Spend, scope_of
from functions.api.http import Request, Response, check_session_id
from turnkeeper.core.policy import may_use
from turnkeeper.wiring.front_door import FrontDoorKit


def get(kit: FrontDoorKit, request: Request) -> Response:
    """The caller's own scopes; with ``session_id``, that session's task before them."""
    who, session_id = request.who, request.query.get("session_id")
    terms = kit.tenants.terms(who.tenant_id)
    agents = [agent for agent in sorted(kit.catalog.agents) if may_use(agent, terms.plan)]
    scopes = list(map(scope_of, kit.treasury.states(terms, who.user_id, agents)))
    if session_id is not None:
        head = kit.intake.owned(who, check_session_id(session_id))
        scopes = [scope_of(kit.treasury.task_state(head, terms), head.account.in_doubt_nanousd), *scopes]
    spend = Spend(
        tenant_id=who.tenant_id,
        user_id=who.user_id,
        session_id=session_id,
        scopes=scopes,
    )
    return Response.json(spend.dump())
