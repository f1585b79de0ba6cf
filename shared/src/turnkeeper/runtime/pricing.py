"""What has to have a price before a call of it can be reserved."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from turnkeeper.core.agent import Agent
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.errors import UnpricedModel
from turnkeeper.core.session import Spec
from turnkeeper.ports import Prices


def must_be_priced(prices: Prices, what: Agent | Spec, known: Collection[str] = ()) -> None:
    """Every model that an agent, or a version of one, may ask.

    Args:
        known: what was found to have a price already (:func:`priced_by`): the price list is not asked for that.

    Raises:
        UnpricedModel: nobody can price one of them, or one of its options.
    """
    for model in (what.model, *what.fallback_models):
        if not known or _asked(model, what) not in known:
            prices.rates(model, what.model_options)


def priced_by(prices: Prices, agents: Iterable[Agent]) -> frozenset[str]:
    """Models of these agents that have a price, each with its options."""
    found = set()
    for agent in agents:
        for model in (agent.model, *agent.fallback_models):
            try:
                prices.rates(model, agent.model_options)
            except UnpricedModel:
                continue
            found.add(_asked(model, agent))
    return frozenset(found)


def _asked(model: str, what: Agent | Spec) -> str:
    return sorted_json([model, what.model_options]).decode()
