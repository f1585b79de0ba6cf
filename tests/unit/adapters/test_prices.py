from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnkeeper.adapters.price_overrides import price_overrides
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.core.errors import UnpricedModel
from turnkeeper.core.money import nano_of

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
MTOK = 1_000_000
COMPACTS = {"context_management": {"edits": [{"type": "compact_20260112"}]}}
OWN = {
    "house-model": {"input_usd_per_mtok": "3.00", "output_usd_per_mtok": "15.00"},
    "arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc": {
        "input_usd_per_mtok": "1",
        "output_usd_per_mtok": "2",
    },
    "claude-tiered": {
        "input_usd_per_mtok": "3",
        "output_usd_per_mtok": "15",
        "cache_read_usd_per_mtok": "0.30",
        "cache_write_5m_usd_per_mtok": "3.75",
        "cache_write_1h_usd_per_mtok": "6",
        "web_search_usd_per_thousand": "10",
        "fast_factor": "2",
        "us_factor": "1.25",
        "tiers": [{"above_input_tokens": 1000, "input_usd_per_mtok": "6", "output_usd_per_mtok": "22.50"}],
    },
}


def prices(models: dict[str, dict[str, Any]] | None = None, **settings: Any) -> BundledPrices:
    return BundledPrices(price_overrides(models or {}), now=lambda: NOW, **settings)


def cost(model: str, options: dict[str, Any] | None = None, **usage: Any) -> int:
    return prices(OWN).cost_nanousd(model, usage, options or {})


def claude_models() -> list[str]:
    """Every Claude model of the snapshot, under a name by which it is called."""
    from genai_prices.data import providers

    names = [m.id for p in providers if p.id == "anthropic" for m in p.models]
    for provider in providers:
        if provider.id == "aws":
            ids = [m.id for m in provider.models if "claude" in m.id]
            names += [i.replace("regional.", "us.") for i in ids] + [i for i in ids if i.startswith("global.")]
    return sorted({name for name in names if priced(name)})


def priced(name: str) -> bool:
    try:
        prices().rates(name, {})
    except UnpricedModel:
        return False
    return True


MODELS = claude_models()


def test_the_snapshot_knows_what_we_use() -> None:
    assert len(MODELS) > 50
    assert {"claude-sonnet-5-5", "claude-opus-5-5", "claude-haiku-5-5"} <= set(MODELS)


# ---- what a call costs ----


def test_every_kind_of_token_at_its_price() -> None:
    model = "claude-sonnet-5-5"
    assert cost(model, input_tokens=MTOK, output_tokens=0) == nano_of(Decimal(2))
    assert cost(model, output_tokens=MTOK) == nano_of(Decimal(10))
    assert cost(model, cache_read_input_tokens=MTOK) == nano_of(Decimal("0.1"))
    assert cost(model, cache_creation_input_tokens=MTOK) == nano_of(Decimal("2.5"))
    by_age = {"ephemeral_5m_input_tokens": 400_000, "ephemeral_1h_input_tokens": 600_000}
    written = {"cache_creation_input_tokens": MTOK, "cache_creation": by_age}
    assert cost(model, **written) == nano_of(Decimal("0.4") * Decimal("2.5") + Decimal("0.6") * 4)
    assert cost(model, server_tool_use={"web_search_requests": 3}) == nano_of(Decimal("0.03"))
    assert cost(model, input_tokens=None, output_tokens=None) == 0


def test_ages_that_do_not_add_up_are_never_cheaper() -> None:
    model = "claude-sonnet-5-5"
    hour = {"ephemeral_1h_input_tokens": MTOK}
    assert cost(model, cache_creation_input_tokens=0, cache_creation=hour) == nano_of(Decimal(4))
    assert cost(model, cache_creation_input_tokens=MTOK, cache_creation={}) == nano_of(Decimal("2.5"))


def test_rounded_up_to_the_nano_dollar() -> None:
    # 0.1 USD a million tokens is 100 nano-dollars a token; one tenth of that for a cache read of Haiku 5.5.
    assert cost("claude-haiku-5-5", cache_read_input_tokens=1) == 10
    own = {"m": {"input_usd_per_mtok": "0.0000001", "output_usd_per_mtok": "0.0"}}
    assert prices(own).cost_nanousd("m", {"input_tokens": 1}, {}) == 1
    assert prices(own).cost_nanousd("m", {"input_tokens": 0}, {}) == 0


