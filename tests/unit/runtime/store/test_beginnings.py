"""A copy of a long conversation takes several writes, and what is too large for an item goes to the bucket first.
Wherever they end, nothing of it stays that nobody knows."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from tests.support.kit import MemoryKit
from tests.support.scripted import WHO, begin, play, reply, say, scripted_kit
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.session import Head
from turnkeeper.core.transcript import text_of
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.jobs import SCHEMA, Job, parse
from turnkeeper.runtime.store.idempotency import AlreadyDone, IdempotencyKey
from turnkeeper.runtime.store.sessions import ENTRIES_A_WRITE
from turnkeeper.table import Operation, Put, Update
from turnkeeper.testing.clock import ManualClock

SAID = "what was said"
TURNS = 30
HOUR = 3_601


class Crash(BaseException):
    """The process dies here."""


def talked() -> tuple[MemoryKit, Head]:
    """A conversation of three entries a turn, of which some are too large for the table."""
    kit = scripted_kit(*(reply(say(f"{SAID} {number}")) for number in range(TURNS + 1)), tools=[])
    head = play(kit, text=SAID)
    for number in range(TURNS - 1):
        head = kit.run(kit.intake.post(head, f"{SAID} " + "".join(map(chr, range(500, 60_500 * (number == 3))))))
    return kit, head


class Writes:
    """What is written from now on. The process dies before the write of this number, if there is one."""

    def __init__(self, kit: MemoryKit, dies_at: int | None = None) -> None:
        self.made: list[Sequence[Operation]] = []
        self._dies_at = dies_at
        self._write = kit.table.write
        kit.table.write = self.write  # type: ignore[method-assign]
        self._kit = kit

    def write(self, operations: Sequence[Operation]) -> None:
        if len(self.made) == self._dies_at:
            raise Crash
        self.made.append(operations)
        self._write(operations)

    def end(self) -> None:
        self._kit.table.write = self._write  # type: ignore[method-assign]


def left(kit: MemoryKit, but: Head) -> list[str]:
    """Where anything is that was said, in this session or another; the first session's own aside."""
    pks = {
        item["pk"]
        for item in kit.table.snapshot()
        if item["sk"].startswith("ENTRY#") and ("data" in item or "blob" in item)
    }
    own = f"#S#{but.session_id}"
    return [pk for pk in pks if not pk.endswith(own)] + [
        name for name in kit.blobs.contents if f"/{but.session_id}/" not in name and "!versions" not in name
    ]


def test_it_is_whole_with_its_last_write() -> None:
    kit, head = talked()
    writes = Writes(kit)
    copy = kit.branching.fork(WHO, head, value="and now?")
    writes.end()
    entries = [[write for write in each if write.key.sk.startswith("ENTRY#")] for each in writes.made]
    assert len(writes.made) > 2
    assert all(len(each) <= ENTRIES_A_WRITE for each in entries)
    assert [any(write.key.sk == "HEAD" for write in each) for each in writes.made] == [False] * (len(entries) - 1) + [
        True
    ]
    done = kit.run(copy)
    kit.clock.advance(HOUR)  # type: ignore[attr-defined]
    assert kit.sweep.run(lambda: 10.0).erased == 0
    assert kit.head(copy.session_id) == done
    assert len(kit.entries(copy.session_id)) > len(kit.entries(head.session_id))


def test_what_is_no_longer_than_a_write_holds_is_written_at_once() -> None:
    kit = scripted_kit(reply(say(SAID)), tools=[])
    head = play(kit)
    writes = Writes(kit)
    kit.branching.fork(WHO, head, value="and now?")
    assert len(writes.made) == 1
    assert not any(write.key.sk == "BEGUN" for write in writes.made[0])


@pytest.mark.parametrize("dies_at", [0, 1, 2, 3])
def test_what_a_process_left_that_died_is_taken_away(dies_at: int) -> None:
    kit, head = talked()
    writes = Writes(kit, dies_at)
    with pytest.raises(Crash):
        kit.branching.fork(WHO, head, value="and now?")
    writes.end()
    assert bool(left(kit, head)) == (dies_at > 0)  # large contents go to the bucket before the first entry
    kit.clock.advance(HOUR - 10)  # type: ignore[attr-defined]
    assert kit.sweep.run(lambda: 10.0).erased == 0, "it may still be written"
    kit.clock.advance(10)  # type: ignore[attr-defined]
    assert kit.sweep.run(lambda: 10.0).erased == (dies_at > 0)
    assert left(kit, head) == []
    kit.clock.advance(HOUR)  # type: ignore[attr-defined]
    assert kit.sweep.run(lambda: 10.0).erased == 0, "it is due no more"
    assert len(kit.entries(head.session_id)) >= 2 * TURNS


def test_a_sweep_that_dies_is_followed_by_another() -> None:
    kit, head = talked()
    writes = Writes(kit, 2)
    with pytest.raises(Crash):
        kit.branching.fork(WHO, head, value="and now?")
    writes.end()
    kit.clock.advance(HOUR)  # type: ignore[attr-defined]
    writes = Writes(kit, 0)
    with pytest.raises(Crash):
        kit.sweep.run(lambda: 10.0)
    writes.end()
    assert left(kit, head)
    kit.clock.advance(HOUR)  # type: ignore[attr-defined]
    assert kit.sweep.run(lambda: 10.0).erased == 1
    assert left(kit, head) == []


