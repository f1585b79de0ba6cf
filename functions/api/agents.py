"""Which agents there are for the caller."""

from __future__ import annotations

from functions.api.documents.deployed import AgentDocument, AgentList
from functions.api.http import Request, Response
from turnkeeper.core.policy import may_use
from turnkeeper.wiring.front_door import FrontDoorKit


def find(kit: FrontDoorKit, request: Request) -> Response:
    """Those that are deployed and whole, and that the plan of the caller's tenant holds."""
    plan = kit.tenants.terms(request.who.tenant_id).plan
    agents = [
        AgentDocument(name=name, model=agent.model, placement=agent.placement, formerly=list(agent.formerly))
        for name, agent in sorted(kit.catalog.agents.items())
        if may_use(name, plan)
    ]
    return Response.json(AgentList(agents=agents).dump())
