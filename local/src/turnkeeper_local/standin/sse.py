"""A reply as the API streams it: server-sent events, as bytes, each with whether to pause before it. Pure.

``events`` are the same without the wire, for whoever calls the stand-in in process.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from turnkeeper_local.standin.reply import Reply

_CHUNK_CHARACTERS = 16
_MAX_CHUNKS = 64
#: A trickle is cut fine enough to look steady, and no finer.
_TRICKLE_CHUNK_SECONDS = 0.2
_MAX_TRICKLE_CHUNKS = 500

Event = dict[str, Any]
_PING: Event = {"type": "ping"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One event on the wire. A trickle is spread evenly over the frames with ``paced``."""

    name: str
    data: bytes
    paced: bool = False


def frames(reply: Reply, trickle_seconds: float = 0.0) -> list[Frame]:
    """The whole stream. At least one frame is paced, so that a trickle always has somewhere to go."""
    sent = list(events(reply, trickle_seconds))
    paced = "content_block_delta" if any(event["type"] == "content_block_delta" for event in sent) else "message_delta"
    return [_frame(event, paced=event["type"] == paced) for event in sent]


def events(reply: Reply, trickle_seconds: float = 0.0) -> Iterator[Event]:
    """What the frames hold: one JSON object for each."""
    yield {"type": "message_start", "message": _opening(reply)}
    yield from _first_block_then_ping(reply, trickle_seconds)
    delta = {
        "stop_reason": reply.stop_reason,
        "stop_sequence": reply.stop_sequence,
        "stop_details": reply.stop_details,
        "container": reply.container,
    }
    yield {"type": "message_delta", "delta": delta, "usage": reply.counts(reply.output_tokens)}
    yield {"type": "message_stop"}


def broken(stream: list[Frame]) -> list[Frame]:
    """The part of a stream that gets out before a cut: up to half of its deltas, never its ``message_delta``."""
    deltas = [index for index, frame in enumerate(stream) if frame.name == "content_block_delta"]
    if not deltas:
        return stream[:-2]
    return stream[: deltas[(len(deltas) - 1) // 2] + 1]


def ping() -> bytes:
    return _frame(_PING, paced=False).data


def _frame(event: Event, *, paced: bool) -> Frame:
    data = json.dumps(event, separators=(",", ":"))
    return Frame(event["type"], f"event: {event['type']}\ndata: {data}\n\n".encode(), paced)


def _opening(reply: Reply) -> dict[str, Any]:
    message = reply.message()
    started = min(1, reply.output_tokens)
    usage = {**message["usage"], "output_tokens": started}
    usage.pop("output_tokens_details", None)
    unknown_yet = dict.fromkeys(("stop_reason", "stop_sequence", "stop_details", "container"))
    return {**message, "content": [], **unknown_yet, "usage": usage}


def _first_block_then_ping(reply: Reply, trickle_seconds: float) -> Iterator[Event]:
    """The content, with the API's ping behind the first block's start."""
    pinged = False
    for index, block in enumerate(reply.content):
        for event in _block(index, block, reply.input_texts.get(index), trickle_seconds):
            yield event
            if not pinged:
                pinged = True
                yield _PING
    if not pinged:
        yield _PING


def _block(index: int, block: dict[str, Any], input_text: str | None, trickle_seconds: float) -> Iterator[Event]:
    """One block. What is not shaped as the API shapes it goes out whole, at its start."""
    start: dict[str, Any]
    deltas: list[dict[str, Any]]
    match block:
        case {"type": "text", "text": str(text)}:
            start = {**block, "text": ""}
            deltas = [{"type": "text_delta", "text": part} for part in _parts(text, trickle_seconds)]
        case {"type": "thinking", "thinking": str(text), "signature": str(signature)}:
            start = {**block, "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": part} for part in _parts(text, 0)]
            deltas.append({"type": "signature_delta", "signature": signature})
        case {"type": "tool_use", "input": value}:
            start = {**block, "input": {}}
            text = json.dumps(value, ensure_ascii=False) if input_text is None else input_text
            parts = ["", *_parts(text, trickle_seconds)]
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        case _:
            start, deltas = block, []
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for delta in deltas:
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _parts(text: str, trickle_seconds: float) -> list[str]:
    if not text:
        return []
    wanted = min(math.ceil(len(text) / _CHUNK_CHARACTERS), _MAX_CHUNKS)
    steady = min(math.ceil(trickle_seconds / _TRICKLE_CHUNK_SECONDS), _MAX_TRICKLE_CHUNKS)
    pieces = max(1, min(len(text), max(wanted, steady, 2)))
    size = math.ceil(len(text) / pieces)
    return [text[begin : begin + size] for begin in range(0, len(text), size)]
