"""Why a call did not reach its tool, for those who may know it."""

from __future__ import annotations

from typing import Any

import pytest

from turnkeeper import tool
from turnkeeper.core.denials import Denial, denial_text
from turnkeeper.core.policy import denial_of, policy_of

CAPS = {f"{scope}_usd": "unlimited" for scope in ("task", "user_daily", "user_monthly", "tenant_monthly")}
POLICY = policy_of(
    {
        "default_plan": "open",
        "plans": {"open": CAPS, "listed": {**CAPS, "tools": ["free"]}, "others": {**CAPS, "agents": ["other"]}},
        "roles": {
            "user": {"scopes": ["billing:read"]},
            "clerk": {"scopes": ["billing:read", "billing:write"]},
            "boss": {"scopes": ["billing:read", "billing:write", "x:y"]},
            "admin": {"admin": True},
        },
    }
)


@tool(scopes={"billing:read", "billing:write"})
def refund() -> str:
    """Refund."""
    return ""


@tool
def free() -> str:
    """Free."""
    return ""


TOOLS = {each.name: each for each in (refund, free)}


def why(name: str, plan: str = "open", role: str = "user", turn_role: str | None = None) -> Denial:
    return denial_of(
        name, TOOLS, agent="support", plan=POLICY.plans[plan], policy=POLICY, role=role, turn_role=turn_role
    )


@pytest.mark.parametrize(
    ("given", "expected", "words"),
    [
        ({"name": "rm"}, {"why": "unknown"}, "There is no tool 'rm' in this session."),
        ({"name": "refund", "plan": "listed", "role": "clerk"}, {"why": "plan"}, "its plan leaves it out."),
        ({"name": "free", "plan": "others"}, {"why": "plan"}, "its plan leaves it out."),
        (
            {"name": "refund"},
            {"why": "role", "missing_scopes": ("billing:write",), "role": "user", "given_to_roles": ("boss", "clerk")},
            "The tool 'refund' is not granted to this session: needs scope billing:write.",
        ),
        (
            {"name": "refund", "role": "clerk", "turn_role": "stranger"},
            {
                "why": "role",
                "missing_scopes": ("billing:read", "billing:write"),
                "role": "stranger",
                "given_to_roles": ("boss", "clerk"),
            },
            "needs scopes billing:read, billing:write.",
        ),
        ({"name": "free"}, {"why": "not_granted"}, "The tool 'free' is not granted to this session."),
    ],
)
def test_what_is_in_the_way(given: Any, expected: dict[str, Any], words: str) -> None:
    denial = why(**given)
    assert denial == Denial(**expected)
    assert denial_text(given["name"], denial).endswith(words)
    assert "clerk" not in denial_text(given["name"], denial), "the model does not need to know what others may do"
