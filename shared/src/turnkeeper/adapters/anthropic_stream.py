"""Puts an answer together from the events of a Messages API stream, as raw JSON.

The SDK's own snapshot reads blocks into its models and loses what these do not know; here everything that came is
kept, so that the transcript holds what the API said, and can be sent back as it was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core.admission import MAX_DEPTH
from turnkeeper.core.containers import container_told
from turnkeeper.core.deltas import Part
from turnkeeper.core.inputs import is_deeper, parse_json
from turnkeeper.ports import ModelReply

#: The answer ended where the model meant it to end: a tool call that cannot be read then is no truncation.
_WHOLE = frozenset({"end_turn", "tool_use", "stop_sequence", "pause_turn"})
#: More than any call reads or writes.
_MOST_TOKENS = 10**9
#: Deltas that add to a text of the block.
_TEXT_DELTAS = {"text_delta": "text", "thinking_delta": "thinking"}


def counted(usage: Mapping[str, Any] | None) -> dict[str, Any]:
    """The usage where it can be one: it says what was read and what was written, and counts are whole numbers from 0
    on. Empty where it cannot: then nobody knows."""
    try:
        return dict(usage) if usage and _is_whole(usage) and _is_count(usage) else {}
    except RecursionError:
        return {}


def tells_the_end(usage: Any) -> bool:
    """Whether this usage of a ``message_delta`` is what will be billed. One that does not say what was written leaves
    the count that stood at the beginning of the answer, which is next to nothing."""
    return isinstance(usage, Mapping) and type(usage.get("output_tokens")) is int


def _is_whole(usage: Mapping[str, Any]) -> bool:
    return type(usage.get("input_tokens")) is int and type(usage.get("output_tokens")) is int


def _is_count(value: Any) -> bool:
    match value:
        case bool() | str() | None:
            return True
        case int():
            return 0 <= value <= _MOST_TOKENS
        case Mapping():
            numbers = [value[name] for name in value if str(name).endswith(("_tokens", "_requests"))]
            return all(each is None or type(each) is int for each in numbers) and all(map(_is_count, value.values()))
        case list():
            return all(map(_is_count, value))
    return False


class MalformedAnswer(Exception):
    """The stream does not add up to an answer; the text says why, without its content."""


@dataclass
class _Block:
    raw: dict[str, Any]
    partial_json: list[str] = field(default_factory=list)
    closed: bool = False

    def input_text(self) -> str:
        """A tool call's input as it was streamed; where nothing was, as it stood in the block from the start."""
        streamed = "".join(self.partial_json)
        return streamed if streamed.strip() else json.dumps(self.raw.get("input") or {})


