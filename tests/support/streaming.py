"""What a client makes of a stream by the rules of docs/streaming.md, and a loop on which its time is a test's."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.ports import Clock

Document = dict[str, Any]
#: How a streamed block's text is found in the entry that it becomes.
_KEPT = {"text": ("text", "text"), "thinking": ("thinking", "thinking"), "tool_input": ("tool_use", "input")}


@dataclass(frozen=True, slots=True)
class Frame:
    event: str
    data: Document
    id: int | None = None


def frames_of(text: str) -> Iterator[Frame]:
    """The frames of a piece of a stream that ends with one; comments and ``retry`` are none."""
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "data" in fields:
            seq = int(fields["id"]) if "id" in fields else None
            yield Frame(fields.get("event", "message"), json.loads(fields["data"]), seq)


@dataclass
class Client:
    """Assembles a session from frames. Whatever a stream promises and does not keep is an AssertionError."""

    view: str = "full"
    events: dict[int, Document] = field(default_factory=dict)
    #: Deltas of the entry to come since the last reset, and all that ever came.
    forming: list[Document] = field(default_factory=list)
    deltas: list[Document] = field(default_factory=list)
    end: Document | None = None
    last_event_id: int = 0

    def take(self, frame: Frame) -> None:
        if frame.event == "end":
            assert frame.id is None
            self.end = frame.data
        elif frame.event == "delta":
            assert frame.id is None, "a delta is no place to go on from"
            assert frame.data["seq"] > self.last_event_id, "an entry that has landed is not streamed"
            self.deltas.append(frame.data)
            self.forming = [] if frame.data["type"] == "reset" else [*self.forming, frame.data]
        else:
            assert frame.id == frame.data["seq"] > self.last_event_id, "events come once, in their order"
            self._land(frame.data)

    def cut_off(self) -> None:
        """The connection is lost, and what was forming with it."""
        self.forming = []

    def _land(self, event: Document) -> None:
        if self.view == "full":
            check_agrees(self.forming, event)
        elif texts := self.texts():
            assert texts == "".join(block["text"] for block in event["content"] if block["type"] == "text")
        self.forming = []
        self.events[event["seq"]] = event
        self.last_event_id = event["seq"]

    def texts(self) -> str:
        return "".join(delta["text"] for delta in self.forming if delta["type"] == "text")


def check_agrees(deltas: Iterable[Document], event: Document) -> None:
    """What was streamed of an entry, put together, is what was kept."""
    blocks: dict[int, list[Document]] = {}
    calls: dict[str, list[Document]] = {}
    for delta in deltas:
        assert delta["seq"] in (event["seq"], event["seq"] + 1)
        if delta["type"] in _KEPT:
            blocks.setdefault(delta["index"], []).append(delta)
        elif delta["type"].startswith("tool_"):
            calls.setdefault(delta["tool_use_id"], []).append(delta)
    for index, pieces in blocks.items():
        kind, name = _KEPT[pieces[0]["type"]]
        text, kept = "".join(piece["text"] for piece in pieces), event["content"][index]
        assert kept["type"] == kind
        if kind != "tool_use":
            assert text == kept[name]
        else:
            assert kept["id"] == pieces[0]["tool_use_id"] and kept["name"] == pieces[0]["tool"]
            assert text == kept["raw_input"] if "raw_input" in kept else json.loads(text) == kept["input"]
    if any(delta["type"] == "text" for pieces in blocks.values() for delta in pieces):
        texts = {i for i, block in enumerate(event["content"]) if block["type"] == "text" and block["text"]}
        assert texts <= blocks.keys(), "no block of the text is left out in between"
    outcomes = {each["tool_use_id"]: each["outcome"] for each in event.get("results", ())}
    for call_id, told in calls.items():
        kinds = [delta["type"] for delta in told]
        assert kinds[0] == "tool_started" and kinds.count("tool_started") == 1
        assert kinds[-1] == "tool_finished" and kinds.count("tool_finished") == 1
        assert told[-1]["outcome"] == outcomes[call_id]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Its time passes with a clock's: whoever waits is woken when the clock has come there, and it waits for nothing
    real. ``follow`` lets it catch up."""

    def __init__(self, clock: Clock) -> None:
        self._passed = clock.monotonic()
        super().__init__(_Unmoved(self))
        self._clock = clock

    def time(self) -> float:
        return self._passed

    def pass_time(self, seconds: float) -> None:
        self._passed += seconds

    def follow(self) -> None:
        """Run what runs on it up to the clock's moment."""
        if self.is_running():
            return
        self.run_until_complete(asyncio.sleep(max(0.0, self._clock.monotonic() - self._passed)))


class _Unmoved(selectors.DefaultSelector):
    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits for something that nobody will do"
        self._loop.pass_time(max(0.0, timeout))
        return super().select(0)


async def taken(frames: AsyncIterator[str], client: Client) -> AsyncIterator[Mapping[str, Any]]:
    """Has a client take frames as they come; each of them."""
    async for text in frames:
        for frame in frames_of(text):
            client.take(frame)
            yield frame.data
