"""Agents as ``turnkeeper agents`` shows them: what they are, and who is given which of their tools."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from turnkeeper.core.agent import Agent
from turnkeeper.core.policy import Policy, compose_grant, may_use
from turnkeeper.preflight.findings import place
from turnkeeper.preflight.seen import Seen


def documents(seen: Seen) -> tuple[Mapping[str, Any], ...]:
    return tuple(_document(seen, agent) for agent in seen.agents)


def _document(seen: Seen, agent: Agent) -> dict[str, Any]:
    file, line = seen.sources[agent.name].agent()
    return {
        "name": agent.name,
        "folder": seen.catalog.folders[agent.name].name,
        "file": place(file, seen.root),
        "line": line,
        "model": agent.model,
        "fallback_models": list(agent.fallback_models),
        "placement": agent.placement,
        "done": agent.done,
        "pin": agent.pin,
        "formerly": list(agent.formerly),
        "secrets": list(agent.secrets),
        "settings": list(agent.settings),
        "limits": asdict(agent.limits),
        "tools": [
            {
                "name": tool.name,
                "effect": tool.effect,
                "scopes": sorted(tool.scopes),
                "timeout_seconds": tool.timeout_seconds,
                "description": tool.description,
            }
            for tool in agent.all_tools()
        ],
        "grants": [] if seen.policy is None else grants(agent, seen.policy),
    }


def grants(agent: Agent, policy: Policy) -> list[dict[str, Any]]:
    """A row for each plan and role: the tools that a new session is given; ``None`` where it is given no session.
    The role ``None`` is any that the policy does not describe."""
    return [
        {
            "plan": plan_name,
            "role": role,
            "tools": list(compose_grant(agent.all_tools(), plan, policy.role(role or "")))
            if may_use(agent.name, plan)
            else None,
        }
        for plan_name, plan in policy.plans.items()
        for role in [*policy.roles, None]
    ]
