"""What a user may say: a text, or content blocks of a user message as the Messages API takes them."""

from __future__ import annotations

from typing import Any

#: Blocks that a user message may hold. Results of tools are the kit's own to write.
BLOCK_TYPES = frozenset({"text", "image", "document"})
#: Where an image or a document may come from.
SOURCE_TYPES = frozenset({"base64", "text", "url", "content"})
MAX_BLOCKS = 1_000
#: Of a block, and of a job's metadata.
MAX_DEPTH = 32


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


def is_deeper(value: Any, most: int) -> bool:
    """Whether JSON is nested deeper than this; without recursion, which is what this is to prevent."""
    level = [value]
    for _ in range(most):
        level = [
            item
            for each in level
            if isinstance(each, dict | list)
            for item in (each.values() if isinstance(each, dict) else each)
        ]
        if not level:
            return False
    return any(isinstance(each, dict | list) for each in level)


def _block_problem(block: Any) -> str | None:
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        return "it has to be an object with a type"
    if block["type"] not in BLOCK_TYPES:
        return f"type {block['type'][:64]!r}: only {', '.join(sorted(BLOCK_TYPES))} can be said by a user"
    if is_deeper(block, MAX_DEPTH):
        return f"it is nested more than {MAX_DEPTH} deep"
    if block["type"] == "text":
        return None if isinstance(block.get("text"), str) else "text has to be a string"
    return _source_problem(block.get("source"))


def _source_problem(source: Any) -> str | None:
    """Files of all tenants are in one place at the provider: a file id could be anybody's."""
    if not isinstance(source, dict):
        return "source has to be an object"
    if source.get("type") not in SOURCE_TYPES:
        return f"a source is one of {', '.join(sorted(SOURCE_TYPES))}"
    if source["type"] == "url" and not str(source.get("url")).startswith("https://"):
        return "the url of a source begins with https://"
    inner = source.get("content")
    parts = inner if isinstance(inner, list) else []
    return next(filter(None, map(_block_problem, parts)), None)
