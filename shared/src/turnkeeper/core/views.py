"""What of a session is told to whom: all of it, or what its end user may see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

View = Literal["full", "user"]
VIEWS: Mapping[str, View] = {"full": "full", "user": "user"}

#: Deltas that an end user is told.
_FOR_USERS = frozenset({"text", "tool_started", "tool_progress", "tool_finished", "waiting", "handed_off", "reset"})


def delta_seen(view: View, delta: dict[str, Any]) -> dict[str, Any] | None:
    """A delta as it is told in a view; ``None`` where it is not."""
    return delta if view == "full" or delta["type"] in _FOR_USERS else None


def event_seen(view: View, event: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """An event's document as it is told in a view; ``None`` where it is not.

    An end user is told what was said, which tools were called and how that came out, and how the session stands: what
    is named here and nothing else, so that what events come to say besides stays inside. No arguments, no results, no
    costs, no models, no runners.
    """
    if view == "full":
        return event
    told: dict[str, Any] = {}
    match event["type"]:
        case "user" if not event.get("by_kit"):
            told["content"] = [_only(block, "type", "text") for block in _blocks(event, "text")]
        case "assistant":
            names = {"text": ("type", "text"), "tool_use": ("type", "id", "name")}
            told["content"] = [_only(block, *names[block["type"]]) for block in _blocks(event, *names)]
        case "tool_results":
            results = event.get("results") or ()
            told["results"] = [_only(each, "tool_use_id", "tool", "is_error", "outcome") for each in results]
        case "rewind":
            told["left_out"] = [_only(each, "seq") for each in event.get("left_out") or ()]
        case "status":
            told |= _only(event, "status")
            if (stop := event.get("stop")) is not None:
                told["stop"] = stop_for_users(stop)
        case _:
            return None
    return {**_only(event, "seq", "type", "at"), **told}


def _blocks(event: Mapping[str, Any], *kinds: str) -> list[Mapping[str, Any]]:
    return [block for block in event.get("content") or () if block.get("type") in kinds]


def _only(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value[name] for name in names if name in value}


def stop_for_users(stop: Mapping[str, Any]) -> dict[str, Any]:
    """Its reason, and what an agent says itself in ending its task; other details are the operator's."""
    said = _only(stop.get("detail") or {}, "status", "summary") if stop["reason"] == "end_task" else {}
    return {"reason": stop["reason"], "detail": said}
