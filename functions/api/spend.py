"""What was spent, is set aside and may be spent."""

from __future__ import annotations

from functions.api.documents import Spend, scope_of
from functions.api.http import SESSION_ID, Answer, Request
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.policy import may_use


class SpendCalls:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def get(self, request: Request) -> Answer:
        """The caller's own scopes; with ``session_id``, that session's task before them."""
        who, session_id = request.who, request.query.get("session_id")
        terms = self._kit.tenants.terms(who.tenant_id)
        treasury = self._kit.treasury
        agents = [agent for agent in sorted(self._kit.catalog.agents) if may_use(agent, terms.plan)]
        states = treasury.states(terms, who.user_id, agents)
        if session_id is not None:
            if not SESSION_ID.fullmatch(session_id):
                raise SessionNotFound("There is no such session.")
            states = [treasury.task_state(self._kit.intake.owned(who, session_id), terms), *states]
        spend = Spend(
            tenant_id=who.tenant_id,
            user_id=who.user_id,
            session_id=session_id,
            scopes=list(map(scope_of, states)),
        )
        return Answer.json(spend.dump())