def test_long_prompts_cost_more_for_all_their_tokens() -> None:
    model = "claude-haiku-5-5"
    assert cost(model, input_tokens=100_000) == nano_of(Decimal("0.1") * Decimal("0.1"))
    assert cost(model, input_tokens=50_000, cache_read_input_tokens=50_001, output_tokens=1_000) == nano_of(
        (50_000 * Decimal("0.5") + 50_001 * Decimal("0.05") + 1_000 * Decimal("2.5")) / MTOK
    )


def test_fast_mode_is_priced_by_what_the_answer_says() -> None:
    model = "claude-opus-5-5"
    assert cost(model, input_tokens=MTOK) == nano_of(Decimal(4))
    assert cost(model, {"speed": "fast"}, input_tokens=MTOK) == nano_of(Decimal(8))
    assert cost(model, {"speed": "fast"}, input_tokens=MTOK, speed="standard") == nano_of(Decimal(4))
    assert cost(model, {"speed": "fast"}, cache_read_input_tokens=MTOK) == nano_of(Decimal("0.4"))


def test_batches_cost_half() -> None:
    assert cost("claude-sonnet-5-5", input_tokens=MTOK, service_tier="batch") == nano_of(Decimal(1))
    assert cost("claude-2", input_tokens=MTOK, service_tier="batch") == cost("claude-2", input_tokens=MTOK)
    assert cost("claude-sonnet-5-5", input_tokens=MTOK, service_tier="priority") == nano_of(Decimal(2))


def test_inference_in_the_us_costs_a_tenth_more() -> None:
    model = "claude-sonnet-5-5"
    us = {"inference_geo": "us"}
    assert cost(model, us, input_tokens=MTOK) == nano_of(Decimal("2.2"))
    assert cost(model, input_tokens=MTOK, inference_geo="us") == nano_of(Decimal("2.2"))
    assert cost(model, us, input_tokens=MTOK, inference_geo="global") == nano_of(Decimal(2))
    assert cost(model, input_tokens=MTOK, inference_geo="not_available") == nano_of(Decimal(2))
    assert cost(model, us, server_tool_use={"web_search_requests": 1}) == nano_of(Decimal("0.01"))
    assert cost("claude-opus-5-5", {**us, "speed": "fast"}, output_tokens=MTOK) == nano_of(Decimal(44))
    at_home = prices(default_inference_geo="us")
    assert at_home.cost_nanousd(model, {"input_tokens": MTOK}, {}) == nano_of(Decimal("2.2"))
    assert at_home.rates(model, {}).output_nanousd == nano_of(Decimal(11))
    assert at_home.rates(model, {"inference_geo": "global"}).output_nanousd == nano_of(Decimal(10))


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("anthropic.claude-sonnet-5-5", "2.2"),
        ("us.anthropic.claude-sonnet-5-5", "2.2"),
        ("eu.anthropic.claude-sonnet-5-5-v1:0", "2.2"),
        ("global.anthropic.claude-sonnet-5-5", "2"),
        ("global.anthropic.claude-sonnet-5-5-v1:0", "2"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "3"),
        ("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.anthropic.claude-sonnet-5-5-v1:0", "2.2"),
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-sonnet-5-5-v1:0", "2.2"),
        ("claude-sonnet-5-5-20261001", "2"),
        ("claude-haiku-4-5-20251001", "1"),
        ("claude-opus-4-5", "5"),
    ],
)
def test_names(model: str, usd: str) -> None:
    assert cost(model, input_tokens=MTOK) == nano_of(Decimal(usd))


@pytest.mark.parametrize("model", MODELS)
def test_agrees_with_the_snapshots_own_arithmetic(model: str) -> None:
    from genai_prices import Usage, calc_price

    bedrock = "anthropic." in model
    for size in (1_000, 150_000, 250_000):
        usage = Usage(input_tokens=4 * size, cache_read_tokens=size, cache_write_tokens=size, output_tokens=size)
        theirs = calc_price(
            usage, model, provider_id="aws" if bedrock else "anthropic", genai_request_timestamp=NOW
        ).total_price
        ours = cost(
            model,
            input_tokens=2 * size,
            cache_read_input_tokens=size,
            cache_creation_input_tokens=size,
            output_tokens=size,
        )
        known_write = calc_price(usage, model, provider_id="aws" if bedrock else "anthropic").model_price
        if known_write.cache_write_mtok is None:
            assert ours > nano_of(theirs)  # The snapshot leaves the price out; we count the usual factor.
        else:
            assert ours == nano_of(theirs)


