"""Following the change feed: in order, nothing lost, nobody waits for another's failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from server.chores import FIRST_PAUSE_SECONDS, IDLE_SECONDS, LONGEST_PAUSE_SECONDS, Chores, Follower
from tests.support.kit import WHO, MemoryKit
from turnkeeper.runtime.intake import NewSession
from turnkeeper.testing.clock import ManualClock


class Feed:
    """Numbered records, three a batch, and how many were taken."""

    def __init__(self, count: int) -> None:
        self.records = [{"dynamodb": {"SequenceNumber": str(number)}} for number in range(count)]
        self.done = 0

    def round(self, handler: Any) -> int:
        if not (batch := self.records[self.done : self.done + 3]):
            return 0
        failed = {one["itemIdentifier"] for one in handler({"Records": batch}, None)["batchItemFailures"]}
        taken = next((at for at, one in enumerate(batch) if one["dynamodb"]["SequenceNumber"] in failed), len(batch))
        self.done += taken
        return taken


class Function:
    """Takes so many records of each batch, as it is told call by call, and gives back the rest; ``None``: it fails."""

    def __init__(self, takes: Sequence[int | None]) -> None:
        self.takes = list(takes)
        self.seen: list[int] = []

    def __call__(self, event: dict[str, Any], _context: Any) -> Mapping[str, Any]:
        numbers = [int(record["dynamodb"]["SequenceNumber"]) for record in event["Records"]]
        takes = self.takes.pop(0) if self.takes else len(numbers)
        if takes is None:
            raise TimeoutError
        self.seen += numbers[:takes]
        return {"batchItemFailures": [{"itemIdentifier": str(number)} for number in numbers[takes : takes + 1]]}


@given(st.integers(0, 20), st.lists(st.none() | st.integers(0, 3), max_size=20))
def test_each_record_is_seen_once_in_order_whatever_is_given_back(count: int, takes: list[int | None]) -> None:
    feed, function = Feed(count), Function(takes)
    follower = Follower("observe", feed, function)
    pauses = [follower.step() for _ in range(len(takes) + count + 1)]
    assert function.seen == list(range(count))
    assert pauses[-1] == IDLE_SECONDS
    assert all(pause <= LONGEST_PAUSE_SECONDS for pause in pauses)


def test_what_fails_again_and_again_is_left_alone_for_longer_each_time() -> None:
    follower = Follower("observe", Feed(1), Function([None, 0, None, 0]))
    assert [follower.step() for _ in range(5)] == [FIRST_PAUSE_SECONDS * 2**n for n in range(4)] + [0.0]


def chores_of(kit: MemoryKit, *followers: Follower) -> Chores:
    return Chores(kit, followers, name="tests", spawn=lambda _name, _body: None)


def test_a_round_sweeps_and_brings_every_follower_to_the_end() -> None:
    kit = MemoryKit(runner="none", clock=ManualClock())
    kit.intake.create(WHO, NewSession(agent="plain", input="hello", metadata={}))
    kit.clock.sleep(600)
    feeds = [Feed(10), Feed(4)]
    functions = [Function([1, None]), Function([])]
    chores = chores_of(
        kit,
        *(Follower(f"f{n}", feed, function) for n, (feed, function) in enumerate(zip(feeds, functions, strict=True))),
    )
    assert chores.round(60.0)
    assert functions[0].seen == [0], "one that gives back ends its round"
    assert functions[1].seen == list(range(4))
    assert kit.queue.backlog() == 1, "the sweep has sent what seemed lost"
    assert chores_of(kit).round(60.0), "the round before has given up its lease"


def test_a_round_beside_a_process_that_does_the_chores_does_nothing() -> None:
    kit = MemoryKit(runner="none", clock=ManualClock())
    leader = chores_of(kit)
    leader._keep()
    feed = Feed(2)
    assert not chores_of(kit, Follower("observe", feed, Function([]))).round(60.0)
    assert feed.done == 0
