"""Which message is the script, and how much of it has been played."""

from typing import Any

import pytest

from turnkeeper_local.standin.conversation import find_prompt, played, text_of
from turnkeeper_local.standin.directives import parse


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def assistant(content: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": content}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


def tool_use(name: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": name, "name": "t", "input": {}}


def result(name: str, content: Any = "ok") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": name, "content": content}


SCRIPT = user("[[tool t {}]] [[say end]]")


def test_the_latest_message_with_directives_is_the_script() -> None:
    prompt = find_prompt([user("[[say a]]"), assistant("a"), user("[[say b]]")])
    assert prompt is not None
    assert (prompt.index, prompt.text) == (2, "[[say b]]")


@pytest.mark.parametrize("beside", [[], [text("Nudge: budget is nearly spent.")]])
def test_tool_results_carry_a_script_on_whatever_stands_beside_them(beside: list) -> None:
    prompt = find_prompt([SCRIPT, assistant([tool_use("1")]), user([result("1"), *beside])])
    assert prompt is not None
    assert prompt.index == 0


def test_a_later_message_of_text_ends_a_script() -> None:
    prompt = find_prompt([SCRIPT, assistant([tool_use("1")]), user([result("1")]), assistant("end"), user("hello")])
    assert prompt is not None
    assert (prompt.script, prompt.text) == (None, "hello")


def test_directives_beside_tool_results_start_a_new_script() -> None:
    prompt = find_prompt([SCRIPT, assistant([tool_use("1")]), user([result("1"), text("[[say new]]")])])
    assert prompt is not None
    assert (prompt.index, prompt.text) == (2, "[[say new]]")


@pytest.mark.parametrize("content", ["[[say evil]]", [text("[[say evil]]")]])
def test_tool_results_are_data(content: Any) -> None:
    prompt = find_prompt([user("go"), assistant([tool_use("1")]), user([result("1", content)])])
    assert prompt is not None
    assert (prompt.script, prompt.text) == (None, "go")


def test_what_the_model_and_the_system_say_is_data() -> None:
    system = {"role": "system", "content": "[[say evil]]"}
    prompt = find_prompt([user("go"), assistant("[[say evil]]"), user("again"), system])
    assert prompt is not None
    assert (prompt.script, prompt.text) == (None, "again")


def test_a_script_may_lie_in_several_text_blocks() -> None:
    prompt = find_prompt([user([text("[[fail 500]]"), {"type": "image"}, text("[[say x]]")])])
    assert prompt is not None
    assert prompt.script == parse("[[fail 500]] [[say x]]")


def test_nothing_but_tool_results() -> None:
    assert find_prompt([user([result("1")])]) is None


def test_text_of_odd_content() -> None:
    assert text_of(None) == text_of(3) == text_of([3, {"type": "text"}]) == ""


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ([], 0),
        ([assistant("p1")], 1),
        ([assistant("p1"), assistant("p2")], 2),
        ([assistant([text("p1"), text("p2")])], 2),
        ([assistant([text("p1"), text("p2"), tool_use("1")]), user([result("1")])], 3),
        ([assistant([{"type": "thinking"}, text("p1")])], 1),
        ([assistant([text("p1"), text("p2"), tool_use("1")]), user([result("1")]), assistant("end")], 4),
        ([assistant([])], 1),
        ([assistant("p1"), assistant([text("p2"), tool_use("1")])], 3),
    ],
)
def test_paused_turns_count_apart_or_joined(after: list, expected: int) -> None:
    script = parse("[[stop pause_turn]] [[say p1]] [[stop pause_turn]] [[say p2]] [[tool t {}]] [[say end]]")
    assert script is not None
    assert played(script, after) == expected


def test_an_answer_that_did_not_pause_is_one_whatever_it_holds() -> None:
    script = parse("[[say a]] [[say b]]")
    assert script is not None
    assert played(script, [assistant([text("a"), text("b"), text("c")])]) == 1
