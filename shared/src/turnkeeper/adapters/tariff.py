"""What a model's tokens cost, in integers, and the tariffs of the bundled price snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Any

from turnkeeper.core.money import nano_of

MTOK = 1_000_000
#: Anthropic's published factors on the price of fresh input, where a price of its own is missing.
WRITE_5M, WRITE_1H = Decimal("1.25"), Decimal(2)


@dataclass(frozen=True, slots=True)
class Row:
    """Nano-dollars a million tokens, by what the tokens are."""

    fresh: int
    cache_read: int
    write_5m: int
    write_1h: int
    output: int

    def times(self, factor: Decimal) -> Row:
        return Row(*(_ceiling(getattr(self, name) * factor) for name in Row.__slots__))

    def dearest(self, other: Row) -> Row:
        return Row(*(max(getattr(self, name), getattr(other, name)) for name in Row.__slots__))


@dataclass(frozen=True, slots=True)
class Tariff:
    """Rows by length of the prompt: each holds for all tokens of a call with more input than its first number."""

    tiers: tuple[tuple[int, Row], ...]
    #: One web search; ``None`` where there is no price for it.
    search_nanousd: int | None = None
    #: Tokens that a request may have, as the snapshot knows.
    window: int | None = None

    def row(self, input_tokens: int) -> Row:
        """The row for a call with this much input in all, cached or not."""
        held = self.tiers[0][1]
        for above, row in self.tiers[1:]:
            if input_tokens > above:
                held = row
        return held

    def dearest(self) -> Row:
        row = self.tiers[0][1]
        for _, other in self.tiers[1:]:
            row = row.dearest(other)
        return row

    def times(self, factor: Decimal) -> Tariff:
        """With the tokens at another price; searches keep theirs."""
        return replace(self, tiers=tuple((above, row.times(factor)) for above, row in self.tiers))


def make_row(
    *,
    fresh: Decimal,
    output: Decimal,
    cache_read: Decimal | None = None,
    write_5m: Decimal | None = None,
    write_1h: Decimal | None = None,
) -> Row:
    """From dollars a million tokens. Without a price for cache reads they cost what fresh input costs."""
    return Row(
        fresh=nano_of(fresh),
        cache_read=nano_of(fresh if cache_read is None else cache_read),
        write_5m=nano_of(fresh * WRITE_5M if write_5m is None else write_5m),
        write_1h=nano_of(fresh * WRITE_1H if write_1h is None else write_1h),
        output=nano_of(output),
    )


def on_bedrock(model: str) -> bool:
    """Whether the name is one of Amazon Bedrock's: ``anthropic.claude-...``, ``us.anthropic.claude-...``, an ARN."""
    return model.startswith(("anthropic.", "arn:aws")) or ".anthropic." in model


def bundled_tariff(model: str, at: datetime, context: Mapping[str, str]) -> Tariff | None:
    """The snapshot's tariff at a time, for a variant such as ``{"speed": "fast"}``. Never asks the network.

    ``None`` where the snapshot does not know the model, or has no such variant of it.
    """
    if "claude" not in model:
        return None
    # Not at the top: it costs 0.4 s of processor time, which only a runner needs to pay.
    from genai_prices.data import providers

    name = "aws" if on_bedrock(model) else "anthropic"
    provider = next(provider for provider in providers if provider.id == name)
    # An ARN ends in the profile's name, which is what the snapshot goes by.
    info = provider.find_model(model.rsplit("/", 1)[-1])
    if info is None:
        return None
    if context and not any(variant.when.items() <= context.items() for variant in info.price_variants or ()):
        return None
    tariff = _tariff_of(info.get_prices(at, dict(context)))
    return tariff and replace(tariff, window=info.context_window)


def _tariff_of(prices: Any) -> Tariff | None:
    if prices.input_mtok is None or prices.output_mtok is None:
        return None
    keys = {
        "fresh": prices.input_mtok,
        "output": prices.output_mtok,
        "cache_read": prices.cache_read_mtok,
        "write_5m": prices.cache_write_5m_mtok if prices.cache_write_5m_mtok is not None else prices.cache_write_mtok,
        "write_1h": prices.cache_write_1h_mtok,
    }
    starts = {tier.start for price in keys.values() for tier in getattr(price, "tiers", ())}
    tiers = tuple(
        (above, make_row(**{name: _price_above(price, above) for name, price in keys.items()}))
        for above in (-1, *sorted(starts))
    )
    searches = prices.web_searches_kcount
    return Tariff(tiers, None if searches is None else nano_of(_price_above(searches, -1) / 1000))


def _price_above(price: Any, above: int) -> Any:
    """The price of a key for prompts just longer than this."""
    if not hasattr(price, "tiers"):
        return price
    held = price.base
    for tier in price.tiers:
        if tier.start <= above:
            held = tier.price
    return held


def _ceiling(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_CEILING))
