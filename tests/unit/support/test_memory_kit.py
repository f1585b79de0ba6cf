"""The kit in memory runs turns to their end."""

from __future__ import annotations

from tests.support.kit import WHO, MemoryKit
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.world import Allowance


def test_a_turn_with_parallel_tools_comes_to_rest() -> None:
    kit = MemoryKit(runner="none")
    script = '[[tool add {"a": 1, "b": 2} & tool read_note {"title": "x"}]] [[say hello]]'
    head = kit.run(kit.intake.create(WHO, NewSession(agent="helper", input=script, metadata={})))

    assert (head.status, head.stop.reason, head.steps) == ("idle", "end_turn", 2)
    entries = kit.entries(head.session_id)
    assert [entry.type for entry in entries] == ["user", "assistant", "tool_results", "assistant", "status"]
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert sum(entry.cost_nanousd for entry in entries) == head.account.cost_nanousd > 0


def test_a_turn_without_time_goes_on_with_the_worker() -> None:
    kit = MemoryKit(runner="none")
    head = kit.intake.create(WHO, NewSession(agent="helper", input='[[tool add {"a": 1, "b": 2}]]', metadata={}))

    left = kit.run(head, Allowance(runner="lambda", turn_seconds=0.0, hard_seconds=60))
    assert left.status == "queued"

    assert kit.work() == 1
    assert kit.head(head.session_id).status == "idle"
