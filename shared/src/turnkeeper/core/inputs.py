"""What a user may say: a text, or content blocks of a user message as the Messages API takes them."""

from __future__ import annotations

from typing import Any

#: Blocks that a user message may hold. Results of tools are the kit's own to write.
BLOCK_TYPES = frozenset({"text", "image", "document"})
MAX_BLOCKS = 1_000


def input_problem(value: Any) -> str | None:
    """What is wrong with an input, in words for its sender; ``None`` where it can be taken."""
    if isinstance(value, str):
        return None if value.strip() else "the input is empty"
    if not isinstance(value, list):
        return "the input has to be a text or a list of content blocks"
    if not value:
        return "the input is empty"
    if len(value) > MAX_BLOCKS:
        return f"the input has over {MAX_BLOCKS} content blocks"
    for index, block in enumerate(value):
        if problem := _block_problem(block):
            return f"content block {index}: {problem}"
    if all(block["type"] == "text" and not block["text"].strip() for block in value):
        return "the input is empty"
    return None


def _block_problem(block: Any) -> str | None:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        return "it has to be an object with a type"
    if block["type"] not in BLOCK_TYPES:
        return f"type {block['type'][:64]!r}: only {', '.join(sorted(BLOCK_TYPES))} can be said by a user"
    if block["type"] == "text":
        return None if isinstance(block.get("text"), str) else "text has to be a string"
    return None if isinstance(block.get("source"), dict) else "source has to be an object"
