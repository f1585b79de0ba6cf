"""What a provider may have charged for the ledger's calls agrees with it; what it cannot have charged does not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.core.ledger import iso
from turnkeeper.core.money import NANO
from turnkeeper.core.reconciling import Charged, Report, Used, family, reconcile
from turnkeeper.core.spending import LedgerCall, call_of
from turnkeeper.core.usage import Usage
from turnkeeper.runtime.reports import priced

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAYS = ("2026-11-24", "2026-11-25")
#: More than all roundings together, in nano-dollars.
BEYOND = 1_000
PRICES = BundledPrices()
HOLDER = {"tenant_id": "acme", "session_id": "ses_1", "user_id": "ann", "agent": "support"}


@dataclass(frozen=True)
class Made:
    """A call as the ledger has it, and what the provider knows of it."""

    call: LedgerCall
    day: str
    charged: int


@st.composite
def made_calls(draw: st.DrawFn) -> Made:
    began = NOON + timedelta(minutes=draw(st.integers(0, 35 * 60)))
    took = timedelta(minutes=draw(st.integers(0, 15)))
    state = draw(st.sampled_from(["settled", "voided", "in_doubt", "pending"]))
    amount = draw(st.integers(1, NANO))
    # One whose runner died is resolved whenever somebody finds it.
    resolved = began + took + (timedelta(hours=draw(st.integers(0, 30))) if state == "in_doubt" else timedelta())
    spent = {"settled": draw(st.integers(0, amount)), "in_doubt": amount}.get(state, 0)
    record = {
        "pk": "T#acme#S#ses_1",
        "model": draw(st.sampled_from(["claude-sonnet-5-5", "claude-haiku-4-5"])),
        "state": state,
        "amount_nanousd": amount,
        "spent_nanousd": spent,
        "at": iso(began),
        **({} if state == "pending" else {"resolved_at": iso(resolved)}),
    }
    unknown = state in {"in_doubt", "pending"}
    charged = draw(st.integers(0, amount)) if unknown else spent
    counted = draw(st.sampled_from([began, began + took]))
    return Made(call_of(record, HOLDER), counted.date().isoformat(), charged)


def unpriced(_: Used) -> Decimal:
    raise AssertionError("the provider says what it costs")


@given(st.lists(made_calls(), max_size=12), st.booleans())
def test_the_truth_agrees_and_more_or_less_does_not(made: list[Made], by_model: bool) -> None:
    charged = [Charged(one.day, one.call.model if by_model else None, Decimal(one.charged).scaleb(-9)) for one in made]
    days = frozenset({*DAYS, *(one.day for one in made)})
    now = NOON + timedelta(days=4)
    calls = [one.call for one in made]
    report = Report(charged=tuple(charged), charged_days=days)
    found = reconcile(report, calls, unpriced, now)
    assert found.agrees
    assert len(found.in_doubt) == sum(call.state in {"in_doubt", "pending"} for call in calls)
    least = sum(call.spent_nanousd for call in calls if call.state == "settled")
    most = least + sum(call.amount_nanousd for call in calls if call.state in {"in_doubt", "pending"})
    truth = sum(one.charged for one in made)
    for off in (most - truth + BEYOND, least - truth - BEYOND):
        more = Charged(DAYS[0], calls[0].model if calls and by_model else None, Decimal(off).scaleb(-9))
        assert not reconcile(Report(charged=(*charged, more), charged_days=days), calls, unpriced, now).agrees


@pytest.mark.parametrize(
    "names",
    [
        ["claude-haiku-4-5", "claude-haiku-4-5-20251001", "Claude Haiku 4.5", "claude-haiku-4-5@20251001"],
        ["claude-haiku-4-5", "us.anthropic.claude-haiku-4-5-20251001-v1:0", "anthropic.claude-haiku-4-5"],
        ["claude-sonnet-4-0", "claude-sonnet-4-20250514", "Claude Sonnet 4", "global.anthropic.claude-sonnet-4-v1:0"],
        ["claude-3-5-sonnet-20241022", "Claude Sonnet 3.5", "claude-3-5-sonnet-latest"],
        ["claude-opus-4-6", "claude-opus-4-6-v1", "Claude Opus 4.6"],
    ],
)
def test_names_of_one_model_are_one(names: list[str]) -> None:
    assert len({family(name) for name in names}) == 1


def test_names_of_models_are_told_apart() -> None:
    names = ["claude-sonnet-4", "claude-sonnet-4-5", "claude-opus-4-5", "claude-haiku-4-5", "claude-sonnet-5", "gpt-5"]
    assert len({family(name) for name in names}) == len(names)


counts = st.integers(0, 40_000)
usages = st.fixed_dictionaries(
    {
        "input_tokens": counts,
        "output_tokens": counts,
        "cache_read_input_tokens": counts,
        "five": counts,
        "hour": counts,
        "searches": st.integers(0, 3),
    }
)


@given(
    st.lists(usages, min_size=1, max_size=6),
    st.sampled_from(["claude-sonnet-4-5", "claude-haiku-4-5", "claude-sonnet-5-5"]),
    st.booleans(),
    st.sampled_from(["standard", "batch"]),
)
def test_tokens_of_many_calls_cost_what_the_calls_do(
    usages: list[dict[str, int]], model: str, long_context: bool, tier: str
) -> None:
    more = 210_000 if long_context else 0

    def as_answered(usage: dict[str, int]) -> dict[str, Any]:
        return {
            "input_tokens": usage["input_tokens"] + more,
            "output_tokens": usage["output_tokens"],
            "cache_read_input_tokens": usage["cache_read_input_tokens"],
            "cache_creation_input_tokens": usage["five"] + usage["hour"],
            "cache_creation": {
                "ephemeral_5m_input_tokens": usage["five"],
                "ephemeral_1h_input_tokens": usage["hour"],
            },
            "server_tool_use": {"web_search_requests": usage["searches"]},
            "service_tier": tier,
        }

    answers = [as_answered(usage) for usage in usages]
    cost = sum(PRICES.cost_nanousd(model, answer, {}) for answer in answers)
    used = Used(
        DAYS[0],
        model,
        sum((Usage.of(answer) for answer in answers), Usage()),
        sum(usage["hour"] for usage in usages),
        sum(usage["searches"] for usage in usages),
        long_context=long_context,
        service_tier=tier,
    )
    assert cost - len(answers) <= priced(used, PRICES) <= cost
