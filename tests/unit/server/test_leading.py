"""One of several leads: never two whose clocks differ by less than the lease allows, and soon another."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.leading import KEEP_SECONDS, LEASE_SECONDS, Leadership
from turnkeeper.table import Table, Update
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_table import MemoryTable


def leadership(table: Table, clock: ManualClock, owner: str) -> Leadership:
    return Leadership(table, clock, work="chores", owner=owner)


def test_the_first_leads_until_it_gives_up_and_then_another_does_at_once() -> None:
    table, clock = MemoryTable(), ManualClock()
    first, second = leadership(table, clock, "first"), leadership(table, clock, "second")
    assert first.keep()
    assert not second.keep()
    clock.sleep(KEEP_SECONDS)
    assert first.keep()
    first.give_up()
    assert not first.held
    assert second.keep()
    assert not first.keep()


def test_one_that_is_gone_is_followed_once_its_lease_has_ended() -> None:
    table, clock = MemoryTable(), ManualClock()
    leadership(table, clock, "gone").keep()
    second = leadership(table, clock, "second")
    clock.sleep(LEASE_SECONDS - 0.1)
    assert not second.keep()
    clock.sleep(0.2)
    assert second.keep()


def test_one_that_is_gone_and_whose_clock_was_a_day_ahead_is_followed_at_once() -> None:
    table, clock, wrong = MemoryTable(), ManualClock(), ManualClock()
    wrong.sleep(24 * 3600)
    assert leadership(table, wrong, "gone").keep()
    second, third = leadership(table, clock, "second"), leadership(table, clock, "third")
    assert second.keep()
    assert not third.keep()


def test_while_the_table_is_out_of_reach_what_is_held_ends_by_itself() -> None:
    clock = ManualClock()

    class Failing(MemoryTable):
        down = False

        def update(self, operation: Update) -> dict[str, object]:
            if self.down:
                raise TimeoutError
            return super().update(operation)

    table = Failing()
    first = leadership(table, clock, "first")
    assert first.keep()
    table.down = True
    clock.sleep(KEEP_SECONDS)
    assert first.keep()
    clock.sleep(LEASE_SECONDS * 2 / 3)
    assert not first.keep()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["keep", "give up"]), st.floats(0, 12)), max_size=40))
def test_never_two_at_a_time(steps: list[tuple[str, str, float]]) -> None:
    table, clock = MemoryTable(), ManualClock()
    members = {name: leadership(table, clock, name) for name in "abc"}
    for name, act, pause in steps:
        clock.sleep(pause)
        assert sum(member.held for member in members.values()) <= 1
        if act == "keep":
            members[name].keep()
        else:
            members[name].give_up()
        assert sum(member.held for member in members.values()) <= 1
