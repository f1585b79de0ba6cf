"""Its own count of tokens: deterministic, the same for ``count_tokens``, for usage and for output.

About four characters of ASCII to a token, one token for any other character, and a little for structure. What
matters is what holds between the numbers:

- a request's count is ``BASE_TOKENS`` plus its segments, and appending to a request only ever adds to it;
- the same content counts the same as output and, ``MESSAGE_TOKENS`` aside, as input of the next request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BASE_TOKENS = 3
MESSAGE_TOKENS = 4
_TOOL_TOKENS = 8
_TOOL_USE_TOKENS = 8
_TOOL_RESULT_TOKENS = 4
_MEDIA_TOKENS = 1600
#: Of base64, in which a file is taken to have as much to read as in a picture.
_MEDIA_CHARS = 100_000

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Segment:
    """One piece of a prompt, in the order in which the API caches: tools, system, messages."""

    canonical: bytes
    tokens: int
    #: "5m" or "1h" where a cache_control marker stands on it.
    ttl: str | None = None


def text_tokens(text: str) -> int:
    ascii_length = len(text.encode("ascii", "ignore"))
    return -(-ascii_length // 4) + len(text) - ascii_length


def cut_to_tokens(text: str, tokens: int) -> str:
    """The longest beginning of ``text`` that counts no more than ``tokens``, without white space at its end."""
    left = 4 * max(tokens, 0)
    for index, character in enumerate(text):
        left -= 1 if character.isascii() else 4
        if left < 0:
            return text[:index].rstrip()
    return text


def json_tokens(value: object) -> int:
    return text_tokens(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def block_tokens(block: Json) -> int:
    """Tokens of one content block, as input and as output."""
    match block:
        case {"type": "text", "text": str(text)} | {"type": "thinking", "thinking": str(text)}:
            return text_tokens(text)
        case {"type": "tool_use", "name": str(name), "input": value}:
            return _TOOL_USE_TOKENS + text_tokens(name) + json_tokens(value)
        case {"type": "tool_result"}:
            return _TOOL_RESULT_TOKENS + content_tokens(block.get("content", ""))
        case {"type": "image" | "document"}:
            return _media_tokens(block)
        case _:
            return json_tokens(block)


def content_tokens(content: object) -> int:
    if isinstance(content, str):
        return text_tokens(content)
    blocks = content if isinstance(content, list) else []
    return sum(block_tokens(block) for block in blocks if isinstance(block, Mapping))


def segments(request: Json) -> list[Segment]:
    """The prompt of a validated request, piece by piece; a top-level ``cache_control`` marks the last one."""
    found = [_tool_segment(tool) for tool in request.get("tools", ())]
    system = request.get("system", ())
    for block in [{"type": "text", "text": system}] if isinstance(system, str) else system:
        found.append(_segment("system", block, block_tokens(block)))
    for message in request["messages"]:
        found.extend(_message_segments(message))
    automatic = request.get("cache_control")
    if automatic and found:
        last = found[-1]
        found[-1] = Segment(last.canonical, last.tokens, automatic.get("ttl", "5m"))
    return found


def count(found: list[Segment]) -> int:
    return BASE_TOKENS + sum(segment.tokens for segment in found)


def _tool_segment(tool: Json) -> Segment:
    # Counted without the marker, so that moving it does not change the number.
    bare = {key: value for key, value in tool.items() if key != "cache_control"}
    return _segment("tool", tool, _TOOL_TOKENS + json_tokens(bare))


def _message_segments(message: Json) -> list[Segment]:
    role, content = message["role"], message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not parts:
        return [Segment(f"{role}:".encode(), MESSAGE_TOKENS)]
    found = [_segment(role, block, block_tokens(block)) for block in parts]
    found[0] = Segment(found[0].canonical, found[0].tokens + MESSAGE_TOKENS, found[0].ttl)
    return found


def canonical(block: Json) -> str:
    """The block as text: the same for equal blocks, wherever cache_control markers stand."""
    return _canonical(_without_markers(block)[0])


def _canonical(bare: Json) -> str:
    return json.dumps(bare, sort_keys=True, separators=(",", ":"))


def _segment(role: str, value: Json, tokens: int) -> Segment:
    bare, ttl = _without_markers(value)
    return Segment(f"{role}:{_canonical(bare)}".encode(), tokens, ttl)


def _without_markers(value: Json) -> tuple[dict[str, Any], str | None]:
    """A block without cache_control on itself and on blocks of its content, and the last ttl that stood there."""
    bare = dict(value)
    marker = bare.pop("cache_control", None)
    ttl = marker.get("ttl", "5m") if marker else None
    if isinstance(bare.get("content"), list):
        inner = [_without_markers(part) for part in bare["content"] if isinstance(part, Mapping)]
        bare["content"] = [part for part, _ in inner]
        ttl = ttl or next((found for _, found in reversed(inner) if found), None)
    return bare, ttl


def _media_tokens(block: Json) -> int:
    source = block.get("source")
    data = source.get("data") if isinstance(source, Mapping) else None
    if not isinstance(data, str):
        return _MEDIA_TOKENS  # by address or file id: the size is not known here
    if source and source.get("type") == "text":
        return text_tokens(data)
    if block["type"] == "image":
        return min(_MEDIA_TOKENS, text_tokens(data[:_MEDIA_CHARS]))
    return _MEDIA_TOKENS * (1 + len(data) // _MEDIA_CHARS)
