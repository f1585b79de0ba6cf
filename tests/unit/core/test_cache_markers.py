"""Where a request is marked for the cache: the author's markers first, the kit's where there is room."""

from __future__ import annotations

from typing import Any

import pytest

from turnkeeper import Agent
from turnkeeper.core.cache_markers import marked, options_problem

SHORT = {"type": "ephemeral"}
LONG = {"type": "ephemeral", "ttl": "1h"}
TOOLS = [{"name": "a"}, {"name": "b"}]
SYSTEM = [{"type": "text", "text": "s"}]
ODD = {"type": "search_result", "source": "s", "title": "t", "content": []}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


TALK = [{"role": role, "content": [text(role)]} for role in ("user", "assistant", "user", "assistant", "user")]


def searching(*markers: Any) -> list[dict[str, Any]]:
    return [{"type": "web_search_20260209", "name": f"s{n}", "cache_control": m} for n, m in enumerate(markers)]


def places(options: dict[str, Any], messages: list[dict[str, Any]] = TALK) -> list[str]:
    """Where the kit's markers are, in the order of the API, with an ``h`` where one lives an hour."""
    done = marked(TOOLS, SYSTEM, messages, options)
    blocks = [("tools", each) for each in done.tools] + [("system", each) for each in done.system]
    blocks += [(str(n), block) for n, message in enumerate(done.messages) for block in message["content"]]
    found = [(at, block["cache_control"]) for at, block in blocks if "cache_control" in block]
    return [f"{at}h" if marker == LONG else at for at, marker in found]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["tools", "system", "2", "4"]),
        ({"cache_control": None, "tools": searching(None)}, ["tools", "system", "2", "4"]),
        # The API itself marks the end of the conversation.
        ({"cache_control": SHORT}, ["tools", "system", "2"]),
        ({"cache_control": LONG}, ["toolsh", "systemh", "2h"]),
        ({"tools": searching(SHORT)}, ["system", "2", "4"]),
        ({"tools": searching(LONG)}, ["system", "2", "4"]),
        ({"tools": searching(SHORT, SHORT)}, ["system", "4"]),
        ({"tools": searching(SHORT, SHORT), "cache_control": SHORT}, ["system"]),
        ({"tools": searching(LONG, LONG, LONG)}, ["4"]),
        ({"tools": searching(LONG, LONG, SHORT), "cache_control": SHORT}, []),
        ({"tools": searching(SHORT, SHORT, SHORT, SHORT)}, []),
    ],
)
def test_the_kits_markers_make_room(options: dict[str, Any], expected: list[str]) -> None:
    assert options_problem(options) is None
    assert places(options) == expected


def test_a_conversation_that_ends_with_a_paused_answer_is_marked_before_it() -> None:
    assert places({"cache_control": SHORT}, TALK[:4]) == ["system", "0", "2"]


def test_what_is_behind_tools_of_an_hour_may_live_shorter() -> None:
    assert places({"tools": searching(LONG), "cache_control": SHORT}) == ["system", "2"]


def test_a_block_that_cannot_carry_a_marker_is_passed_over() -> None:
    done = marked([], [], [{"role": "user", "content": [text("a"), ODD]}], {})
    assert ["cache_control" in block for block in done.messages[0]["content"]] == [True, False]
    assert marked([], [], [{"role": "user", "content": [ODD]}], {}).messages[0]["content"] == [ODD]
    assert marked([], [], [], {}).messages == []


def test_nothing_is_changed_by_being_marked() -> None:
    marked(TOOLS, SYSTEM, TALK, {})
    assert "cache_control" not in str([TOOLS, SYSTEM, TALK])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"cache_control": SHORT, "tools": searching(*[SHORT] * 4)}, "at most 4 markers"),
        ({"tools": searching(*[LONG] * 5)}, "at most 4 markers"),
        ({"cache_control": LONG, "tools": searching(SHORT)}, "behind one of '5m'"),
        ({"tools": searching(SHORT, LONG)}, "behind one of '5m'"),
        ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "'5m' or '1h'"),
        ({"cache_control": {"type": "persistent"}}, "'5m' or '1h'"),
        ({"cache_control": {"type": "ephemeral", "scope": "x"}}, "'5m' or '1h'"),
        ({"cache_control": "yes"}, "'5m' or '1h'"),
        ({"tools": searching(True)}, "'5m' or '1h'"),
    ],
)
def test_what_the_api_refuses_is_refused_when_the_agent_is_made(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=f"'marking': in model_options: .*{words}"):
        Agent(name="marking", model="m", system="s", model_options=options)
