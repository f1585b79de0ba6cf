"""What has to have a price before a call of it can be reserved."""

from __future__ import annotations

from turnkeeper.core.agent import Agent
from turnkeeper.core.session import Spec
from turnkeeper.ports import Prices


def must_be_priced(prices: Prices, what: Agent | Spec) -> None:
    """Every model that an agent, or a version of one, may ask.

    Raises:
        UnpricedModel: nobody can price one of them, or one of its options.
    """
    for model in (what.model, *what.fallback_models):
        prices.rates(model, what.model_options)
