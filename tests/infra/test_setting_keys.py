"""The stacks and what they deploy agree on the names of the settings."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from functions.turn import handler
from infra import names, setting_keys


def test_the_runtime_reads_every_setting_that_the_stacks_hand_out() -> None:
    spec = importlib.util.find_spec("turnkeeper.settings")
    if spec is None or spec.origin is None:
        pytest.skip("turnkeeper.settings does not exist yet")
    source = Path(spec.origin).read_text()
    handed_out = {
        value
        for name, value in vars(setting_keys).items()
        if name.isupper() and isinstance(value, str) and value.startswith("TURNKEEPER_")
    }
    unknown = {key for key in handed_out if key not in source and key.removeprefix("TURNKEEPER_").lower() not in source}
    assert unknown == set()


def test_the_turn_function_asks_for_the_alias_that_is_published() -> None:
    assert handler.LIVE_ALIAS == names.LIVE_ALIAS
