"""Where a request is marked for the prompt cache.

The API takes at most four markers a request, and in its order (tools, system, messages, the whole request) none that
lives an hour behind one that lives five minutes. An agent's author may set markers of their own in ``model_options``:
on the provider's tools there, and on the request as a whole (*automatic caching*: the API marks the last block). They
stay as they are. The kit marks what is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from turnkeeper.core.sent import Sent

Block = dict[str, Any]
Message = dict[str, Any]

MAX_MARKERS = 4

_MARKABLE = frozenset({"text", "tool_use", "tool_result", "image", "document"})


def options_problem(options: Mapping[str, Any]) -> str | None:
    """What the API would refuse of the author's own markers, in words; ``None`` where it takes them."""
    markers = [*_of_tools(options), *_of_whole(options)]
    for marker in markers:
        known = isinstance(marker, Mapping) and set(marker) <= {"type", "ttl"} and marker.get("type") == "ephemeral"
        if not known or marker.get("ttl", "5m") not in ("5m", "1h"):
            return "cache_control is {'type': 'ephemeral'}, and may say a 'ttl' of '5m' or '1h'"
    if len(markers) > MAX_MARKERS:
        return f"the API takes at most {MAX_MARKERS} markers (cache_control) a request, not {len(markers)}"
    hours = [_lives_an_hour([marker]) for marker in markers]
    if hours != sorted(hours, reverse=True):
        return "the API takes no marker (cache_control) of '1h' behind one of '5m': tools come first, then the request"
    return None


class Marked(NamedTuple):
    tools: list[Block]
    system: list[Block]
    messages: list[Message]


def marked(
    tools: Sequence[Block], system: Sequence[Block], messages: Sequence[Message], options: Mapping[str, Any]
) -> Marked:
    """The parts of a request with the kit's markers, as many as the author's leave room for. In the order in which they
    are last to give way:

    - behind the last user message, so that the next step reads the conversation so far from the cache
    - behind the system prompt, which all sessions share
    - behind the user message before, where this step's own read begins, however many blocks the last answer had
    - behind the tools

    Args:
        tools: the agent's own; those among the options come after them.
        options: the author's. Where a marker among them lives an hour, those of the kit before it do too.
    """
    of_tools, of_whole = _of_tools(options), _of_whole(options)
    before, last = _ends(messages)
    if of_whole and last == len(messages) - 1:
        last = None  # The API marks it by itself.
    room = max(0, MAX_MARKERS - len(of_tools) - len(of_whole))
    wanted = [*([last] if last is not None else []), *(["system"] if system else [])]
    wanted += [*([before] if before is not None else []), *(["tools"] if tools else [])]
    chosen = wanted[:room]
    early, late = _marker([*of_tools, *of_whole]), _marker(of_whole)
    return Marked(
        [*tools[:-1], {**tools[-1], **early}] if "tools" in chosen else list(tools),
        [*system[:-1], {**system[-1], **late}] if "system" in chosen else list(system),
        _with_markers(messages, [at for at in chosen if isinstance(at, int)], late),
    )


def _ends(messages: Sequence[Message]) -> tuple[int | None, int | None]:
    """The last two messages of the user's, where they can be marked."""
    users = (at for at in range(len(messages) - 1, -1, -1) if messages[at]["role"] == "user")
    last, before = [*islice(users, 2), None, None][:2]
    return _if_markable(messages, before), _if_markable(messages, last)


def _if_markable(messages: Sequence[Message], at: int | None) -> int | None:
    return at if at is not None and _markable(messages[at]) is not None else None


def _markable(message: Message) -> int | None:
    """The last block that can carry a marker."""
    kinds = [block.get("type") in _MARKABLE for block in message["content"]]
    return len(kinds) - 1 - kinds[::-1].index(True) if True in kinds else None


def _with_markers(messages: Sequence[Message], ats: Sequence[int], marker: Mapping[str, Any]) -> list[Message]:
    marked = list(messages)
    for at in ats:
        marked[at] = _with_marker(marked[at], marker)
    return marked


def _with_marker(message: Message, marker: Mapping[str, Any]) -> Message:
    at = _markable(message)
    if isinstance(message, Sent) and at is not None:
        return message.marked(at, marker)
    return {**message, "content": [{**b, **marker} if n == at else b for n, b in enumerate(message["content"])]}


def _marker(behind: Sequence[Any]) -> dict[str, Any]:
    """One of the kit's, with these of the author's behind it."""
    hour = {"ttl": "1h"} if _lives_an_hour(behind) else {}
    return {"cache_control": {"type": "ephemeral", **hour}}


def _lives_an_hour(markers: Sequence[Any]) -> bool:
    return any(isinstance(marker, Mapping) and marker.get("ttl") == "1h" for marker in markers)


def _of_tools(options: Mapping[str, Any]) -> list[Any]:
    tools = options.get("tools") or ()
    return [tool["cache_control"] for tool in tools if isinstance(tool, Mapping) and tool.get("cache_control")]


def _of_whole(options: Mapping[str, Any]) -> list[Any]:
    return [options["cache_control"]] if options.get("cache_control") else []
