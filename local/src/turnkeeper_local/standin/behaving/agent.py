"""The next answer of an agent on good behaviour."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from turnkeeper_local.standin.behaving.choosing import END_TASK, Candidate, fitting, usable
from turnkeeper_local.standin.behaving.reading import Question
from turnkeeper_local.standin.behaving.values import arguments_for, fits
from turnkeeper_local.standin.conversation import blocks, text_of
from turnkeeper_local.standin.directives import ScriptedAnswer, ToolCall
from turnkeeper_local.standin.scenario import shorten

_CALLS_A_TURN = 2
_SHOWN_CHARACTERS = 400
_SHOWN_ITEMS = 5
#: As the kit wraps what tools return (docs/security.md).
_WRAPPER = re.compile(r"^</?untrusted_tool_result\b[^>\n]*>$\n?", re.MULTILINE)


def behave(request: Mapping[str, Any], text: str, since: Sequence[Mapping[str, Any]]) -> ScriptedAnswer:
    """What to answer to ``text``, a user's, after the messages ``since`` then.

    At most two tools are called, each once, and none of whose arguments the schema would not have. Then comes what
    they returned in words, or ``end_task`` with these words as its summary where that is offered.
    """
    done = list(_results(since))
    question = Question(text, "\n".join(result for _, result, is_error in done if not is_error))
    choice = request.get("tool_choice") or {"type": "auto"}
    forced = choice["type"] in {"any", "tool"}
    if choice["type"] != "none" and (forced or len(done) < _CALLS_A_TURN):
        call = _next_call(request, question, choice, {name for name, _, _ in done})
        if call is not None:
            return ScriptedAnswer(calls=(ToolCall(call.name, call.arguments.values),))
    words = _words(text, done, has_tools=bool(request.get("tools")))
    end = next((tool for tool in request.get("tools") or () if tool.get("name") == END_TASK), None)
    if end is None or choice["type"] == "none":
        return ScriptedAnswer(text=words)
    failed = bool(done) and all(is_error for _, _, is_error in done)
    return _end(end, words, "failed" if failed else "completed", question)


def _next_call(
    request: Mapping[str, Any], question: Question, choice: Mapping[str, Any], called: set[str]
) -> Candidate | None:
    tools = usable(request)
    if choice["type"] in {"any", "tool"}:
        named = [tool for tool in tools if choice["type"] == "any" or tool["name"] == choice["name"]]
        made = ((str(tool["name"]), arguments_for(tool, question)) for tool in named)
        some = [Candidate(name, arguments, 0) for name, arguments in made if arguments is not None]
        return next(iter([*fitting(named, question), *some]), None)
    found = fitting(tools, question)
    if not called:
        return next(iter(found), None)
    return next((one for one in found if one.name not in called and one.fits_well), None)


def _end(tool: Mapping[str, Any], words: str, status: str, question: Question) -> ScriptedAnswer:
    """The call of ``end_task``; words alone where somebody gave it a schema that these do not fit."""
    made = arguments_for(tool, question)
    if made is None:
        return ScriptedAnswer(text=words)
    said = {**made.values, "status": status, "summary": words}
    return ScriptedAnswer(calls=(ToolCall(END_TASK, said if fits(tool, said) else made.values),))


# ---- what came back ----


def _results(since: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, bool]]:
    """Each call's tool, result as text, and whether that is an error."""
    names: dict[str, str] = {}
    for message in since:
        for block in blocks(message.get("content")):
            if block.get("type") == "tool_use":
                names[str(block.get("id"))] = str(block.get("name"))
            elif block.get("type") == "tool_result":
                text = _WRAPPER.sub("", text_of(block.get("content"))).strip()
                yield names.get(str(block.get("tool_use_id")), "a tool"), text, bool(block.get("is_error"))


def _words(text: str, done: Sequence[tuple[str, str, bool]], *, has_tools: bool) -> str:
    if done:
        return "\n".join(
            f"{name} did not work: {_short(result)}" if is_error else f"From {name}: {_short(_told(result))}"
            for name, result, is_error in done
        )
    said = shorten(text.strip()) or "(no text)"
    if not has_tools:  # there is nothing to talk about but what was said
        return said
    return f"You said: {said}\n(I am the stand-in model. No tool that I have fits this, and I know nothing myself.)"


def _told(result: str) -> str:
    """JSON as people read it; other texts as they are."""
    try:
        return _told_value(json.loads(result))
    except (ValueError, RecursionError):
        return result or "nothing"


def _told_value(value: Any) -> str:
    match value:
        case {"columns": [*_], "rows": [*rows]}:
            return _listed([", ".join(map(str, row)) if isinstance(row, list) else str(row) for row in rows])
        case dict():
            return ", ".join(f"{name} {_told_value(one)}" for name, one in value.items())
        case list():
            return _listed([_told_value(one) for one in value])
        case None | "":
            return "-"
    return str(value)


def _listed(items: Sequence[str]) -> str:
    more = len(items) - _SHOWN_ITEMS
    return "; ".join(items[:_SHOWN_ITEMS]) + (f"; and {more} more" if more > 0 else "") or "nothing"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _SHOWN_CHARACTERS else line[:_SHOWN_CHARACTERS].rstrip() + "…"
