"""Agents and policy together: what nobody can ever be given, and names that one side has and the other does not.

What nobody is given is told and not refused: it is also how an operator takes a tool away from everybody, and nothing
may stand in the way of a policy that has become stricter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.policy import RolePolicy, may_use, misnamed_agents
from turnkeeper.core.policy_problems import Problem, suggestion
from turnkeeper.core.tools import Tool
from turnkeeper.preflight.findings import Finding
from turnkeeper.preflight.seen import Seen


def agents_of_plans(seen: Seen) -> Iterator[Finding]:
    if seen.policy is None:
        return
    for problem in misnamed_agents(seen.policy, seen.agents, seen.catalog.broken):
        yield seen.file.finding(problem, "policy_agent")
    for agent in seen.agents:
        if not any(may_use(agent.name, plan) for plan in seen.policy.plans.values()):
            text = f"no plan admits agent {agent.name!r}: nobody can begin a session with it"
            hint = f"name it in `agents` of a plan in policy.toml, which names: {_names(seen)}"
            yield seen.of_agent("agent_of_nobody", agent, seen.sources[agent.name].agent(), text, hint, "warning")


def webhooks_of_no_plan(seen: Seen) -> Iterator[Finding]:
    """Addresses that word of no tenant's turns may be posted to."""
    from turnkeeper.tools.web.posting import GuardedPosts

    for agent in seen.agents:
        if agent.webhook is None or seen.policy is None:
            continue
        hosts = {host for plan in seen.policy.plans.values() for host in plan.webhook_hosts}
        try:
            GuardedPosts().check(agent.webhook, hosts)
        except InvalidRequest as error:
            text = f"agent {agent.name!r} names a webhook that nothing is posted to: {error.detail}"
            hint = "name its host in `webhook_hosts` of a plan in policy.toml"
            yield seen.of_agent("webhook_of_no_plan", agent, seen.sources[agent.name].agent(), text, hint, "warning")


def _names(seen: Seen) -> str:
    assert seen.policy is not None
    return ", ".join(sorted({name for plan in seen.policy.plans.values() for name in plan.agents or ()})) or "none"


def tools_of_nobody(seen: Seen) -> Iterator[Finding]:
    """Tools that no session is given, whatever its plan and role."""
    if seen.policy is None:
        return
    roles, plans = seen.policy.roles, seen.policy.plans.values()
    for agent in seen.agents:
        admitting = [plan for plan in plans if may_use(agent.name, plan)]
        for tool in agent.all_tools():
            whose, at = f"tool {tool.name!r} of agent {agent.name!r}", seen.sources[agent.name].tool(tool.name)
            if why := _needs_too_much(tool, roles):
                yield seen.of_agent("scope_of_nobody", agent, at, f"{whose} needs {why[0]}", why[1], "warning")
            if admitting and not any(plan.tools is None or tool.name in plan.tools for plan in admitting):
                text = f"{whose} is admitted by no plan that has the agent: nobody is ever given it"
                hint = "add it to `tools` of a plan in policy.toml, or take it from the agent"
                yield seen.of_agent("tool_of_nobody", agent, at, text, hint, "warning")


def _needs_too_much(tool: Tool, roles: Mapping[str, RolePolicy]) -> tuple[str, str] | None:
    """What a tool needs that no role has, and what to do; ``None`` where some role may be given it."""
    if not tool.scopes or any(tool.scopes <= role.scopes for role in roles.values()):
        return None
    given = {scope for role in roles.values() for scope in role.scopes}
    missing = sorted(tool.scopes - given)
    if not missing:
        text = f"{', '.join(sorted(tool.scopes))}, and no role has all of them: nobody is ever given it"
        return text, "name all of them for one role in policy.toml: scopes of two roles do not add up"
    meant = [f"; for {scope}, {said}" for scope in missing if (said := suggestion(scope, given)).startswith("did")]
    names = ", ".join(f'"{scope}"' for scope in missing)
    where = ", ".join(sorted(roles)) or "there is none yet"
    hint = f"add {names} to `scopes` of a role in policy.toml ({where}){''.join(meant)}"
    return f"{', '.join(missing)}, which no role has: nobody is ever given it", hint


def names_of_nothing(seen: Seen) -> Iterator[Finding]:
    """Scopes and tools that the policy names and no agent has: left over, or written differently. Unknown while an
    agent that may have them cannot be loaded."""
    if seen.policy is None or seen.catalog.broken:
        return
    tools = [tool for agent in seen.agents for tool in agent.all_tools()]
    scopes, names = {scope for tool in tools for scope in tool.scopes}, {tool.name for tool in tools}
    named_by = defaultdict(list)
    for role_name, role in seen.policy.roles.items():
        for scope in sorted(role.scopes - scopes):
            named_by[scope].append(role_name)
    for scope, role_names in named_by.items():
        path = ("roles", role_names[0], "scopes", scope)
        problem = Problem(path, f"{_listed('role', role_names)} has {scope!r}, and no tool needs it", (scope, scopes))
        yield seen.file.finding(problem, "scope_of_no_tool", "warning")
    for plan_name, plan in seen.policy.plans.items():
        for name in sorted((plan.tools or frozenset()) - names):
            problem = Problem(("plans", plan_name, "tools", name), f"no agent has a tool {name!r}", (name, names))
            yield seen.file.finding(problem, "policy_tool", "warning")


def _listed(word: str, names: list[str]) -> str:
    return f"{word} {', '.join(names)}"


def default_role(seen: Seen) -> Iterator[Finding]:
    """A role that nobody described may do nothing. Which is no mistake where no tool needs anything."""
    if seen.policy is None or seen.policy.default_role in seen.policy.roles:
        return
    name = seen.policy.default_role
    said = "default_role" in seen.file.raw
    if said or any(tool.scopes for agent in seen.agents for tool in agent.all_tools()):
        text = f"the default role {name!r} is not described: who has no other is given no tool that needs a scope"
        problem = Problem(("default_role",), text, (name, seen.policy.roles))
        hint = f"describe it under [roles.{name}]; {problem.hint}"
        yield seen.file.finding(problem, "policy_role", "error" if said else "warning", hint)
