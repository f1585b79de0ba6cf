"""Amounts as people write them."""

from __future__ import annotations

import pytest

from turnkeeper.core.limits import Limits
from turnkeeper.core.money import MOST_USD, NANO, parse_usd


def test_every_fraction_of_a_nano_dollar_is_rounded_up() -> None:
    assert [parse_usd(text) for text in ("0", "1.00", "1e-9", "1e-99", " 2 ")] == [0, NANO, 1, 1, 2 * NANO]


@pytest.mark.parametrize("text", ["", "x", "-1", "NaN", "Infinity", "1,00", "$1"])
def test_what_is_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match="is not an amount"):
        parse_usd(text)


@pytest.mark.parametrize("text", ["1e30", "1e999999", "1000000000000.01"])
def test_what_no_table_could_keep(text: str) -> None:
    """A cap is told where it is written, not in each session that has it."""
    with pytest.raises(ValueError, match="more than the"):
        parse_usd(text)
    with pytest.raises(ValueError, match="more than the"):
        Limits(task_usd=text)
    assert parse_usd(str(MOST_USD)) == MOST_USD * NANO
