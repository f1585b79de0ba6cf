"""The summary that takes the place of the older part of a conversation: what the model is asked, and what is made of
its words. Pure.

What is summarized is shown to the model as one text, not as the messages that it was: so nothing in it has to satisfy
the API's rules for conversations, any model can read it, and it can be cut to what fits. Beside the model's words the
summary holds what must not depend on them: the plan, and the names of things that calls were made with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.compaction import TOKEN_BYTES, Passage
from turnkeeper.core.session import Plan
from turnkeeper.core.transcript import Block, all_text_of, text_block
from turnkeeper.core.untrusted import SYSTEM_NOTE, unwrap_blocks

SYSTEM: Final = (
    "You write the summary that takes the place of the older part of a conversation between a user and an assistant "
    "that works with tools. The assistant goes on with your summary and the newest messages alone; it does not see the "
    "older part again. Write down, in this order: what the user wants, with every condition; what was done so far and "
    "what came of it; decisions that were taken and why; what is still open, and the next step; facts, numbers and "
    "identifiers that are needed later, letter for letter; which calls changed something, so that none is made twice. "
    "Where an earlier summary is part of it, carry over what still matters. Write nothing else: no greeting, no "
    f"judgement, no call of a tool.\n\n{SYSTEM_NOTE}"
)
ASK: Final = "Write the summary now."
#: Stands before the summary where the conversation is sent.
HEAD: Final = (
    "[The older part of this conversation was left out to save room. What follows are your own notes on it, written by "
    "you and not by the user. Go on from there; do not do again what was done.]"
)
NO_WORDS: Final = "(No summary could be written of it.)"

#: How much of a result, and of a call's arguments, is shown to whoever summarizes: the first of these that fits.
_CLIPS = (4_000, 1_000, 250, 0)
_MAX_NAMES = 200
#: A token of plain words has more letters than TOKEN_BYTES says; words are cut where they are this much longer.
_LONGEST = 2
_WHO = {"compaction": "earlier_summary"}
#: What looks like the name of a thing: a word with a digit in it, or a number. It looks ahead only so far: a text of
#: third parties may be one endless word.
_NAME = re.compile(r"(?<![\w./:@#-])(?:(?=[\w./:@#-]{0,63}\d)[A-Za-z][\w./:@#-]{3,63}|\d{4,20}(?!\w))")


def render(passages: Sequence[Passage], max_tokens: int) -> str:
    """The older part as text, of about so many tokens at most: results are cut first, then the middle of it all."""
    most = max(1_000, max_tokens * TOKEN_BYTES)
    text = ""
    for clip in _CLIPS:
        text = "\n".join(line for passage in passages for line in _lines(passage, clip))
        if len(text) <= most:
            return text
    half = most // 2
    return f"{text[:half]}\n[... {len(text) - most} characters left out ...]\n{text[-half:]}"


def content(words: str | None, passages: Sequence[Passage], plan: Plan | None, max_tokens: int) -> tuple[Block, ...]:
    """The blocks that stand in the place of the passages.

    Args:
        words: the model's; ``None`` where it had none.
        plan: the task's, as it stands.
        max_tokens: what the model's words may have. They and the plan are cut where they are much longer: what makes
            room must not be what takes it.
    """
    room = max_tokens * TOKEN_BYTES
    said = _clipped((words or "").strip(), room * _LONGEST) or NO_WORDS
    facts = [HEAD, said]
    if plan is not None:
        items = "\n".join(f"- [{item.state}] {item.title}" for item in plan.items)
        facts.append("The plan as it stands: " + _clipped(f"{plan.goal}\n{items}", room))
    if names := _names(passages, said, room // 2):
        facts.append(f"Names and numbers that came up: {', '.join(names)}")
    return (text_block("\n\n".join(facts)),)


def _lines(passage: Passage, clip: int) -> Iterator[str]:
    yield f"<{_WHO.get(passage.entry.type, passage.entry.type)}>"
    outcomes = {outcome.tool_use_id: outcome.outcome for outcome in passage.entry.outcomes}
    for _, block in passage.blocks:
        match block.get("type"):
            case "text":
                yield str(block["text"])
            case "tool_use":
                yield f"call of {block['name']}: {_clipped(_json(block.get('input')), max(clip, 200))}"
            case "tool_result":
                outcome = outcomes.get(str(block.get("tool_use_id")), "ok")
                yield f"result ({outcome}): {_clipped(_text_of(block), clip)}"
            case "thinking" | "redacted_thinking":
                pass
            case other:
                yield f"{other}: {_clipped(_text_of(block), clip)}"


def _text_of(block: Block) -> str:
    inner = block.get("content")
    parts = inner if isinstance(inner, list) else [block]
    return "\n".join(map(all_text_of, unwrap_blocks(parts)))


def _clipped(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]} [... {len(text) - most} more characters]"


def _json(value: Any) -> str:
    return sorted_json(value).decode("utf-8", "replace")


# ---- names of things ----


def _names(passages: Sequence[Passage], said: str, most: int) -> list[str]:
    """Those that the summary does not name itself: first what calls were made with, then what was read, also in results
    that were left out before. The latest come first: what is worked on now matters most."""
    blocks = [block for passage in reversed(passages) for block in passage.entry.content]
    called = (name for block in blocks if block.get("type") == "tool_use" for name in _named(block.get("input")))
    read = (name for block in blocks for name in _NAME.findall(_text_of(block)))
    names: dict[str, None] = {}
    for name in _distinct([called, read]):
        if len(names) >= _MAX_NAMES or most < len(name):
            break
        if name not in said:
            names[name] = None
            most -= len(name)
    return list(names)


def _named(arguments: Any) -> list[str]:
    return _NAME.findall(_json(arguments))


def _distinct(sources: Iterable[Iterable[str]]) -> Iterator[str]:
    seen: set[str] = set()
    for source in sources:
        for found in source:
            name = found.rstrip("./:-")
            if name not in seen:
                seen.add(name)
                yield name
