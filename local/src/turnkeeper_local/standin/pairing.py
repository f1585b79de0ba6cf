"""Every tool_use has exactly one tool_result, in the very next turn, before anything else in it.

The API joins consecutive messages of one role into one turn, and so does this; ``system`` messages in between do
not separate what they stand between. What a server tool did stands behind its call in the same turn, unless the turn
is the last one (it was paused) or waits for a tool that the server tool has called.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from turnkeeper_local.standin.checks import Json
from turnkeeper_local.standin.errors import invalid

_SERVER_CALLS = frozenset({"server_tool_use", "mcp_tool_use"})


@dataclass(slots=True)
class _Turn:
    role: str
    index: int
    #: Each block with the index of its message and its own.
    blocks: list[tuple[int, int, Json]] = field(default_factory=list)


def check_pairing(messages: Sequence[Json]) -> None:
    """Check validated messages; raises the API's 400."""
    _check_client_tools(messages)
    _check_server_tools(messages)


def _check_server_tools(messages: Sequence[Json]) -> None:
    open_calls: dict[str, tuple[int, Json]] = {}
    waiting: set[str] = set()
    for turn in _turns(messages):
        if turn.role == "user":
            for name, (number, call) in open_calls.items():
                if name not in waiting:
                    raise invalid(
                        f"messages.{number}: `{call['name']}` tool use with id `{name}` was found without a "
                        f"corresponding `{_result_of(call)}` block"
                    )
            continue
        waiting = set()
        for index, position, block in turn.blocks:
            kind = block["type"]
            if kind in _SERVER_CALLS:
                open_calls[block["id"]] = (index, block)
            elif kind == "tool_use":
                caller = block.get("caller")
                waiting.add(str(caller.get("tool_id")) if isinstance(caller, dict) else "")
            elif kind.endswith("_tool_result"):
                name = block["tool_use_id"]
                if open_calls.pop(name, None) is None:
                    missing = "mcp_tool_use" if kind == "mcp_tool_result" else "server_tool_use"
                    raise invalid(
                        f"messages.{index}.content.{position}: unexpected `tool_use_id` found in `{kind}` blocks: "
                        f"{name}. Each `{kind}` block must have a corresponding `{missing}` block before it."
                    )


def _result_of(call: Json) -> str:
    if call["type"] == "mcp_tool_use":
        return "mcp_tool_result"
    return "tool_search_tool_result" if call["name"].startswith("tool_search_tool") else f"{call['name']}_tool_result"


def _check_client_tools(messages: Sequence[Json]) -> None:
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