# ---- what it costs at most ----

TOKENS = st.integers(0, 400_000)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "inference_geo": st.sampled_from(["us", "global"]),
        "service_tier": st.sampled_from(["auto", "standard_only"]),
        "cache_control": st.sampled_from([{"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}]),
        "tools": st.sampled_from(
            [
                [],
                [{"type": "web_search_20250305", "name": "web_search", "max_uses": 3}],
                [{"name": "mine", "input_schema": {}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
            ]
        ),
        "speed": st.sampled_from(["fast", "standard"]),
    },
)


@settings(max_examples=400)
@given(
    model=st.sampled_from([*MODELS, *OWN]),
    options=OPTIONS,
    fresh=TOKENS,
    read=TOKENS,
    write_5m=TOKENS,
    write_1h=TOKENS,
    output=TOKENS,
    spare=TOKENS,
    searches=st.integers(0, 3),
    told=st.fixed_dictionaries(
        {},
        optional={
            "service_tier": st.sampled_from(["standard", "priority", "batch"]),
            "speed": st.just("standard"),
            "inference_geo": st.sampled_from(["global", "not_available"]),
        },
    ),
)
def test_no_usage_within_the_bounds_costs_more_than_the_rates_say(
    model: str,
    options: dict[str, Any],
    fresh: int,
    read: int,
    write_5m: int,
    write_1h: int,
    output: int,
    spare: int,
    searches: int,
    told: dict[str, Any],
) -> None:
    book = prices(OWN)
    try:
        rates = book.rates(model, options)
    except UnpricedModel:
        return
    if "1h" not in repr(options):
        write_5m, write_1h = write_5m + write_1h, 0
    tools = options.get("tools") or []
    if not any("web_search" in str(tool.get("type")) for tool in tools):
        searches = 0
    usage = {
        "input_tokens": fresh,
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": write_5m + write_1h,
        "cache_creation": {"ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h},
        "output_tokens": output,
        "server_tool_use": {"web_search_requests": searches},
        **told,
    }
    most_input, most_output = fresh + read + write_5m + write_1h + spare, output + spare
    bound = (
        -(-most_input * rates.input_nanousd // MTOK)
        + -(-most_output * rates.output_nanousd // MTOK)
        + rates.fixed_nanousd
    )
    assert 0 <= book.cost_nanousd(model, usage, options) <= bound


def test_rates_count_what_the_options_allow() -> None:
    book = prices()
    model = "claude-sonnet-5-5"
    plain = book.rates(model, {})
    assert (plain.input_nanousd, plain.output_nanousd, plain.fixed_nanousd) == (2_500_000_000, 10_000_000_000, 0)
    assert plain.model == model
    assert plain.version == book.version
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert book.rates(model, hour).input_nanousd == 4_000_000_000
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 5}
    assert book.rates(model, {"tools": [search]}).fixed_nanousd == 50_000_000
    fetch = {"type": "web_fetch_20250910", "name": "f", "max_uses": 2, "max_content_tokens": 1_000}
    assert book.rates(model, {"tools": [search, fetch]}).fixed_nanousd == 50_000_000 + 5_000_000
    # Haiku 5.5 has a tier for long prompts: the bound is that tier.
    assert book.rates("claude-haiku-5-5", {}).input_nanousd == 625_000_000
    fast = book.rates("claude-opus-5-5", {"speed": "fast", "inference_geo": "us"})
    assert (fast.input_nanousd, fast.output_nanousd) == (11_000_000_000, 44_000_000_000)


def test_rates_look_ahead_to_a_price_that_changes_tomorrow() -> None:
    # The snapshot lowers Sonnet 4.6's long prompts on 2026-03-13.
    for day, output in ((11, 22_500_000_000), (12, 22_500_000_000), (13, 15_000_000_000)):
        book = BundledPrices(now=lambda day=day: datetime(2026, 3, day, 18, tzinfo=UTC))
        assert book.rates("claude-sonnet-4-6", {}).output_nanousd == output


# ---- no price, no call ----


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("claude-sonnet-99", {}),
        ("gpt-5", {}),
        ("amazon.nova-pro-v1:0", {}),
        ("", {}),
        ("arn:aws:bedrock:eu-west-1:1:application-inference-profile/unknown", {}),
        ("claude-sonnet-5-5", {"speed": "fast"}),
        ("claude-opus-5-5", {"speed": "ludicrous"}),
        ("claude-sonnet-5-5", {"service_tier": "flex"}),
        ("claude-sonnet-5-5", {"inference_geo": "mars"}),
        ("us.anthropic.claude-sonnet-5-5", {"inference_geo": "us"}),
        ("claude-sonnet-5-5", {"made_up": 1}),
        ("claude-sonnet-5-5", {"mcp_servers": []}),
        ("claude-sonnet-5-5", {"fallbacks": ["claude-opus-5-5"]}),
        ("claude-sonnet-5-5", {"context_management": {"edits": [{"type": "new_20270101"}]}}),
        ("claude-sonnet-5-5", {**COMPACTS, "tools": [{"type": "web_search_20250305", "max_uses": 1}]}),
        ("claude-sonnet-5-5", {"context_management": 1}),
        ("claude-sonnet-5-5", {"tools": [{"type": "web_search_20250305"}]}),
        ("claude-sonnet-5-5", {"tools": [{"type": "web_search_20250305", "max_uses": True}]}),
        ("claude-sonnet-5-5", {"tools": [{"type": "web_fetch_20250910", "max_uses": 1}]}),
        ("claude-sonnet-5-5", {"tools": [{"type": "code_execution_20250825"}]}),
        ("us.anthropic.claude-sonnet-5-5", {"tools": [{"type": "web_search_20250305", "max_uses": 1}]}),
        ("house-model", {"speed": "fast"}),
        ("house-model", {"tools": [{"type": "web_search_20250305", "max_uses": 1}]}),
    ],
)
def test_what_cannot_be_priced_is_refused(model: str, options: dict[str, Any]) -> None:
    with pytest.raises(UnpricedModel) as caught:
        prices(OWN).rates(model, options)
    assert len(caught.value.detail) > 20


def test_options_that_cost_nothing_are_taken() -> None:
    options = {
        "betas": ["x"],
        "thinking": {"type": "adaptive"},
        "tool_choice": {"type": "auto"},
        "metadata": {"user_id": "u"},
        "stop_sequences": ["END"],
        "output_config": {"effort": "low"},
        "service_tier": "auto",
        "speed": None,
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "tools": [
            {"name": "mine", "input_schema": {}},
            {"type": "bash_20250124", "name": "bash"},
            {"type": "tool_search_tool_regex_20251119", "name": "s"},
        ],
    }
    assert prices().rates("claude-sonnet-5-5", options) == prices().rates("claude-sonnet-5-5", {})


@pytest.mark.parametrize(
    "usage",
    [
        {"speed": "ludicrous"},
        {"service_tier": "flex"},
        {"inference_geo": "mars"},
        {"server_tool_use": {"code_execution_requests": 1}},
        {"iterations": [{"type": "message"}, {"type": "advisor"}]},
    ],
)
def test_usage_that_cannot_be_priced_is_refused(usage: dict[str, Any]) -> None:
    with pytest.raises(UnpricedModel):
        prices().cost_nanousd("claude-opus-5-5", usage, {})


def test_a_compaction_by_the_api_is_reserved_for_and_booked() -> None:
    """It reads all that was sent and writes a summary, beside the counts of the answer itself."""
    plain, compacting = prices().rates("claude-opus-5-5", {}), prices().rates("claude-opus-5-5", COMPACTS)
    assert (compacting.input_nanousd, compacting.output_nanousd) == (plain.input_nanousd * 2, plain.output_nanousd * 2)
    answer = {"input_tokens": 23_000, "output_tokens": 1_000}
    summary = {"input_tokens": 180_000, "output_tokens": 3_500}
    usage = {**answer, "iterations": [{"type": "compaction", **summary}, {"type": "message", **answer}]}
    booked = prices().cost_nanousd("claude-opus-5-5", usage, COMPACTS)
    parts = [prices().cost_nanousd("claude-opus-5-5", part, {}) for part in (answer, summary)]
    assert booked == sum(parts)


def test_what_a_model_reads_is_known() -> None:
    assert prices().rates("claude-haiku-4-5", {}).window == 200_000
    assert prices().rates("claude-sonnet-5-5", {}).window == 1_000_000
    assert prices(OWN).rates("house-model", {}).window is None
    windowed = {"house-model": {**OWN["house-model"], "context_window": 32_000}}
    assert prices(windowed).rates("house-model", {}).window == 32_000


# ---- a deployment's own prices ----


def test_own_prices_and_what_follows_from_them() -> None:
    assert cost("house-model", input_tokens=MTOK) == nano_of(Decimal(3))
    assert cost("house-model", cache_read_input_tokens=MTOK) == nano_of(Decimal(3))
    assert cost("house-model", cache_creation_input_tokens=MTOK) == nano_of(Decimal("3.75"))
    assert cost("house-model", cache_creation={"ephemeral_1h_input_tokens": MTOK}) == nano_of(Decimal(6))
    assert cost("arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc", output_tokens=MTOK) == nano_of(
        Decimal(2)
    )
    model = "claude-tiered"
    assert cost(model, input_tokens=1_000) == nano_of(Decimal("0.003"))
    assert cost(model, input_tokens=1_001) == nano_of(Decimal("0.006006"))
    assert cost(model, {"speed": "fast", "inference_geo": "us"}, input_tokens=1_000) == nano_of(Decimal("0.0075"))
    assert cost(model, server_tool_use={"web_search_requests": 2}) == nano_of(Decimal("0.02"))


def test_an_own_price_replaces_the_snapshots() -> None:
    own = {"claude-sonnet-5-5": {"input_usd_per_mtok": "1.5", "output_usd_per_mtok": "7"}}
    assert prices(own).cost_nanousd("claude-sonnet-5-5", {"input_tokens": MTOK}, {}) == nano_of(Decimal("1.5"))
    # The name is matched exactly.
    assert prices(own).cost_nanousd("claude-sonnet-5-5-20261001", {"input_tokens": MTOK}, {}) == nano_of(Decimal(2))


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"input_usd_per_mtok": 3.0, "output_usd_per_mtok": "1"}, "as a string"),
        ({"input_usd_per_mtok": 3, "output_usd_per_mtok": "1"}, "as a string"),
        ({"input_usd_per_mtok": "3,00", "output_usd_per_mtok": "1"}, "decimal number"),
        ({"input_usd_per_mtok": "-1", "output_usd_per_mtok": "1"}, "negative"),
        ({"input_usd_per_mtok": "NaN", "output_usd_per_mtok": "1"}, "finite"),
        ({"input_usd_per_mtok": "1"}, "output_usd_per_mtok"),
        ({"input_usd_per_mtok": "1", "output_usd_per_mtok": "1", "cache_reed": "1"}, "cache_reed"),
        ({"input_usd_per_mtok": "1", "output_usd_per_mtok": "1", "fast_factor": "0.5"}, "fast_factor"),
        ({"input_usd_per_mtok": "1", "output_usd_per_mtok": "1", "tiers": [{"above_input_tokens": 5}]}, "tiers.0"),
        ("3.00", "house"),
    ],
)
def test_entries_of_the_policy_that_cannot_be_used(entry: Any, told: str) -> None:
    with pytest.raises(ValueError, match=r'policy\.toml: models\."house"') as caught:
        price_overrides({"house": entry})
    assert told in str(caught.value)


def test_the_version_changes_with_what_prices_depend_on() -> None:
    plain = prices().version
    assert plain.startswith("genai-prices-")
    assert plain == prices().version
    own = prices(OWN).version
    assert own == prices(OWN).version
    cheaper = {**OWN, "house-model": {"input_usd_per_mtok": "2", "output_usd_per_mtok": "2"}}
    assert len({plain, own, prices(cheaper).version, prices(default_inference_geo="us").version}) == 4


def test_the_snapshot_is_not_loaded_before_it_is_asked() -> None:
    code = (
        "import sys; from turnkeeper.adapters.prices import BundledPrices; BundledPrices().version; "
        "assert not any(name.startswith('genai_prices') for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
