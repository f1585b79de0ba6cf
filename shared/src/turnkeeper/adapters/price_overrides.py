"""Prices that a deployment sets itself, in ``policy.toml``::

    [models."claude-example-1"]
    input_usd_per_mtok = "3.00"
    output_usd_per_mtok = "15.00"
    cache_read_usd_per_mtok = "0.30"          # without: as fresh input
    cache_write_5m_usd_per_mtok = "3.75"      # without: 1.25 times fresh input
    cache_write_1h_usd_per_mtok = "6.00"      # without: twice fresh input
    web_search_usd_per_thousand = "10.00"     # without: web search is refused
    fast_factor = "2"                         # without: fast mode is refused
    us_factor = "1.1"                         # with inference_geo = "us"; 1.1 unless given
    context_window = 200000                   # tokens that a request may have; without: it is not known

    [[models."claude-example-1".tiers]]       # where long prompts cost more
    above_input_tokens = 200000
    input_usd_per_mtok = "6.00"
    output_usd_per_mtok = "22.50"

The name is matched exactly, before the bundled snapshot is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from turnkeeper.adapters.tariff import Row, Tariff, make_row
from turnkeeper.core.money import nano_of
from turnkeeper.core.policy import Whole

US_FACTOR = Decimal("1.1")
#: More than any price is, or factor: what follows from more cannot be written down.
_MOST = 1_000_000


def _exact(value: object) -> Decimal:
    # A float has lost digits before it gets here.
    if not isinstance(value, (str, Decimal)):
        raise ValueError('write it as a string, such as "3.00"')
    try:
        number = Decimal(value)
    except InvalidOperation as error:
        raise ValueError(f'{value!r} is not a decimal number such as "3.00"') from error
    if not number.is_finite() or number < 0:
        raise ValueError("it has to be finite and not negative")
    if number > _MOST:
        raise ValueError(f"it has to be at most {_MOST}")
    return number


Exact = Annotated[Decimal, BeforeValidator(_exact)]


class PriceRow(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    input_usd_per_mtok: Exact
    output_usd_per_mtok: Exact
    cache_read_usd_per_mtok: Exact | None = None
    cache_write_5m_usd_per_mtok: Exact | None = None
    cache_write_1h_usd_per_mtok: Exact | None = None

    def row(self) -> Row:
        return make_row(
            fresh=self.input_usd_per_mtok,
            output=self.output_usd_per_mtok,
            cache_read=self.cache_read_usd_per_mtok,
            write_5m=self.cache_write_5m_usd_per_mtok,
            write_1h=self.cache_write_1h_usd_per_mtok,
        )


class PriceTier(PriceRow):
    above_input_tokens: Whole


class PriceOverride(PriceRow):
    """The whole price of one model; nothing is taken over from the snapshot."""

    tiers: tuple[PriceTier, ...] = ()
    web_search_usd_per_thousand: Exact | None = None
    fast_factor: Annotated[Exact, Field(ge=1)] | None = None
    us_factor: Annotated[Exact, Field(ge=1)] = US_FACTOR
    context_window: Whole | None = None

    def tariff(self) -> Tariff:
        longer = sorted(self.tiers, key=lambda tier: tier.above_input_tokens)
        rows = ((-1, self.row()), *((tier.above_input_tokens, tier.row()) for tier in longer))
        searches = self.web_search_usd_per_thousand
        return Tariff(rows, None if searches is None else nano_of(searches / 1000), self.context_window)


def price_overrides(models: Mapping[str, Mapping[str, Any]]) -> dict[str, PriceOverride]:
    """The table ``models`` of ``policy.toml``, by model name.

    Raises:
        ValueError: an entry cannot be used; the text names it.
    """
    overrides = {}
    for name, entry in models.items():
        try:
            overrides[name] = PriceOverride.model_validate(entry)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc']) or 'entry'}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
            raise ValueError(f'policy.toml: models."{name}": {problems}') from error
    return overrides
