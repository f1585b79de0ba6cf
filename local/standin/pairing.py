"""Every tool_use has exactly one tool_result, in the very next turn, before anything else in it.

The API joins consecutive messages of one role into one turn, and so does this; ``system`` messages in between do
not separate what they stand between.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from local.standin.checks import Json
from local.standin.errors import invalid


@dataclass(slots=True)
class _Turn:
    role: str
    index: int
    #: Each block with the index of its message and its own.
    blocks: list[tuple[int, int, Json]] = field(default_factory=list)


def check_pairing(messages: Sequence[Json]) -> None:
    """Check validated messages; raises the API's 400."""
    seen: set[str] = set()
    open_calls: dict[str, None] = {}
    caller = 0
    for turn in _turns(messages):
        if turn.role == "user":
            _answer(turn, open_calls, caller)
            open_calls = {}
            continue
        for index, position, block in turn.blocks:
            if block["type"] != "tool_use":
                continue
            if block["id"] in seen:
                raise invalid(f"messages.{index}.content.{position}: `tool_use` ids must be unique")
            seen.add(block["id"])
            open_calls[block["id"]] = None
            caller = index
    if open_calls:
        raise _unanswered(caller, open_calls)


def _answer(turn: _Turn, open_calls: dict[str, None], caller: int) -> None:
    answered: set[str] = set()
    results_over = False
    for index, position, block in turn.blocks:
        if block["type"] != "tool_result":
            results_over = True
            continue
        at, name = f"messages.{index}.content.{position}", block["tool_use_id"]
        if name not in open_calls:
            raise invalid(
                f"{at}: unexpected `tool_use_id` found in `tool_result` blocks: {name}. Each `tool_result` block "
                "must have a corresponding `tool_use` block in the previous message."
            )
        if name in answered:
            raise invalid(
                f"{at}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {name}"
            )
        if results_over:
            raise _unanswered(caller, [name], " `tool_result` blocks must come first in its content.")
        answered.add(name)
    if missing := [name for name in open_calls if name not in answered]:
        raise _unanswered(caller, missing)


def _unanswered(caller: int, names: Sequence[str] | dict[str, None], hint: str = "") -> Exception:
    return invalid(
        f"messages.{caller}: `tool_use` ids were found without `tool_result` blocks immediately after: "
        f"{', '.join(names)}. Each `tool_use` block must have a corresponding `tool_result` block in the next "
        f"message.{hint}"
    )


def _turns(messages: Sequence[Json]) -> Iterator[_Turn]:
    current: _Turn | None = None
    for index, message in enumerate(messages):
        if message["role"] == "system":
            continue
        if current is None or current.role != message["role"]:
            if current is not None:
                yield current
            current = _Turn(message["role"], index)
        content = message["content"]
        if isinstance(content, str):
            current.blocks.append((index, 0, {"type": "text", "text": content}))
        else:
            current.blocks.extend((index, position, block) for position, block in enumerate(content))
    if current is not None:
        yield current
