"""What an MCP server answers, as content blocks of a tool_result, in bounded size. It is data like any other page."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from turnkeeper.tools._common import cut, plain

_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
MAX_BLOCKS = 100


def blocks(content: Iterable[Any], structured: Any, max_bytes: int) -> list[dict[str, Any]]:
    """Text and images as they are, everything else in words; what does not fit any more is left out, and says so."""
    left = max_bytes
    taken: list[dict[str, Any]] = []
    dropped = False
    for item in content:
        block = _block(item)
        size = (
            len(block["text"].encode("utf-8", "replace")) if block["type"] == "text" else len(block["source"]["data"])
        )
        if len(taken) >= MAX_BLOCKS or left <= 0 or (size > left and block["type"] != "text"):
            dropped = True
            continue
        if size > left:
            block["text"], dropped = cut(block["text"], left)
        left -= size
        taken.append(block)
    if not taken and structured is not None:
        text, dropped = cut(plain(json.dumps(structured, ensure_ascii=False, default=str)), max_bytes)
        taken.append(_text(text))
    if dropped:
        taken.append(_text("[The rest of the answer was left out: too large.]"))
    return taken or [_text("(no content)")]


def text_of(content: Iterable[Any], structured: Any, max_bytes: int) -> str:
    """All the text in an answer, for the message of an error."""
    return "\n".join(block["text"] for block in blocks(content, structured, max_bytes) if block["type"] == "text")


def _block(item: Any) -> dict[str, Any]:
    kind = getattr(item, "type", "")
    if kind == "text":
        return _text(item.text)
    if kind == "image":
        if item.mime_type in _IMAGES:
            source = {"type": "base64", "media_type": item.mime_type, "data": item.data}
            return {"type": "image", "source": source}
        return _text(f"[an image of the type {item.mime_type[:100]}, which cannot be shown]")
    if kind == "resource_link":
        return _text(f"[a link to {item.uri}: {item.name}]")
    if kind == "resource":
        text = getattr(item.resource, "text", None)
        return _text(text) if isinstance(text, str) else _text(f"[a binary resource: {item.resource.uri}]")
    return _text(f"[content of the type {str(kind)[:100]}, which cannot be shown]")


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": plain(text) or "(empty)"}
