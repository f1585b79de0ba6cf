"""What a worker tells of its slots, and when it asks for another worker."""

from __future__ import annotations

from fargate_worker.announcing import AGAIN_SECONDS, Announcing
from tests.support.kit import MemoryKit
from turnkeeper.core.errors import Unavailable
from turnkeeper.runtime.store.workers import Told
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper.testing.recorders import RecordedWakes

SLOTS = 8


def test_it_tells_what_is_new_and_that_it_lives() -> None:
    clock, writes, free = ManualClock(), list[object](), [SLOTS]
    kit = MemoryKit(clock=clock, runner="none")
    vars(kit)["table"] = MemoryTable(on_change=lambda _before, after: writes.append(after))
    announcing = Announcing(kit.workers, clock, name="w", slots=SLOTS, free=lambda: free[0], wakes=None)
    for seconds, told in ((0, 1), (1, 1), (AGAIN_SECONDS, 2)):
        clock.advance(seconds)
        announcing.look()
        assert len(writes) == told
    free[0] = 3
    announcing.look()
    assert kit.workers.told() == [Told("w", 3)]


def test_it_asks_for_another_one_before_no_slot_is_free() -> None:
    clock, wakes = ManualClock(), RecordedWakes()
    kit, free = MemoryKit(clock=clock, runner="none"), [2]
    announcing = Announcing(kit.workers, clock, name="w", slots=SLOTS, free=lambda: free[0], wakes=wakes)
    announcing.look()
    assert wakes.asked == [], "a quarter is free"
    free[0] = 1
    announcing.look()
    assert wakes.asked == [2]
    kit.workers.tell("other", SLOTS)
    free[0] = 0
    announcing.look()
    assert wakes.asked == [2], "another one has room"


def test_of_a_task_of_several_processes_each_tells_and_tasks_are_asked_for() -> None:
    clock, wakes = ManualClock(), RecordedWakes()
    kit = MemoryKit(clock=clock, runner="none")
    for task, asked in (("one", [2]), ("two", [2, 3])):
        for number in range(2):
            kit.workers.tell(f"{task}-{number}", 0)
        name = f"{task}-1"
        Announcing(kit.workers, clock, name=name, slots=SLOTS, free=lambda: 0, wakes=wakes, processes=2).look()
        assert wakes.asked == asked


def test_it_outlives_a_table_that_does_not_answer() -> None:
    class Away:
        def tell(self, *_: object) -> None:
            raise Unavailable("away")

    Announcing(Away(), ManualClock(), name="w", slots=1, free=lambda: 1, wakes=None).look()  # type: ignore[arg-type]
