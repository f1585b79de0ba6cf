"""Which tools a session is given, over agents, plans and roles; docs/grants.md shows the same table."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from tests.support.kit import MODEL, MemoryKit
from tests.support.repository import REPOSITORY
from tests.support.scripted import begin, check_session, play, reply, results, scripted_kit, use
from turnkeeper import Agent, Limits, tool
from turnkeeper.core.errors import AgentNotFound
from turnkeeper.core.policy import Policy, compose_grant, may_use, narrow, policy_of
from turnkeeper.core.session import Head
from turnkeeper.core.tools import Tool
from turnkeeper.runtime.catalog import Catalog, load_agents
from turnkeeper.runtime.intake import Identity

DOCUMENT = REPOSITORY / "docs" / "grants.md"
#: A role that policy.toml does not describe.
STRANGER = "anyone else"


def matrix(policy: Policy, agents: list[Agent]) -> list[str]:
    """The table as docs/grants.md shows it."""
    rows = ["| agent | plan | role | tools |", "|---|---|---|---|"]
    for agent in sorted(agents, key=lambda each: each.name):
        for plan_name, plan in policy.plans.items():
            for role in [*policy.roles, STRANGER]:
                granted = compose_grant(agent.all_tools(), plan, policy.role(role))
                tools = ", ".join(f"`{name}`" for name in granted) if may_use(agent.name, plan) else "no session"
                rows.append(f"| {agent.name} | {plan_name} | {role} | {tools or 'none'} |")
    return rows


def test_the_documentation_shows_the_grants_of_this_repository() -> None:
    policy = policy_of(tomllib.loads((REPOSITORY / "policy.toml").read_text()))
    agents = list(load_agents([REPOSITORY / "agents"]).agents.values())
    shown = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("|")]
    expected = matrix(policy, agents)
    assert shown == expected, "docs/grants.md has to show:\n" + "\n".join(expected)


# ---- a policy of the test's own, with everything that can be said ----


def named(name: str, *scopes: str) -> Tool:
    @tool(name=name, scopes=set(scopes))
    def body() -> str:
        """Do."""
        return name

    return body


FREE, READ, WRITE, BOTH = (
    named("free"),
    named("read", "x:read"),
    named("write", "x:write"),
    named("both", "x:read", "x:write"),
)
AGENTS = [
    Agent(name="all", model=MODEL, system="s", tools=[FREE, READ, WRITE, BOTH]),
    Agent(name="bare", model=MODEL, system="s"),
    Agent(name="special", model=MODEL, system="s", tools=[FREE, WRITE]),
]
CAPS = {f"{scope}_usd": "unlimited" for scope in ("task", "user_daily", "user_monthly", "tenant_monthly")}
POLICY: dict[str, Any] = {
    "default_plan": "open",
    "plans": {
        "open": CAPS,
        "listed": {**CAPS, "tools": ["free", "read"]},
        "nothing": {**CAPS, "tools": []},
        "few": {**CAPS, "agents": ["bare", "special"]},
    },
    "roles": {
        "reader": {"scopes": ["x:read"]},
        "writer": {"scopes": ["x:write"]},
        "editor": {"scopes": ["x:read", "x:write"]},
        "admin": {"admin": True},
    },
}


def test_every_combination() -> None:
    rows = matrix(policy_of(POLICY), AGENTS)[2:]
    assert len(rows) == 3 * 4 * 5
    cells = {tuple(row.strip("| ").split(" | ")[:3]): row.strip("| ").split(" | ")[3] for row in rows}
    assert cells["all", "open", "reader"] == "`free`, `read`"
    assert cells["all", "open", "writer"] == "`free`, `write`"
    assert cells["all", "open", "editor"] == "`free`, `read`, `write`, `both`"
    # An administrator sees sessions; tools it is given only by name.
    assert cells["all", "open", "admin"] == cells["all", "open", STRANGER] == "`free`"
    assert cells["all", "listed", "editor"] == "`free`, `read`"
    assert cells["all", "listed", "writer"] == "`free`"
    assert cells["all", "nothing", "editor"] == "none"
    assert cells["all", "few", "editor"] == "no session"
    assert cells["special", "few", "writer"] == "`free`, `write`"
    assert {cell for (agent, *_), cell in cells.items() if agent == "bare"} == {"none"}


@pytest.mark.parametrize("role", [*POLICY["roles"], STRANGER])
@pytest.mark.parametrize("plan", POLICY["plans"])
@pytest.mark.parametrize("agent", [agent.name for agent in AGENTS])
def test_a_session_is_given_what_the_table_says_and_its_tools_run_by_it(agent: str, plan: str, role: str) -> None:
    """From the front to the tool: the grant is stored, only it is sent, and only it runs."""
    policy = policy_of(POLICY)
    every = [FREE, READ, WRITE, BOTH]
    calls = reply(*[use(each.name) for each in every])
    kit = scripted_kit(calls, agents=AGENTS, policy={**POLICY, "default_plan": plan})
    who = Identity("acme", "ann", role)
    if not may_use(agent, policy.plans[plan]):
        with pytest.raises(AgentNotFound):
            begin(kit, agent, who=who)
        return
    [definition] = [each for each in AGENTS if each.name == agent]
    granted = compose_grant(definition.all_tools(), policy.plans[plan], policy.role(role))
    head = play(kit, agent, who=who)
    assert head.granted_tools == granted
    assert [each["name"] for each in kit.model.requests[0].tools] == list(granted)
    assert [outcome for _, outcome, _ in results(kit, head)] == [
        "ok" if each.name in granted else "denied" for each in every
    ]
    records = kit.sessions.audit("acme", head.session_id)
    assert [record["kind"] for record in records[:2]] == ["session_created", "grant"]
    assert records[1]["detail"] == {"tools": list(granted), "role": role}


def test_a_grant_only_ever_shrinks() -> None:
    assert narrow(("a", "b", "c"), ("c", "a", "z")) == ("a", "c")
    assert narrow((), ("a",)) == ()


@pytest.mark.parametrize("wild", ["*", "x:*", "x*:read"])
def test_there_are_no_wildcards(wild: str) -> None:
    with pytest.raises(ValueError, match="without wildcards"):
        policy_of({**POLICY, "roles": {"admin": {"scopes": [wild]}}})


@pytest.mark.parametrize(
    "role", ["Editor", "EDITOR", "editor ", " editor", "editor\u200b", "", "admin,editor", "editor\x00"]
)
def test_a_role_is_its_exact_name(role: str) -> None:
    assert compose_grant([FREE, READ], policy_of(POLICY).plans["open"], policy_of(POLICY).role(role)) == ("free",)


def test_the_document_explains_itself() -> None:
    text = DOCUMENT.read_text()
    assert re.search(r"policy\.toml", text)
    assert "| agent | plan | role | tools |" in text


# ---- what the agent loses ----


def deployed(kit: MemoryKit, *agents: Agent, broken: str | None = None) -> None:
    """Another deployment of the same kit, with these agents."""
    for part in ("engine", "intake"):
        kit.__dict__.pop(part, None)
    kit.__dict__["catalog"] = Catalog({agent.name: agent for agent in agents}, {broken: "no"} if broken else {})


def with_tools(*tools: Tool, **more: Any) -> Agent:
    return Agent(**{"name": "shop", "model": MODEL, "system": "s", "tools": tools, **more})


def grants(kit: MemoryKit, head: Head) -> list[Any]:
    records = kit.sessions.audit("acme", head.session_id)
    return [record["detail"] for record in records if record["kind"] == "grant"]


@pytest.mark.parametrize("pin", ["latest", "session"])
def test_a_tool_that_its_agent_lost_stays_lost(pin: Any) -> None:
    whole, part = with_tools(FREE, READ, pin=pin), with_tools(FREE, pin=pin)
    kit = scripted_kit(agents=[whole], policy=POLICY)
    who = Identity("acme", "ann", "reader")
    head = play(kit, "shop", who=who)
    assert head.granted_tools == ("free", "read")
    deployed(kit, part)
    begun = kit.intake.post(head, "again")
    assert begun.granted_tools == ("free",), "taken with the write that begins the turn"
    assert grants(kit, begun)[-1] == {"tools": ["free"], "removed": ["read"], "role": "reader", "by": "agent"}
    [said] = [entry for entry in kit.entries(head.session_id) if entry.seq == begun.turn.seq]
    assert said.removed_tools == ("read",)
    head = kit.run(begun)
    deployed(kit, whole)
    kit.model.instead([reply(use("read"))])  # type: ignore[attr-defined]
    head = kit.run(kit.intake.post(head, "and again"))
    check_session(kit, head)
    assert head.granted_tools == ("free",)
    assert [outcome for _, outcome, _ in results(kit, head)] == ["denied"]
    assert len(grants(kit, head)) == 2, "nothing is recorded twice"


def test_a_turn_that_goes_on_is_looked_at_like_one_that_begins() -> None:
    kit = scripted_kit(reply(use("free")), agents=[with_tools(FREE, READ, limits=Limits(max_iterations=1))])
    kit.__dict__["policy"] = policy_of(POLICY)
    head = play(kit, "shop", who=Identity("acme", "ann", "reader"))
    assert (head.status, head.granted_tools) == ("stopped", ("free", "read"))
    deployed(kit, with_tools(READ))
    head = kit.intake.resume(head, max_iterations=2)
    assert head.granted_tools == ("read",)
    assert grants(kit, head)[-1]["removed"] == ["free"]


def test_an_agent_that_cannot_be_loaded_takes_nothing_from_anybody() -> None:
    whole = with_tools(FREE)
    kit = scripted_kit(agents=[whole], policy=POLICY)
    head = play(kit, "shop")
    for other in ({"broken": "shop"}, {}):
        deployed(kit, **other)  # type: ignore[arg-type]
        head = kit.run(kit.intake.post(head, "again"))
        assert (head.status, head.granted_tools) == ("stopped", ("free",))
        deployed(kit, whole)
        head = kit.run(kit.intake.resume(head))
        assert (head.status, head.granted_tools) == ("idle", ("free",))
    assert len(grants(kit, head)) == 1


def test_a_renamed_agent_takes_what_it_has_under_its_new_name() -> None:
    kit = scripted_kit(agents=[with_tools(FREE, READ)], policy=POLICY)
    head = play(kit, "shop", who=Identity("acme", "ann", "reader"))
    deployed(kit, with_tools(READ, name="store", formerly=["shop"]))
    head = kit.run(kit.intake.post(head, "again"))
    assert (head.agent, head.granted_tools) == ("store", ("read",))


def test_a_runner_of_another_deployment_in_the_middle_of_a_turn_takes_nothing_away() -> None:
    """Which of the two is the later one it cannot know: the tool is out of its reach, and that is all."""
    whole = with_tools(FREE)
    kit = scripted_kit(reply(use("free")), reply(use("free")), agents=[whole], policy=POLICY)
    head = begin(kit, "shop")
    deployed(kit, with_tools())
    head = kit.run(head)
    check_session(kit, head)
    assert {outcome for _, outcome, _ in results(kit, head)} == {"denied"}
    assert (head.granted_tools, len(grants(kit, head))) == (("free",), 1)
