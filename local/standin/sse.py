"""A reply as the API streams it: server-sent events, as bytes, each with whether to pause before it. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from local.standin.reply import Reply

_CHUNK_CHARACTERS = 16
_MAX_CHUNKS = 64
#: A trickle is cut fine enough to look steady, and no finer.
_TRICKLE_CHUNK_SECONDS = 0.2
_MAX_TRICKLE_CHUNKS = 500


@dataclass(frozen=True, slots=True)
class Frame:
    """One event on the wire. A trickle is spread evenly over the frames with ``paced``."""

    name: str
    data: bytes
    paced: bool = False


def frames(reply: Reply, trickle_seconds: float = 0.0) -> list[Frame]:
    """The whole stream. At least one frame is paced, so that a trickle always has somewhere to go."""
    found = [
        _frame("message_start", message=_opening(reply)),
        *_first_block_then_ping(reply, trickle_seconds),
    ]
    closing = _frame(
        "message_delta",
        delta={
            "stop_reason": reply.stop_reason,
            "stop_sequence": reply.stop_sequence,
            "stop_details": reply.stop_details,
        },
        usage=reply.counts(reply.output_tokens),
    )
    if not any(frame.paced for frame in found):
        closing = Frame(closing.name, closing.data, paced=True)
    return [*found, closing, _frame("message_stop")]


def broken(stream: list[Frame]) -> list[Frame]:
    """The part of a stream that gets out before a cut: up to half of its deltas, never its ``message_delta``."""
    deltas = [index for index, frame in enumerate(stream) if frame.name == "content_block_delta"]
    if not deltas:
        return stream[:-2]
    return stream[: deltas[(len(deltas) - 1) // 2] + 1]


def ping() -> bytes:
    return _frame("ping").data


def _frame(name: str, *, paced: bool = False, **fields: Any) -> Frame:
    data = json.dumps({"type": name, **fields}, separators=(",", ":"))
    return Frame(name, f"event: {name}\ndata: {data}\n\n".encode(), paced)


def _opening(reply: Reply) -> dict[str, Any]:
    message = reply.message()
    started = min(1, reply.output_tokens)
    usage = {**message["usage"], "output_tokens": started}
    usage.pop("output_tokens_details", None)
    return {**message, "content": [], "stop_reason": None, "stop_sequence": None, "stop_details": None, "usage": usage}


def _first_block_then_ping(reply: Reply, trickle_seconds: float) -> Iterator[Frame]:
    """The content, with the API's ping behind the first block's start."""
    pinged = False
    for index, block in enumerate(reply.content):
        for frame in _block(index, block, trickle_seconds):
            yield frame
            if not pinged:
                pinged = True
                yield _frame("ping")
    if not pinged:
        yield _frame("ping")


def _block(index: int, block: dict[str, Any], trickle_seconds: float) -> Iterator[Frame]:
    start: dict[str, Any]
    deltas: list[dict[str, Any]]
    match block["type"]:
        case "text":
            start = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": part} for part in _parts(block["text"], trickle_seconds)]
        case "thinking":
            start = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": part} for part in _parts(block["thinking"], 0)]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        case "tool_use":
            start = {**block, "input": {}}
            text = json.dumps(block["input"], ensure_ascii=False)
            parts = ["", *_parts(text, trickle_seconds)]
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in parts]
        case _:
            start, deltas = block, []
    yield _frame("content_block_start", index=index, content_block=start)
    for delta in deltas:
        yield _frame("content_block_delta", paced=True, index=index, delta=delta)
    yield _frame("content_block_stop", index=index)


def _parts(text: str, trickle_seconds: float) -> list[str]:
    if not text:
        return []
    wanted = min(math.ceil(len(text) / _CHUNK_CHARACTERS), _MAX_CHUNKS)
    steady = min(math.ceil(trickle_seconds / _TRICKLE_CHUNK_SECONDS), _MAX_TRICKLE_CHUNKS)
    pieces = max(1, min(len(text), max(wanted, steady, 2)))
    size = math.ceil(len(text) / pieces)
    return [text[begin : begin + size] for begin in range(0, len(text), size)]
