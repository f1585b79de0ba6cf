"""Many readers of running sessions in one process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.kit import WHO, MemoryKit
from turnkeeper.core.deltas import Part
from turnkeeper.core.session import Head
from turnkeeper.runtime.following import Hub, Landed, Reader
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.relaying import Relay
from turnkeeper.testing.memory_table import MemoryTable


class Telling(Relay):
    """Tells at once."""

    def _wake(self) -> None:
        self.flush()


@pytest.fixture
def kit() -> MemoryKit:
    return MemoryKit(runner="none")


def claimed(kit: MemoryKit) -> Head:
    head = kit.intake.create(WHO, NewSession("plain", "[[say hello]]", {}))
    return kit.sessions.claim(head.tenant_id, head.session_id, "me", "lambda")


async def read_until(reader: Reader, wanted: str) -> str:
    """The text of deltas, up to where it is as wanted."""
    heard = ""
    while heard != wanted:
        news = await reader.take(10)
        assert news, f"only {heard!r}"
        heard += "".join(each["text"] for each in news if isinstance(each, dict) and each["type"] == "text")
    return heard


def test_two_hundred_readers_of_one_session_cost_the_reads_of_one(kit: MemoryKit, monkeypatch: Any) -> None:
    seen: list[int] = []
    see = kit.streams.see

    def counted(sessions: Sequence[tuple[str, str]]) -> Any:
        seen.append(len(sessions))
        return see(sessions)

    monkeypatch.setattr(kit.streams, "see", counted)
    head = claimed(kit)
    relay = Telling(kit.streams, head, kit.clock)

    async def play() -> None:
        hub = Hub(kit.sessions, kit.streams)
        async with contextlib.AsyncExitStack() as readers:
            name = (head.tenant_id, head.session_id)
            all_of_them = [await readers.enter_async_context(hub.reader(*name, after=0)) for _ in range(200)]
            reading = [asyncio.create_task(read_until(reader, "Hello")) for reader in all_of_them]
            while not (looked := kit.sessions.asked(head)[1]).until:
                await asyncio.sleep(0.01)
            relay.look(looked)
            on_event = relay.answer(head.last_seq + 1)
            on_event(lambda: [Part("text", "Hel")])
            await asyncio.sleep(0.3)
            on_event(lambda: [Part("text", "Hello")])
            assert await asyncio.gather(*reading) == ["Hello"] * 200

    started = time.monotonic()
    asyncio.run(play())
    assert set(seen) == {1}
    assert len(seen) <= 8 * (time.monotonic() - started) + 2


def test_sessions_are_looked_at_together_and_each_once(kit: MemoryKit) -> None:
    """All that runs at once in one read; and a reader of a session that rests is done at once."""
    requests: list[str] = []
    kit.__dict__["table"] = MemoryTable(on_request=requests.append)
    heads = [kit.run(kit.intake.create(WHO, NewSession("plain", f"[[say {n}]]", {}))) for n in range(5)]
    requests.clear()

    async def read(hub: Hub, head: Head) -> list[int]:
        seqs: list[int] = []
        async with hub.reader(head.tenant_id, head.session_id, after=1) as reader:
            while not reader.is_done:
                seqs += [each.entry.seq for each in await reader.take(5) if isinstance(each, Landed)]
        return seqs

    async def play() -> list[list[int]]:
        hub = Hub(kit.sessions, kit.streams)
        return await asyncio.gather(*(read(hub, head) for head in heads))

    assert asyncio.run(play()) == [[2, 3]] * 5
    assert requests.count("BatchGetItem") <= 2
    assert "UpdateItem" not in requests, "nobody says that a session at rest is looked at"


def test_a_turn_knows_from_its_beginning_who_waited_for_it(kit: MemoryKit) -> None:
    """At its resume, which is before its first word: not when its runner looks up the next time."""
    head = kit.run(kit.intake.create(WHO, NewSession("plain", "[[say hello]]", {})))

    async def play() -> None:
        hub = Hub(kit.sessions, kit.streams)
        async with hub.reader(head.tenant_id, head.session_id, after=head.last_seq) as reader:
            waiting = asyncio.create_task(reader.take(10, stay=True))
            while not kit.sessions.asked(head)[1].until:
                await asyncio.sleep(0.01)
            kit.intake.post(head, "[[say more]]")
            assert await waiting

    asyncio.run(asyncio.wait_for(play(), 10))


def test_what_readers_hold_is_one_copy_and_none_of_it_is_told_once_it_is_erased(kit: MemoryKit) -> None:
    """However many take nothing: a session's size bounds what they cost, not their number."""
    head = claimed(kit)

    async def play() -> None:
        hub = Hub(kit.sessions, kit.streams)
        name = (head.tenant_id, head.session_id)
        async with contextlib.AsyncExitStack() as readers:
            slow = [await readers.enter_async_context(hub.reader(*name, after=0)) for _ in range(5)]
            held = [[each for each in await reader.take(5) if isinstance(each, Landed)] for reader in slow]
            assert len({id(each) for news in held for each in news}) == len(held[0]) == head.last_seq
            assert "hello" in str(held[0])
            kit.erasure.erase(kit.head(head.session_id), actor="ann")
            late = await readers.enter_async_context(hub.reader(*name, after=0))
            while not late.is_done:
                assert "hello" not in str([each for each in await late.take(5) if late.head.status == "erased"])

    asyncio.run(asyncio.wait_for(play(), 20))


def test_a_hub_that_is_told_to_stop_lets_its_readers_go(kit: MemoryKit) -> None:
    head = claimed(kit)

    async def play() -> list[Any]:
        hub = Hub(kit.sessions, kit.streams)
        async with hub.reader(head.tenant_id, head.session_id, after=head.last_seq) as reader:
            reading = asyncio.create_task(reader.take(60))
            await asyncio.sleep(0.05)
            hub.stop()
            return await reading

    assert asyncio.run(asyncio.wait_for(play(), 10)) == []


def test_a_table_that_cannot_be_read_now_is_read_again(kit: MemoryKit, monkeypatch: Any) -> None:
    head = kit.run(kit.intake.create(WHO, NewSession("plain", "[[say hello]]", {})))
    see, failures = kit.streams.see, [OSError("gone"), OSError("gone")]

    def failing(sessions: Sequence[tuple[str, str]]) -> Any:
        if failures:
            raise failures.pop()
        return see(sessions)

    monkeypatch.setattr(kit.streams, "see", failing)

    async def play() -> int:
        hub = Hub(kit.sessions, kit.streams)
        async with hub.reader(head.tenant_id, head.session_id, after=0) as reader:
            while not reader.is_done:
                await reader.take(5)
            return reader.seq

    assert asyncio.run(play()) == head.last_seq
