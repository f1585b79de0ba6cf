"""What the model answered, as the kit takes it in: before anything of it is stored or run.

Calls are known by their ids, to idempotency keys and kept results as to the API: so each gets one that no other call of
the session has. Whatever cannot be arguments is kept as text beside empty ones, and the call is answered as invalid.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from turnkeeper.core.canonical import readable
from turnkeeper.core.inputs import is_deeper
from turnkeeper.core.transcript import Block, text_block

#: Ids of calls that the API takes.
CALL_ID = re.compile(r"[a-zA-Z0-9_-]{1,128}")
#: Arguments that are nested deeper are no arguments: neither the table nor every tool's parser takes them.
MAX_DEPTH = 32
#: Results of the provider's own tools are nested; the API's parser takes about twice as much.
MAX_BLOCK_DEPTH = 100
#: Of broken arguments, what is kept and shown to the model.
MAX_RAW_CHARS = 2_000


def admit(content: Sequence[Block], taken: Collection[str]) -> list[Block]:
    """The answer with calls that can be told apart and run.

    Args:
        taken: ids of all calls that the session has made.
    """
    ids: set[str] = set()
    admitted: list[Block] = []
    for index, block in enumerate(content):
        if block.get("type") == "tool_use":
            call = {**block, "id": _unique(block.get("id"), index, taken, ids), "name": str(block.get("name") or "")}
            ids.add(call["id"])
            admitted.append(_with_arguments(call))
        else:
            admitted.append(_readable_block(block))
    return [readable(block) for block in admitted]


def call_problem(call: Block) -> str | None:
    """Why a call cannot be run, in words for the model; ``None`` where it can."""
    if "raw_input" not in call:
        return None
    return f"The arguments have to be a JSON object, nested at most {MAX_DEPTH} deep. These were: {call['raw_input']}"


def _unique(wanted: Any, index: int, taken: Collection[str], ids: Collection[str]) -> str:
    legal = wanted if isinstance(wanted, str) and CALL_ID.fullmatch(wanted) else f"call_{index}"
    unique, number = legal, 1
    while unique in taken or unique in ids:
        number += 1
        unique = f"{legal[:100]}_{number}"
    return unique


def _with_arguments(call: Block) -> Block:
    arguments = call.get("input")
    if "raw_input" in call or not _fits(arguments):
        raw = call["raw_input"] if "raw_input" in call else _text(arguments)
        return {**call, "input": {}, "raw_input": str(raw)[:MAX_RAW_CHARS]}
    return call


def _readable_block(block: Block) -> Block:
    """What is no block, or one that neither the table nor the API's parser takes, is kept as text."""
    if not isinstance(block.get("type"), str) or is_deeper(block, MAX_BLOCK_DEPTH) or not _is_finite(block):
        return text_block(_text(block)[:MAX_RAW_CHARS])
    if block["type"] == "text" and not isinstance(block.get("text"), str):
        return {**block, "text": "" if block.get("text") is None else _text(block["text"])[:MAX_RAW_CHARS]}
    return block


def _fits(arguments: Any) -> bool:
    return isinstance(arguments, dict) and not is_deeper(arguments, MAX_DEPTH) and _is_finite(arguments)


def _is_finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return all(map(_is_finite, parts))


def _text(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        return "something that cannot be written as JSON"