class PartialMessage:
    """One answer in the making: feed it events in order."""

    def __init__(self) -> None:
        self.message: dict[str, Any] = {}
        #: Latest known usage, raw; ``None`` before ``message_start``.
        self.usage: dict[str, Any] | None = None
        self.stop_reason: str | None = None
        #: A ``message_delta`` told the final usage.
        self.usage_is_final = False
        self.stopped = False
        self._container: Any = None
        self._blocks: dict[int, _Block] = {}

    def feed(self, event: Any) -> None:
        """Take one event. Events of a type unknown here are passed over, as the API asks of its clients.

        Raises:
            MalformedAnswer: the event cannot be read or comes out of order.
        """
        kind = event.get("type") if isinstance(event, Mapping) else None
        try:
            if kind == "message_start":
                self.message = dict(event["message"])
                self.usage = dict(self.message.get("usage") or {})
                self._container = self.message.get("container")
            elif kind == "content_block_start":
                self._blocks[int(event["index"])] = _Block(dict(event["content_block"]))
            elif kind == "content_block_delta":
                _apply(self._blocks[int(event["index"])], event["delta"])
            elif kind == "content_block_stop":
                self._blocks[int(event["index"])].closed = True
            elif kind == "message_delta":
                self._finish(event)
            elif kind == "message_stop":
                self.stopped = True
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise MalformedAnswer(f"a {kind} event that does not fit: {type(error).__name__}") from error

    @property
    def complete(self) -> bool:
        """Everything of the answer is here, even if the stream breaks now."""
        return bool(self.message) and self.stop_reason is not None and all(b.closed for b in self._blocks.values())

    def reply(self, request_id: str | None) -> ModelReply:
        """The answer as the port has it, once it is complete."""
        return ModelReply(
            message_id=str(self.message.get("id") or ""),
            model=str(self.message.get("model") or ""),
            content=self.content(),
            stop_reason=str(self.stop_reason),
            usage=counted(self.usage) if self.usage_is_final else {},
            request_id=request_id,
            container=container_told(self._container),
        )

    def parts(self) -> list[Part]:
        """What has come so far, for who looks on while it does: also from another thread."""
        return [_part_of(block) for _, block in sorted(self._blocks.copy().items())]

    def content(self) -> list[dict[str, Any]]:
        """The blocks in their order, tool inputs parsed.

        What a limit cut off in a way that could not be sent back is kept out: a tool call whose input does not parse,
        thinking without its signature. ``stop_reason`` (``max_tokens`` and the like) tells that there was more.

        A tool call that the model meant to end there comes back whatever it is like. An input that is no JSON object
        with finite numbers, or is nested deeper than the kit takes, is ``{}``, with the text that came as
        ``raw_input``. An id or a name that is missing or no string is ``""``.
        """
        truncated = self.stop_reason not in _WHOLE
        last = max(self._blocks, default=-1)
        blocks = []
        for index in sorted(self._blocks):
            block = self._blocks[index]
            if truncated and index == last and _never_began(block):
                continue
            raw = block.raw
            if block.partial_json or raw.get("type") == "tool_use":
                text = block.input_text()
                arguments = _json_object(text)
                if arguments is None and truncated:
                    continue
                raw = {**raw, "input": arguments} if arguments is not None else {**raw, "input": {}, "raw_input": text}
            if raw.get("type") == "tool_use":
                raw |= {name: raw[name] if isinstance(raw.get(name), str) else "" for name in ("id", "name")}
            blocks.append(raw)
        return blocks

    def _finish(self, event: Mapping[str, Any]) -> None:
        delta = event.get("delta") or {}
        if delta.get("stop_reason") is not None:
            self.stop_reason = str(delta["stop_reason"])
        self._container = delta.get("container") or self._container
        if event.get("usage"):
            # Counts are totals so far; what is left out or null keeps its value from message_start.
            known = {name: value for name, value in event["usage"].items() if value is not None}
            self.usage = {**(self.usage or {}), **known}
            self.usage_is_final = self.usage_is_final or tells_the_end(known)


def _part_of(block: _Block) -> Part:
    match block.raw:
        case {"type": "text" | "thinking" as kind}:
            text = block.raw.get(kind)
            return Part(kind, text) if isinstance(text, str) else Part("other")
        case {"type": "tool_use", "id": str(call_id), "name": str(tool)}:
            return Part("tool_input", "".join(block.partial_json), call_id, tool)
    return Part("other")


def _never_began(block: _Block) -> bool:
    """Whether nothing came of a tool call's input, or nothing of the signature that thinking ends with."""
    needed = {"tool_use": "input", "thinking": "signature"}.get(str(block.raw.get("type")))
    return needed is not None and not block.raw.get(needed) and not "".join(block.partial_json).strip()


def _json_object(text: str) -> dict[str, Any] | None:
    """``None`` where the text is no JSON object, or one that the kit cannot keep and send back."""
    try:
        value = parse_json(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) and not is_deeper(value, MAX_DEPTH) else None


def _apply(block: _Block, delta: Mapping[str, Any]) -> None:
    kind = delta["type"]
    if kind in _TEXT_DELTAS:
        name = _TEXT_DELTAS[kind]
        block.raw[name] = (block.raw.get(name) or "") + delta[name]
    elif kind == "input_json_delta":
        block.partial_json.append("" + delta["partial_json"])  # what is no text does not fit: see `feed`
    elif kind == "citations_delta":
        block.raw["citations"] = [*(block.raw.get("citations") or []), delta["citation"]]
    else:
        # signature_delta, compaction_delta and whatever comes next: the fields as they are. A text that grows over
        # several deltas of an unknown kind adds up; a signature comes whole and replaces what was there.
        grows = kind not in ("signature_delta", "compaction_delta")
        for name, value in delta.items():
            if name == "type":
                continue
            before: Any = block.raw.get(name)
            if grows and type(before) is type(value) and isinstance(value, (str, list)):
                block.raw[name] = before + value
            else:
                block.raw[name] = value
