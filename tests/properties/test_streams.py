"""Streams, over generated conversations: runners that fail, are cut, hand off and die, and readers that come and go.

Whatever happens, what a client makes of a stream by the documented rules is the transcript; what it was streamed of an
entry is what was kept of it; nothing is written where nobody looks; what is written is small and rare.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from functions.api.app import FrontDoor
from functions.api.http import Request
from functions.api.streaming import stream
from tests.support.examples import examples
from tests.support.http import Caller
from tests.support.kit import MODEL, WHO, MemoryKit
from tests.support.streaming import Client, VirtualLoop, frames_of
from turnkeeper.adapters.anthropic_stream import PartialMessage
from turnkeeper.core.agent import Agent, Limits
from turnkeeper.core.errors import ProviderError, SessionBusy
from turnkeeper.core.session import Head
from turnkeeper.core.tools import ToolContext, tool
from turnkeeper.ports import ModelReply, ModelRequest, OnEvent
from turnkeeper.runtime.following import Hub
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.relaying import EVERY_SECONDS
from turnkeeper.runtime.store.streams import MOST_BYTES
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Item
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.faulty_table import Crash
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper.testing.virtual import VirtualLease, VirtualParallel, VirtualRelay

SECRET = "hunter2-correct-horse"

# ---- what is generated ----

_WORDS = st.text(st.sampled_from('ab é\n\u2028😀"\\{'), min_size=1, max_size=12)
_CHUNKS = st.lists(_WORDS, min_size=1, max_size=6)


@dataclass(frozen=True)
class Step:
    """One answer of the model: its blocks in chunks, how long each event takes, and what becomes of it."""

    blocks: Sequence[tuple[str, Sequence[str]]]
    seconds: float
    fate: str
    #: After how many events the fate strikes.
    after: int


_FATES = ("ok", "cut", "fail", "die", "truncated", "refusal", "hand off", "die in tool", "long")
_KINDS = ("text", "thinking", "work", "login", "other")
_STEPS = st.builds(
    Step,
    st.lists(st.tuples(st.sampled_from(_KINDS), _CHUNKS), min_size=1, max_size=4),
    st.sampled_from([0.3, 0.02, 2.0, 0.0]),
    st.sampled_from(_FATES),
    st.integers(3, 14),
)


@dataclass(frozen=True)
class Visit:
    """A reader: when it comes, in what view, after how many frames it is cut off each time, and for how long."""

    comes_after: float
    view: str
    cuts: Sequence[tuple[int, float]]


_VISITS = st.lists(
    st.builds(
        Visit,
        st.sampled_from([0.0, 1.0, 5.0, 40.0]),
        st.sampled_from(["full", "user"]),
        st.lists(st.tuples(st.integers(0, 15), st.sampled_from([0.0, 0.2, 3.0, 45.0])), max_size=10),
    ),
    min_size=1,
    max_size=3,
)

# ---- the world ----


class Time(ManualClock):
    """Whoever sleeps lets the readers' loop catch up, the lease beat, and the runner tell what it has not told."""

    loop: VirtualLoop | None = None
    lease: VirtualLease | None = None
    relay: VirtualRelay | None = None
    _beaten_at = 0.0

    def sleep(self, seconds: float) -> None:
        for _ in range(slices := min(50, 1 + int(seconds / 0.1))):
            super().sleep(seconds / slices)
            if self.relay is not None:
                self.relay.changed()
            if self.loop is not None:
                self.loop.follow()
            if self.lease is not None and self.monotonic() - self._beaten_at >= self.lease.beat_seconds:
                self._beaten_at = self.monotonic()
                self.lease.beat()


