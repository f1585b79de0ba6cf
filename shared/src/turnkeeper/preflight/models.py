"""Models that nobody here can price, or that the provider does not have: every turn would fail."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from turnkeeper.adapters.bedrock_names import bedrock_name
from turnkeeper.adapters.price_overrides import price_overrides
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.adapters.tariff import bundled_tariff
from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import UnpricedModel
from turnkeeper.core.policy_problems import Problem
from turnkeeper.preflight.findings import Finding
from turnkeeper.preflight.seen import Seen

#: Fields of the Messages API that the kit says itself, and what of an agent they follow from.
_SAID_ELSEWHERE = {
    "max_tokens": "limits=Limits(max_tokens=...) is what counts",
    "messages": "the conversation is the session's; what is always to be said belongs into system=",
    "model": "model= and fallback_models= are what counts",
    "stream": "every call is streamed",
    "system": "system= is what counts",
}


def models_without_price(seen: Seen) -> Iterator[Finding]:
    if seen.policy is None:
        return
    try:
        prices = BundledPrices(price_overrides(seen.policy.models))
    except ValueError:
        return  # told of policy.toml
    for agent in seen.agents:
        for model in _models_of(agent):
            try:
                prices.rates(model, agent.model_options if model in (agent.model, *agent.fallback_models) else {})
            except UnpricedModel as error:
                at = seen.sources[agent.name].text(model)
                hint = f'correct the name, or say what it costs in policy.toml under [models."{model}"] (docs/money.md)'
                text = f"agent {agent.name!r}: nobody can price {model!r}, so no call of it is made. {error.detail}"
                yield seen.of_agent("model_without_price", agent, at, text, hint)


def options_without_effect(seen: Seen) -> Iterator[Finding]:
    for agent in seen.agents:
        for name in sorted(agent.model_options.keys() & _SAID_ELSEWHERE):
            at = seen.sources[agent.name].text(name)
            text = f"agent {agent.name!r}: {name!r} among its model_options has no effect"
            hint = f"{_SAID_ELSEWHERE[name]}: take it out"
            yield seen.of_agent("option_without_effect", agent, at, text, hint, severity="warning")


def judges_without_plan(seen: Seen) -> Iterator[Finding]:
    """Judges that are asked nothing: nobody pays for them."""
    if seen.policy is None or seen.policy.evals_plan is not None:
        return
    for agent in seen.agents:
        if agent.scoring.judge is not None:
            at = seen.sources[agent.name].text(agent.scoring.judge.rubric)
            text = f"agent {agent.name!r} has a judge, and policy.toml no plan that pays for one: nothing is judged"
            hint = 'describe a plan for it, and name it: evals_plan = "NAME" (docs/evals.md)'
            yield seen.of_agent("judge_without_plan", agent, at, text, hint, severity="warning")


def prices_without_model(seen: Seen) -> Iterator[Finding]:
    """Prices of models that no agent calls and nobody else knows. (An operator may let a session go on with a model
    that is known.)"""
    if seen.policy is None or seen.catalog.broken:
        return
    used = {model for agent in seen.agents for model in _models_of(agent)}
    for name in seen.policy.models:
        if name not in used and bundled_tariff(name, datetime.now(UTC), {}) is None:
            problem = Problem(("models", name), f"no agent calls a model {name!r}", (name, used))
            yield seen.file.finding(problem, "price_of_no_model", "warning")


def models_without_name(seen: Seen) -> Iterator[Finding]:
    """Models of agents, other models that may answer among them, that Bedrock has no name for."""
    for agent in seen.agents if seen.provider == "bedrock" else ():
        for model in _models_of(agent):
            try:
                bedrock_name(model)
            except ValueError as error:
                text, _, hint = str(error).partition(". ")
                at = seen.sources[agent.name].text(model)
                yield seen.of_agent("model_not_on_bedrock", agent, at, f"agent {agent.name!r}: {text}", hint)


def _models_of(agent: Agent) -> tuple[str, ...]:
    """Its own, those that may answer instead, and its judge's."""
    judge = agent.scoring.judge
    return tuple(dict.fromkeys((agent.model, *agent.fallback_models, *([judge.model] if judge else []))))