def test_a_copy_that_was_taken_away_does_not_begin_any_more() -> None:
    """Its process stood still for an hour before its last write."""
    kit, head = talked()
    write = kit.table.write

    def late(operations: Sequence[Operation]) -> None:
        if any(isinstance(each, Put | Update) and each.key.sk == "HEAD" for each in operations):
            kit.table.write = write  # type: ignore[method-assign]
            kit.clock.advance(HOUR)  # type: ignore[attr-defined]
            assert kit.sweep.run(lambda: 10.0).erased == 1
        write(operations)

    kit.table.write = late  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        kit.branching.fork(WHO, head, value="and now?")
    assert left(kit, head) == []


def test_a_process_whose_clock_was_hours_ahead_leaves_nothing_for_hours() -> None:
    kit, head = talked()
    kit.sessions._clock = ManualClock()
    kit.sessions._clock.advance(30 * HOUR)
    writes = Writes(kit, 2)
    with pytest.raises(Crash):
        kit.branching.fork(WHO, head, value="and now?")
    writes.end()
    assert kit.sweep.run(lambda: 10.0).erased == 1
    assert left(kit, head) == []


# ---- what is too large for an item ----

LARGE = SAID + " " + "".join(map(chr, range(500, 50_500)))
JOB = parse(
    json.dumps(
        {"schema": SCHEMA, "job_id": "j", "tenant_id": "acme", "user_id": "u1", "agent": "scripted", "input": LARGE}
    )
)
assert isinstance(JOB, Job)


def empty() -> MemoryKit:
    return scripted_kit(*(reply(say(SAID)) for _ in range(3)), tools=[])


def in_bucket(kit: MemoryKit) -> list[str]:
    return [name for name in kit.blobs.contents if "!versions" not in name]


def died() -> MemoryKit:
    """A kit in which a job was taken in by a process that died when the input was in the bucket."""
    kit = empty()
    play(kit)
    writes = Writes(kit, 1)
    with pytest.raises(Crash):
        kit.intake.take_job(JOB)
    writes.end()
    return kit


def test_an_input_that_an_item_holds_takes_one_write() -> None:
    kit = empty()
    play(kit)
    writes = Writes(kit)
    begin(kit)
    assert [{write.key.sk for write in each if write.key.sk in ("BEGUN", "HEAD")} for each in writes.made] == [{"HEAD"}]


@pytest.mark.parametrize("dies_at", [0, 1])
def test_of_a_large_input_whose_process_died_nothing_stays(dies_at: int) -> None:
    kit = empty()
    play(kit)
    writes = Writes(kit, dies_at)
    with pytest.raises(Crash):
        begin(kit, text=LARGE)
    writes.end()
    assert len(in_bucket(kit)) == dies_at
    kit.clock.advance(HOUR)  # type: ignore[attr-defined]
    assert kit.sweep.run(lambda: 10.0).erased == dies_at
    assert in_bucket(kit) == []


def test_of_a_large_input_that_was_taken_in_already_nothing_stays() -> None:
    """Twice at once under one idempotency key: the second is refused when its input is in the bucket."""
    kit = empty()
    key = IdempotencyKey("k", "sha")
    request = NewSession(agent="scripted", input=LARGE, metadata={})
    first = kit.intake.create(WHO, request, key=key)
    with pytest.raises(AlreadyDone):
        kit.intake.create(WHO, request, key=key)
    assert len(in_bucket(kit)) == 2
    kit.clock.advance(HOUR)  # type: ignore[attr-defined]
    kit.sweep.run(lambda: 10.0)
    assert [f"/{first.session_id}/" in name for name in in_bucket(kit)] == [True]
    assert text_of(kit.entries(first.session_id)[0].content) == LARGE


@pytest.mark.parametrize("swept", [False, True])
def test_a_job_that_is_delivered_again_goes_on_where_it_died(swept: bool) -> None:
    kit = died()
    if swept:
        kit.clock.advance(HOUR)  # type: ignore[attr-defined]
        assert kit.sweep.run(lambda: 10.0).erased == 1
    for _ in range(2):
        session_id = kit.intake.take_job(JOB)
        assert text_of(kit.entries(session_id)[0].content) == LARGE
    kit.clock.advance(HOUR)  # type: ignore[attr-defined]
    assert kit.sweep.run(lambda: 10.0).erased == 0
    kit.run(kit.head(session_id))
    assert text_of(kit.entries(session_id)[0].content) == LARGE


def test_while_it_is_taken_away_it_is_not_begun_again() -> None:
    kit = died()
    kit.clock.advance(HOUR)  # type: ignore[attr-defined]
    take, tried = kit.sweep.erasure.take_contents, []

    def takes(*whose: str) -> None:
        with pytest.raises(Unavailable):
            kit.intake.take_job(JOB)
        tried.append(whose)
        take(*whose)

    kit.sweep.erasure.take_contents = takes  # type: ignore[method-assign,assignment]
    assert kit.sweep.run(lambda: 10.0).erased == len(tried) == 1
    assert text_of(kit.entries(kit.intake.take_job(JOB))[0].content) == LARGE


def test_who_was_overtaken_writes_nothing_more() -> None:
    kit = empty()
    play(kit)
    write = kit.table.write

    def late(operations: Sequence[Operation]) -> None:
        if any(each.key.sk == "HEAD" for each in operations):
            kit.table.write = write  # type: ignore[method-assign]
            kit.clock.advance(1)  # type: ignore[attr-defined]
            other = Writes(kit, 1)
            with pytest.raises(Crash):
                kit.intake.take_job(JOB)
            other.end()
        write(operations)

    kit.table.write = late  # type: ignore[method-assign]
    with pytest.raises(Unavailable):  # the other has it, and has not made it yet: so the job is not done
        kit.intake.take_job(JOB)
    session_id = kit.intake.take_job(JOB)
    assert kit.head(session_id).last_seq == 1
