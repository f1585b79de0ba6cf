"""What is sent to Bedrock is a name that Bedrock has, and no call costs more there than it was priced at."""

from __future__ import annotations

import re

import pytest
from genai_prices.data import providers

from turnkeeper.adapters.bedrock_names import bedrock_name
from turnkeeper.adapters.prices import BundledPrices

#: What the bundled prices know of Claude, as Anthropic calls it.
MODELS = [
    model.id
    for provider in providers
    if provider.id == "anthropic"
    for model in provider.models
    if "claude" in model.id
]
SENT = [model for model in MODELS if re.match(r"claude-[a-z]+-(4-[5-9]|[5-9])", model)]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-sonnet-5-5", "claude-sonnet-5-5"),
        ("claude-opus-4-7", "claude-opus-4-7"),
        ("claude-sonnet-4-6", "claude-sonnet-4-6"),
        ("claude-opus-4-6", "claude-opus-4-6-v1"),
        ("claude-opus-4-5", "claude-opus-4-5-20251101-v1:0"),
        ("claude-haiku-4-5", "claude-haiku-4-5-20251001-v1:0"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5-20251001-v1:0"),
        ("claude-sonnet-4-5", "claude-sonnet-4-5-20250929-v1:0"),
        ("claude-sonnet-4-0", "claude-sonnet-4-20250514-v1:0"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4-20250514-v1:0"),
    ],
)
def test_anthropics_names_are_those_of_the_global_profiles(model: str, name: str) -> None:
    assert bedrock_name(model) == f"global.anthropic.{name}"


@pytest.mark.parametrize("model", SENT)
def test_no_call_costs_more_than_it_was_priced_at(model: str) -> None:
    """The price is that of the agent's name, the call is made by Bedrock's."""
    priced, sent = (BundledPrices().rates(name, {}) for name in (model, bedrock_name(model)))
    assert sent.input_nanousd <= priced.input_nanousd
    assert sent.output_nanousd <= priced.output_nanousd


@pytest.mark.parametrize(
    "name",
    [
        "anthropic.claude-sonnet-5-5",
        "us.anthropic.claude-opus-4-1-20250805-v1:0",
        "eu.anthropic.claude-sonnet-5-5",
        "arn:aws:bedrock:eu-west-1:1:application-inference-profile/abc",
    ],
)
def test_bedrocks_own_names_stay_as_they_are(name: str) -> None:
    assert bedrock_name(name) == name


@pytest.mark.parametrize(
    "model",
    [
        "claude-3-5-sonnet-20241022",
        "claude-3-7-sonnet-latest",
        "claude-2",
        "claude-v1",
        "claude-opus-4-0",
        "claude-opus-4-1",
        "claude-opus-4-1-20250805",
        "claude-opus-4-20250514",
        "gpt-5",
        "",
    ],
)
def test_what_bedrock_does_not_have_everywhere_is_refused_by_name(model: str) -> None:
    with pytest.raises(ValueError, match=f"Bedrock has no {model} in every region"):
        bedrock_name(model)
