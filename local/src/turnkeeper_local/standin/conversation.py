"""Which message of a conversation is the script, and how much of it has been played. Pure.

Nothing is remembered between requests: the same conversation is at the same position whoever sends it, and after
any restart. Only what users write as text is read as a script; the system prompt, tool results and the model's own
words are data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnkeeper_local.standin.directives import THINKING, DirectiveError, Script, parse

Message = Mapping[str, Any]
Block = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """The user message that is being answered: the latest one with directives, or the one that ended them."""

    index: int
    text: str
    script: Script | None


def blocks(content: object) -> list[Block]:
    """Content as blocks; a string is shorthand for one text block."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, Mapping)] if isinstance(content, list) else []


def text_of(content: object) -> str:
    """The text blocks of a message, joined; what stands inside tool results is not among them."""
    return "\n".join(
        block["text"] for block in blocks(content) if block.get("type") == "text" and isinstance(block.get("text"), str)
    )


def block_at(messages: Sequence[Message], message: int, block: int) -> Block | None:
    """The block of these numbers, from 0; None where there is none."""
    found = blocks(messages[message].get("content")) if message < len(messages) else []
    return found[block] if block < len(found) else None


def has_tool_results(content: object) -> bool:
    return any(block.get("type") == "tool_result" for block in blocks(content))


def find_prompt(messages: Sequence[Message]) -> Prompt | None:
    """The message that decides the answer, from the end: one with directives, else the first that ends a script.

    A message with tool results and no directives of its own carries a script on, whatever text stands beside the
    results. None where the conversation holds neither (it was cut down to tool results).

    Raises:
        DirectiveError: that message holds a malformed directive.
    """
    for index in range(len(messages) - 1, -1, -1):
        message = messages[index]
        if message.get("role") != "user":
            continue
        text = text_of(message.get("content"))
        script = parse(text) if "[[" in text else None
        if script is not None or not has_tool_results(message.get("content")):
            return Prompt(index, text, script)
    return None


def has_script(messages: Iterable[Message]) -> bool:
    """Whether a user wrote directives in any of these messages."""
    texts = (text_of(message.get("content")) for message in messages if message.get("role") == "user")
    return any(_holds_directives(text) for text in texts if "[[" in text)


def _holds_directives(text: str) -> bool:
    try:
        return parse(text) is not None
    except DirectiveError:
        return True


def played(script: Script, messages: Iterable[Message], before: int = 0) -> int:
    """How many answers of ``script`` were given: those that stand in ``messages``, the part of the conversation after
    it, and ``before`` these.

    Each assistant message is one answer. Only a paused turn may hold several: a client goes on with it by sending
    it back, and may put what follows into the same message.
    """
    position = before
    for message in messages:
        if message.get("role") != "assistant":
            continue
        left = sum(block.get("type") not in THINKING for block in blocks(message.get("content")))
        while True:
            answer = script.answer_at(position)
            position += 1
            left -= answer.block_count
            if answer.stop_reason != "pause_turn" or left <= 0:
                break
    return position


def tool_use_ids(messages: Iterable[Message]) -> list[str]:
    """Ids of every tool call made so far, in order; they tell apart conversations that began alike."""
    return [
        str(block.get("id"))
        for message in messages
        if message.get("role") == "assistant"
        for block in blocks(message.get("content"))
        if block.get("type") == "tool_use"
    ]


def last_tool_result(messages: Sequence[Message]) -> str:
    """Text of the latest tool result, or the empty string."""
    for message in reversed(messages):
        if message.get("role") == "user":
            for block in reversed(blocks(message.get("content"))):
                if block.get("type") == "tool_result":
                    return text_of(block.get("content"))
    return ""