class Model:
    """Answers as the steps say, event by event, then ``done``."""

    def __init__(self, steps: Sequence[Step], clock: Time) -> None:
        self.steps = list(steps)
        self.clock = clock
        self.calls = 0
        self.draining = False
        self.dies_in_tool = False

    def count_tokens(self, request: ModelRequest) -> int:
        return len(json.dumps(request.messages))

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: OnEvent | None = None) -> ModelReply:
        step = self.steps.pop(0) if self.steps else Step([("text", ["do", "ne"])], 0.1, "ok", 0)
        self.calls += 1
        self.draining, self.dies_in_tool = step.fate == "hand off", step.fate == "die in tool"
        message = PartialMessage()
        for number, came in enumerate(self._events(step)):
            if number == step.after:
                if step.fate == "die":
                    raise Crash("the runner dies in a call")
                if step.fate in ("cut", "fail"):
                    raise ProviderError("it broke", retryable=True, certainty="unknown", status_code=529)
            self.clock.sleep(step.seconds)
            message.feed(came)
            if on_event is not None:
                on_event(message.parts)
        return message.reply("req_1")

    def _events(self, step: Step) -> list[dict[str, Any]]:
        usage = {"input_tokens": 10, "output_tokens": 5}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {"id": "m", "model": MODEL, "usage": usage}}
        ]
        calls = 0
        for index, (kind, chunks) in enumerate(step.blocks):
            if step.fate == "long":
                chunks = [chunk * 400 for chunk in chunks]
            calls += kind in ("work", "login")
            block, deltas = self._block(f"toolu_{self.calls}_{index}", kind, chunks)
            if step.fate == "truncated" and index == len(step.blocks) - 1:
                deltas = deltas[: len(deltas) // 2]
            events.append({"type": "content_block_start", "index": index, "content_block": block})
            events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
            events.append({"type": "content_block_stop", "index": index})
        reason = {"truncated": "max_tokens", "refusal": "refusal"}.get(step.fate, "tool_use" if calls else "end_turn")
        return [*events, {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}]

    @staticmethod
    def _block(call_id: str, kind: str, chunks: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if kind == "text":
            return {"type": "text", "text": ""}, [{"type": "text_delta", "text": chunk} for chunk in chunks]
        if kind == "thinking":
            thoughts = [{"type": "thinking_delta", "thinking": chunk} for chunk in chunks]
            return {"type": "thinking", "thinking": ""}, [*thoughts, {"type": "signature_delta", "signature": "sig"}]
        if kind == "other":
            return {"type": "redacted_thinking", "data": "x"}, []
        arguments = {"say": "".join(chunks)} if kind == "work" else {"password": SECRET}
        text = json.dumps(arguments, ensure_ascii=len(chunks) % 2 == 0)
        size = max(7, len(text) // 60)  # However long it is, it comes within minutes of the readers' time.
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        block = {"type": "tool_use", "id": call_id, "name": kind, "input": {}}
        return block, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


class Watched(MemoryTable):
    """Notes what is written to stream items, and when."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(on_change=self._changed)
        self._clock_of_test = clock
        self.tails: list[tuple[float, int, int]] = []
        self.looks = 0

    def _changed(self, before: Item | None, after: Item | None) -> None:
        if after is None or after["sk"] != "STREAM":
            return
        if after.get("tail") != (before or {}).get("tail"):
            self.tails.append((self._clock_of_test.monotonic(), len(after["tail"]), after["fencing_token"]))
        else:
            self.looks += 1


class Kit(MemoryKit):
    clock: Time

    def __init__(self, steps: Sequence[Step], clock: Time) -> None:
        @tool(effect="read", timeout_seconds=600)
        def work(ctx: ToolContext, say: str) -> str:
            """Work."""
            for number in range(3):
                ctx.progress(f"{number} of 3 with key sk-ant-REDACTED", fraction=number / 3)
                clock.sleep(0.4)
            if model.dies_in_tool:
                model.dies_in_tool = False
                raise Crash("the runner dies in a tool")
            return say

        @tool(effect="read", secret_arguments={"password"})
        def login(ctx: ToolContext, password: str) -> str:
            """Log in."""
            ctx.progress(f"logging in with {password}")
            clock.sleep(0.2)
            return "in"

        model = Model(steps, clock)
        self.scripted = model
        limits = Limits(max_iterations=50, max_seconds=100_000, error_streak=50, repetition_strikes=50)
        agent = Agent(name="talker", model=MODEL, system="Talk.", tools=[work, login], limits=limits)
        super().__init__([agent], model=model, clock=clock, runner="none")
        self.parallel = VirtualParallel(clock)

    @property
    def watched(self) -> Watched:
        assert isinstance(self.table, Watched)
        return self.table

    def keep_lease(self, head: Head, held_since: float, on_beat: Callable[[], None]) -> VirtualLease:
        self.clock.lease = VirtualLease(self.sessions, self.clock, head, held_since, on_beat)
        return self.clock.lease

    def relay(self, head: Head, hidden: Any) -> VirtualRelay:
        self.clock.relay = VirtualRelay(self.streams, head, self.clock, hidden)
        return self.clock.relay

    def play(self, head: Head) -> Head:
        """Runner after runner, until the session rests."""
        for _ in range(60):
            if (head := self.head(head.session_id)).resting:
                return head
            allowance = Allowance("lambda", draining=lambda: self.scripted.draining)
            try:
                self.engine.run(head.tenant_id, head.session_id, allowance)
            except (Crash, SessionBusy):
                self.clock.lease = self.clock.relay = None
                self.scripted.draining = False
                self.clock.sleep(self.settings.lease_seconds + 5)
            self.scripted.draining = False
            self.clock.sleep(0.3)
        raise AssertionError("it never rests")


class InlineHub(Hub):
    async def read(self, call: Callable[..., Any], *args: Any, **more: Any) -> Any:
        return call(*args, **more)


@dataclass
class World:
    steps: Sequence[Step]
    clock: Time = field(default_factory=Time)

    def __post_init__(self) -> None:
        self.kit = Kit(self.steps, self.clock)
        self.kit.__dict__["table"] = Watched(self.clock)
        self.loop = self.clock.loop = VirtualLoop(self.clock)
        self.hub = InlineHub(self.kit.sessions, self.kit.streams)
        self.head = self.kit.intake.create(WHO, NewSession("talker", "go", {}))

    def request(self, client: Client) -> Request:
        headers = {"last-event-id": str(client.last_event_id)} if client.last_event_id else {}
        return Request(
            method="GET",
            path="",
            headers=headers,
            query={"view": client.view},
            body=b"",
            claims={},
            principal=None,
            request_id="r",
            ends_at=math.inf,
            parameters={"session_id": self.head.session_id},
            identity=Identity(WHO.tenant_id, WHO.user_id, "admin"),
        )

    async def visit(self, visit: Visit) -> Client:
        await asyncio.sleep(visit.comes_after)
        client = Client(visit.view)
        cuts = iter(visit.cuts)
        while client.end is None or client.end["status"] == "running":
            frames, pause = next(cuts, (10**9, 0.0))
            client.cut_off()
            reading = await stream(self.kit, self.hub, self.request(client))
            async for text in reading:
                for frame in frames_of(text):
                    client.take(frame)
                frames -= 1
                if frames <= 0:
                    break
            await reading.aclose()  # type: ignore[attr-defined]
            await asyncio.sleep(pause)
        return client

    def play(self, visits: Sequence[Visit]) -> list[Client]:
        try:
            tasks = [self.loop.create_task(self.visit(visit)) for visit in visits]
            self.kit.play(self.head)
            clients = self.loop.run_until_complete(asyncio.gather(*tasks)) if tasks else []
            self.loop.run_until_complete(asyncio.sleep(1))
            return clients
        finally:
            self.loop.close()

    def transcript(self, view: str) -> list[Any]:
        caller = Caller(FrontDoor(self.kit), tenant=WHO.tenant_id, user=WHO.user_id, role="admin")
        return list(caller.get(f"/v1/sessions/{self.head.session_id}/events?view={view}").ok()["events"])


# ---- what holds ----

_SLOW = settings(max_examples=examples(40, all=120), deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.examples
@_SLOW
@given(st.lists(_STEPS, min_size=1, max_size=5), _VISITS)
def test_what_a_client_assembles_is_the_transcript(steps: list[Step], visits: list[Visit]) -> None:
    world = World(steps)
    clients = world.play(visits)
    for client in clients:
        assert list(client.events.values()) == world.transcript(client.view)
        for kind in {(delta["type"], delta.get("reason")) for delta in client.deltas}:
            event(f"{client.view}: {kind}")
        told = json.dumps(client.deltas, ensure_ascii=False)
        assert SECRET not in told and "sk-ant" not in told
        if client.view == "user":
            kinds = {delta["type"] for delta in client.deltas}
            assert not kinds & {"thinking", "tool_input"}
    assert all(size <= MOST_BYTES for _, size, _ in world.kit.watched.tails)
    times = [(fence, at) for at, _, fence in world.kit.watched.tails]
    for (fence, before), (later_fence, after) in pairwise(times):
        assert later_fence > fence or after - before >= EVERY_SECONDS - 1e-6


@pytest.mark.examples
@_SLOW
@given(st.lists(_STEPS, max_size=6))
def test_nothing_is_written_where_nobody_looks(steps: list[Step]) -> None:
    world = World(steps)
    world.play([])
    assert (world.kit.watched.tails, world.kit.watched.looks) == ([], 0)


def test_a_reader_sees_words_as_they_come() -> None:
    """Not only in the end: that would agree with the transcript, too."""
    blocks = [("thinking", ["h", "m"]), ("text", list("words that come one by one")), ("work", ["x"])]
    world = World([Step(blocks, 0.3, "ok", 0)])
    [client] = world.play([Visit(0.0, "full", [])])
    kinds = [delta["type"] for delta in client.deltas]
    assert kinds.count("text") > 15 and "thinking" in kinds
    assert kinds.count("tool_started") == kinds.count("tool_finished") == 1
    assert kinds.count("tool_progress") == 3
    assert "reset" not in kinds


@pytest.mark.parametrize(
    ("fate", "reset"),
    [
        ("ok", None),
        ("cut", "attempt"),
        ("die", "entry"),
        ("truncated", "entry"),
        ("die in tool", "entry"),
        ("hand off", None),
    ],
)
def test_what_becomes_of_an_answer_is_told(fate: str, reset: str | None) -> None:
    blocks = [("text", ["words ", "that ", "come"]), ("work", ["x"])]
    world = World([Step(blocks, 1.0, fate, 6)])
    [client] = world.play([Visit(0.0, "full", [])])
    resets = [delta["reason"] for delta in client.deltas if delta["type"] == "reset"]
    assert set(resets) == ({reset} if reset else set())
    assert any(delta["type"] == "handed_off" for delta in client.deltas) == (fate == "hand off")
    assert list(client.events.values()) == world.transcript("full")


def test_a_reader_that_is_cut_off_in_the_middle_is_told_all_of_it_again() -> None:
    world = World([Step([("text", ["word "] * 40)], 0.25, "ok", 0)])
    [client] = world.play([Visit(0.0, "full", [(frames, 0.0) for frames in (8, 3, 3, 3, 3, 3, 3, 3, 3, 3)])])
    assert list(client.events.values()) == world.transcript("full")
    first = [delta["text"] for delta in client.deltas if delta["text"].startswith("word word word word")]
    assert len(first) >= 9, "whoever comes back is told from the beginning of the answer"
