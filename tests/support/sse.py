"""A client of streams that keeps to the rules of docs/streaming.md, and what it assembled."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

Document = dict[str, Any]


def frames(lines: Iterator[str]) -> Iterator[tuple[str, Document]]:
    """Name and document of each frame, as it comes; comments and what has none are left out."""
    name, data = "message", ""
    for line in lines:
        field_name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field_name == "event":
            name = value
        elif field_name == "data":
            data += value
        elif not line:
            if data:
                yield name, json.loads(data)
            name, data = "message", ""


@dataclass
class Assembled:
    """The transcript as one reader has put it together, over as many connections as it took."""

    events: dict[int, Document] = field(default_factory=dict)
    #: Texts of the entry to come, by its seq and the block's place.
    forming: dict[tuple[int, int], str] = field(default_factory=dict)
    #: How many answers were seen as they formed, whole, before they landed.
    formed: int = 0
    deltas: int = 0
    kinds: set[str] = field(default_factory=set)
    ended: Document | None = None
    turn: Document | None = None

    @property
    def seq(self) -> int:
        return max(self.events, default=0)

    @property
    def transcript(self) -> list[Document]:
        return [self.events[seq] for seq in sorted(self.events)]

    def connected(self) -> None:
        """What was forming is told anew."""
        self.forming.clear()
        self.ended = None

    def take(self, name: str, document: Document) -> None:
        match name:
            case "end":
                self.ended = document
            case "turn":
                self.turn = document
            case "delta":
                self._delta(document)
            case _:
                self._land(document)

    def _delta(self, delta: Document) -> None:
        self.deltas += 1
        self.kinds.add(delta["type"])
        if delta["type"] == "reset":
            self.forming.clear()
        elif delta["type"] == "text":
            assert delta["seq"] > self.seq, "a delta of an entry that is there"
            place = (delta["seq"], delta["index"])
            self.forming[place] = self.forming.get(place, "") + delta["text"]

    def _land(self, event: Document) -> None:
        assert event["seq"] > self.seq, "an event twice, or out of its order"
        streamed = {index: text for (seq, index), text in self.forming.items() if seq == event["seq"]}
        for index, text in streamed.items():
            assert event["content"][index]["text"] == text, "what was streamed is what was kept"
        self.formed += bool(streamed)
        self.forming.clear()
        self.events[event["seq"]] = event


def read(
    client: httpx2.Client,
    path: str,
    assembled: Assembled,
    *,
    most: int | None = None,
    method: str = "GET",
    body: Document | None = None,
) -> None:
    """One connection: until the stream ends, or it is cut off after so many frames."""
    headers = {"accept": "text/event-stream"} | ({"last-event-id": str(assembled.seq)} if assembled.seq else {})
    assembled.connected()
    with client.stream(method, path, headers=headers, json=body) as response:
        assert response.status_code == 200, response.read()
        for number, (name, document) in enumerate(frames(response.iter_lines()), 1):
            assembled.take(name, document)
            if number == most:
                return


def read_on(client: httpx2.Client, path: str, assembled: Assembled, *, most: int | None = None, cuts: int = 0) -> None:
    """Connect again and again until the session rests; the first connections are cut off."""
    while assembled.ended is None or assembled.ended["status"] in ("running", "queued") or assembled.ended["more"]:
        try:
            read(client, path, assembled, most=most if cuts > 0 else None)
        except (httpx2.HTTPError, OSError):
            assembled.connected()
        cuts -= 1
