"""Values that no agent can have are refused where it is made, and named."""

from __future__ import annotations

from typing import Any

import pytest

from turnkeeper.core.agent import Agent


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({"model": 7}, "model is the name"),
        ({"model": " "}, "model is the name"),
        ({"model": None}, "model is the name"),
        ({"fallback_models": [1]}, "fallback_models is a list of names"),
        ({"fallback_models": "other"}, "fallback_models is a list of names"),
        ({"fallback_models": [["other"]]}, "fallback_models is a list of names"),
        ({"fallback_models": ["m"]}, "other models than its own"),
        ({"fallback_models": ["n", "n"]}, "other models than its own"),
        ({"model_options": []}, "model_options is a dict"),
        ({"model_options": "thinking"}, "model_options is a dict"),
        ({"tools": [1]}, "in tools: 1 is none"),
        ({"tools": [len]}, r"a function is one with @tool"),
    ],
    ids=str,
)
def test_a_value_that_is_none_is_named(value: dict[str, Any], named: str) -> None:
    fields: dict[str, Any] = {"name": "odd", "model": "m", "system": "s", **value}
    with pytest.raises(ValueError, match=f"agent 'odd'.*{named}"):
        Agent(**fields)
