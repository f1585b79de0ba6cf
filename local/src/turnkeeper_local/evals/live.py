"""Claude in the place of scripts, under a cap that holds over all cases."""

from __future__ import annotations

import os
from dataclasses import replace

from turnkeeper.core.caps import CapRule
from turnkeeper.core.policy import Policy
from turnkeeper_local.evals.play import Stage


class NoClaude(Exception):
    """There is nobody to ask; says what is missing."""


def with_claude(stage: Stage, nanousd: int, cases: int) -> Stage:
    """The stage with the model API, where each case may spend its part of the budget: together they cannot spend more,
    however many run at once, since each is held to its own by the ledger.

    Raises:
        NoClaude: there is no key.
    """
    if not os.environ.get("ANTHROPIC_API_KEY"):
        raise NoClaude("--live needs ANTHROPIC_API_KEY")
    from turnkeeper.adapters.anthropic_model import AnthropicModel
    from turnkeeper.adapters.secrets import EnvironmentKey

    model = AnthropicModel(EnvironmentKey(), os.environ.get("ANTHROPIC_BASE_URL") or None, "anthropic")
    return replace(stage, policy=_held_to(stage.policy, nanousd // cases), live=model)


def _held_to(policy: Policy, task_nanousd: int) -> Policy:
    """The policy with a task's cap that is no higher than this in any plan."""
    plans = {}
    for name, plan in policy.plans.items():
        own = plan.caps["task"].amount
        cap = task_nanousd if own is None else min(own, task_nanousd)
        plans[name] = plan.model_copy(update={"caps": {**plan.caps, "task": CapRule(cap)}})
    return policy.model_copy(update={"plans": plans})
