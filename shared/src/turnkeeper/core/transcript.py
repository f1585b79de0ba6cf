"""From entries to the messages of a model call, and what the last of them asks for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from turnkeeper.core.session import Entry, ToolOutcome
from turnkeeper.core.tools import Outcome

Block = dict[str, Any]
Message = dict[str, Any]

#: What the runner puts where it can no longer know what a tool did.
UNKNOWN_OUTCOME = (
    "The outcome of this call is unknown: the run was interrupted after it may have been made, and it is not made "
    "twice. Find out with a tool that only reads whether it took effect, or ask the user, before you do it again."
)

_EPHEMERAL = {"cache_control": {"type": "ephemeral"}}


def messages_of(entries: Iterable[Entry]) -> list[Message]:
    """The conversation as the Messages API takes it: status entries, empty texts and messages that are empty without
    them left out.

    The API joins consecutive user messages by itself; what said nothing it does not take back.
    """
    roles = {"user": "user", "tool_results": "user", "assistant": "assistant"}
    messages = []
    for entry in entries:
        content = [block for block in entry.content if block.get("type") != "text" or block.get("text")]
        if entry.type in roles and content:
            messages.append({"role": roles[entry.type], "content": content})
    return messages


def with_cache_breakpoint(messages: Sequence[Message]) -> list[Message]:
    """The same messages with a cache breakpoint behind the last block that can carry one, so that the next step reads
    the conversation so far from the cache. Thinking blocks cannot carry one."""
    marked = list(messages)
    for index in range(len(marked) - 1, -1, -1):
        content = list(marked[index]["content"])
        for at in range(len(content) - 1, -1, -1):
            if content[at].get("type") in {"text", "tool_use", "tool_result", "image", "document"}:
                content[at] = {**content[at], **_EPHEMERAL}
                marked[index] = {**marked[index], "content": content}
                return marked
    return marked


def tool_uses(content: Iterable[Block]) -> list[Block]:
    """The calls that the client has to answer, in order. Server tools answer themselves."""
    return [block for block in content if block.get("type") == "tool_use"]


def unanswered(entries: Sequence[Entry]) -> list[Block]:
    """The tool calls of the last message that no entry answers yet."""
    for entry in reversed(entries):
        if entry.type == "status":
            continue
        return tool_uses(entry.content) if entry.type == "assistant" else []
    return []


def last_message(entries: Sequence[Entry]) -> Entry | None:
    """The last entry that is part of the conversation."""
    return next((entry for entry in reversed(entries) if entry.type != "status"), None)


def tool_result(tool_use_id: str, content: list[Block], *, is_error: bool) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": tool_use_id, "content": content}
    if is_error:
        block["is_error"] = True
    return block


def text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def result_digest(content: Sequence[Block]) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a tool's result, as JSON."""
    raw = json.dumps(list(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    encoded = raw.encode("utf-8", "surrogatepass")
    return len(encoded), hashlib.sha256(encoded).hexdigest()


def answer(call: Block, text: str, outcome: Outcome = "error", duration_ms: int = 0) -> tuple[Block, ToolOutcome]:
    """An answer to a call in the kit's own words: denied, failed, not run."""
    content = [text_block(text)]
    size, digest = result_digest(content)
    return (
        tool_result(call["id"], content, is_error=outcome != "ok"),
        ToolOutcome(
            tool_use_id=call["id"],
            tool=call["name"],
            outcome=outcome,
            duration_ms=duration_ms,
            result_bytes=size,
            result_sha256=digest,
        ),
    )


def text_of(content: Iterable[Block]) -> str:
    """The text blocks, joined."""
    return "".join(block.get("text", "") for block in content if block.get("type") == "text")


def user_content(value: str | list[Block]) -> tuple[Block, ...]:
    """A user's input as content blocks."""
    return ({"type": "text", "text": value},) if isinstance(value, str) else tuple(value)
