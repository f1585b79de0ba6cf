"""The stacks and what they deploy agree on the names of the settings."""

from __future__ import annotations

from functions.turn import handler
from turnkeeper.settings import PREFIX, Settings
from turnkeeper_infra import names, setting_keys


def test_the_runtime_reads_every_setting_that_the_stacks_hand_out() -> None:
    handed_out = {
        value
        for name, value in vars(setting_keys).items()
        if name.isupper() and isinstance(value, str) and value.startswith(PREFIX)
    }
    assert len(handed_out) > 15
    assert {key.removeprefix(PREFIX).lower() for key in handed_out} <= Settings.model_fields.keys()


def test_the_turn_function_asks_for_the_alias_that_is_published() -> None:
    assert handler.LIVE_ALIAS == names.LIVE_ALIAS
