"""Which agents a kit has, asked before a job is put onto its queue: the queue itself takes anything."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.place import Place

if TYPE_CHECKING:
    from turnkeeper.runtime.catalog import Catalog

#: Name of an agent, or one it had before, to what the API tells of it.
Agents = Mapping[str, Mapping[str, Any]]


class Deployed:
    """What the API says, asked once a tenant; where it cannot be asked, this project's agents."""

    def __init__(self, place: Place, catalog: Callable[[], Catalog]) -> None:
        self._place = place
        self._catalog = catalog
        self._known: dict[str, Agents | None] = {}

    def why_not(self, agent: str, *, tenant_id: str, user_id: str) -> str | None:
        """Why this tenant cannot begin a session with an agent of this name; None where it can."""
        if tenant_id not in self._known:
            self._known[tenant_id] = self._asked(tenant_id, user_id)
        known = self._known[tenant_id]
        names = list(known if known is not None else named(self._catalog()))
        if agent in names:
            return None
        if agent in (broken := self._catalog().broken):
            return f"agent {agent!r} is broken: {broken[agent]}"
        nearest = difflib.get_close_matches(agent, names, n=1)
        meant = f"did you mean {nearest[0]!r}?" if nearest else f"there are {', '.join(sorted(names)) or 'none'}"
        return f"agent {agent!r} does not exist for tenant {tenant_id}; {meant}"

    def _asked(self, tenant_id: str, user_id: str) -> Agents | None:
        from turnkeeper_local.cli.api import connect

        if not self._place.local and os.environ.get("TURNKEEPER_TOKEN"):
            return None  # it says itself whose agents it may see
        try:
            return agents_of(connect(self._place, tenant=tenant_id, user=user_id, role=None).agents())
        except CliError:
            return None


def agents_of(document: Mapping[str, Any]) -> Agents:
    """By every name that they answer to."""
    agents = document["agents"]
    return {name: agent for agent in agents for name in (agent["name"], *agent["formerly"])}


def named(catalog: Catalog) -> list[str]:
    return [name for agent in catalog.agents.values() for name in (agent.name, *agent.formerly)]
