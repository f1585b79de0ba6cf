"""What a chat says before its first line: who talks with whom."""

from __future__ import annotations

from turnkeeper_local.cli.api import Api
from turnkeeper_local.cli.deployed import agents_of
from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.place import LOCAL_ROLE, Place


def banner(place: Place, api: Api, agent: str, *, tenant: str | None, user: str | None, role: str | None) -> str:
    """Agent, model, kit and user, in two lines.

    Raises:
        CliError: there is no such agent.
    """
    agents = agents_of(api.agents())
    if agent not in agents:
        listed = ", ".join(sorted(agents)) or "none"
        raise CliError(f"there is no agent {agent!r}; there are {listed}", code="agent_not_found")
    where = "the local kit" if place.local else f"stack {place.stacks}"
    model = _model(place, str(agents[agent]["model"]))
    return f"{agent} on {where}, answered by {model}\n{_who(place, tenant, user, role)}"


def _model(place: Place, model: str) -> str:
    if str(place.document.get("model_url", "")).startswith("http://127.0.0.1"):
        return f"the stand-in in place of {model} (no ANTHROPIC_API_KEY): docs/stand-in.md"
    return model


def _who(place: Place, tenant: str | None, user: str | None, role: str | None) -> str:
    if not place.local and not (tenant and user):
        return "you are who your token says"
    said = role or (LOCAL_ROLE if place.local else "default")
    return f"you are user {place.user(user)} of tenant {place.tenant(tenant)}, role {said}"
