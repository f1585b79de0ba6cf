"""What stands in a transcript: blocks, calls and their answers. What the model is sent of it: ``core/projection``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest
from typing import Any

from turnkeeper.core.canonical import sorted_json, stored_json
from turnkeeper.core.session import Entry, Flag, Stop, ToolOutcome
from turnkeeper.core.tools import Outcome

Block = dict[str, Any]
Message = dict[str, Any]

#: What the runner puts where it can no longer know what a tool did.
UNKNOWN_OUTCOME = (
    "The outcome of this call is unknown: the run was interrupted after it may have been made, and it is not made "
    "twice. Find out with a tool that only reads whether it took effect, or ask the user, before you do it again."
)

#: What the kit says where the model has stopped and nothing else asks it to go on.
GO_ON = "Go on where you left off."
#: The API goes on with an answer that is sent back as it is: with a server tool, or after it has summarized.
PAUSES = frozenset({"pause_turn", "compaction"})
#: What stands in the place of a content that the store has lost.
CONTENT_LOST = "(The content of this message was lost from storage.)"

#: Entries that are part of the conversation; the others only say what became of it.
MESSAGES = frozenset({"user", "assistant", "tool_results"})


def says_nothing(content: Iterable[Block]) -> bool:
    """Blank words and thoughts alone: an answer that neither tells nor asks for anything."""
    return all(is_blank(block) or block.get("type") in ("thinking", "redacted_thinking") for block in content)


def is_blank(block: Block) -> bool:
    """Text that says nothing, and a block that nobody can tell what it is: the API takes neither."""
    kind = block.get("type")
    return not isinstance(kind, str) or (kind == "text" and not str(block.get("text") or "").strip())


def tool_uses(content: Iterable[Block]) -> list[Block]:
    """The calls that the client has to answer, in order. Server tools answer themselves."""
    return [block for block in content if block.get("type") == "tool_use"]


def unanswered(entries: Sequence[Entry]) -> list[Block]:
    """The tool calls of the last message that no entry answers yet."""
    last = last_message(entries)
    return tool_uses(last.content) if last is not None and last.type == "assistant" else []


def last_message(entries: Sequence[Entry]) -> Entry | None:
    """The last entry that is part of the conversation."""
    return next((entry for entry in reversed(entries) if entry.type in MESSAGES), None)


def tool_result(tool_use_id: str, content: list[Block], *, is_error: bool) -> Block:
    block: Block = {"type": "tool_result", "tool_use_id": tool_use_id, "content": content}
    if is_error:
        block["is_error"] = True
    return block


def text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def result_digest(content: Sequence[Block]) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a tool's result, as JSON."""
    encoded = sorted_json(list(content))
    return len(encoded), hashlib.sha256(encoded).hexdigest()


def answer(call: Block, text: str, outcome: Outcome = "error", duration_ms: int = 0) -> tuple[Block, ToolOutcome]:
    """An answer to a call in the kit's own words: denied, failed, not run."""
    content = [text_block(text if text.strip() else "(no words)")]
    return tool_result(call["id"], content, is_error=outcome != "ok"), outcome_of(call, content, outcome, duration_ms)


def results_of(entry: Entry) -> Iterator[tuple[ToolOutcome, Block | None]]:
    """What became of each call that an entry answers, with the result that it has; ``None`` where that was erased."""
    blocks = [block for block in entry.content if block.get("type") == "tool_result"]
    yield from zip_longest(entry.outcomes, blocks[: len(entry.outcomes)])


def outcome_of(
    call: Block, returned: Sequence[Block], outcome: Outcome, duration_ms: int = 0, flag: Flag | None = None
) -> ToolOutcome:
    """What became of a call that returned this."""
    size, digest = result_digest(returned)
    return ToolOutcome(
        tool_use_id=call["id"],
        tool=call["name"],
        outcome=outcome,
        duration_ms=duration_ms,
        result_bytes=size,
        result_sha256=digest,
        flag=flag,
    )


def text_of(content: Iterable[Block]) -> str:
    """The text blocks, joined."""
    return "".join(str(block.get("text") or "") for block in content if block.get("type") == "text")


def answer_of_turn(entries: Iterable[Entry]) -> tuple[Entry | None, Stop | None]:
    """What the model said last in the latest turn, and what ended it."""
    answer, stop = None, None
    for entry in entries:
        if entry.by_user:
            answer, stop = None, None
        elif entry.type == "assistant":
            answer = entry
        elif entry.type == "status":
            stop = entry.stop
    return answer, stop


def output_of(stop: Stop | None, answer: Entry | None) -> dict[str, Any]:
    """What a person is to read: the text of the last answer, or what the model said in ending the task."""
    output: list[Block] = [block for block in (answer.content if answer else ()) if block.get("type") == "text"]
    if not output and stop is not None and stop.reason == "end_task" and stop.detail.get("summary"):
        output = [text_block(stop.detail["summary"])]
    return {"output": output, "output_text": text_of(output)}


def without_pixels(value: Any) -> Any:
    """Messages and blocks without the data of their images, which count by what they show and not by their bytes. What
    only looks like an image, as in the arguments of a call, is text."""
    if isinstance(value, list | tuple):
        return [without_pixels(item) for item in value]
    if not isinstance(value, dict):
        return value
    source = value.get("source")
    if value.get("type") == "image" and isinstance(source, dict) and source.get("type") == "base64":
        return {**value, "source": {**source, "data": ""}}
    return {**value, **{name: without_pixels(value[name]) for name in ("content", "source") if name in value}}


def lean_json(value: Any) -> bytes:
    """As JSON without the data of images, to tell how large it is."""
    return stored_json(without_pixels(value))


def all_text_of(value: Any) -> str:
    """Every text inside content blocks, also of documents and search results: what a model may read in them."""
    match value:
        case {"type": "base64"}:
            return ""
        case dict():
            parts = [item for name, item in value.items() if name in _TEXT_FIELDS]
            return "\n".join(filter(None, map(all_text_of, parts)))
        case list() | tuple():
            return "\n".join(filter(None, map(all_text_of, value)))
    return value if isinstance(value, str) else ""


#: Where blocks hold what can be read; ``data`` is that of a document in plain text.
_TEXT_FIELDS = frozenset({"text", "title", "context", "content", "source", "data"})


def user_content(value: str | Sequence[Block]) -> tuple[Block, ...]:
    """A user's input as content blocks."""
    return ({"type": "text", "text": value},) if isinstance(value, str) else tuple(value)
