"""Two versions side by side: what is said to differ does so by more than chance explains."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from turnkeeper.runtime.store.scores import Sums
from turnkeeper_local.cli.comparing import Compared, Measure, of_sums

numbers = st.integers(0, 10**9)


@st.composite
def summed(draw: st.DrawFn) -> Sums:
    turns = draw(st.integers(1, 500))
    sums = Sums(turns, draw(numbers), draw(numbers), draw(numbers), draw(st.integers(0, turns)))
    failed = draw(st.integers(0, turns))
    sums.scores["ended"] = [turns, (turns - failed) * 1000, 0, failed]
    return sums


@given(summed(), summed())
def test_bare_means_are_shown_and_never_said_to_differ(one: Sums, other: Sums) -> None:
    """Of cost, steps and time only the sums are kept: how far they spread nobody knows."""
    compared = Compared(("a@1", "a@2"), (of_sums(one), of_sums(other)))
    measures = compared.document()["measures"]
    for name in ("cost_usd", "steps", "busy_seconds"):
        assert measures[name]["differs"] is False
        assert (measures[name]["a"]["low"], measures[name]["a"]["count"]) == (None, one.turns)
    console = Console(record=True, width=200, quiet=True)
    compared.show(console)


@given(st.floats(0, 1), st.floats(0, 1))
def test_one_value_alone_says_nothing_of_chance(one: float, other: float) -> None:
    first, second = Measure.of_values([one]), Measure.of_values([other] * 9)
    assert first is not None and second is not None
    assert not first.differs_from(second)
    assert not second.differs_from(first)


def test_checks_that_all_pass_here_and_all_fail_there_differ() -> None:
    assert Measure.of_share(30, 30).differs_from(Measure.of_share(0, 30))
