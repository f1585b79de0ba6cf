"""What is made of the older part of a conversation."""

from __future__ import annotations

from typing import Any

from turnkeeper.core.compaction import Passage
from turnkeeper.core.projection import Place
from turnkeeper.core.session import Entry, Plan, PlanItem, ToolOutcome
from turnkeeper.core.summary import HEAD, NO_WORDS, content, render
from turnkeeper.core.transcript import text_block, text_of, tool_result
from turnkeeper.core.untrusted import wrap

NOW = "2026-03-02T09:30:00.000Z"


def passage(seq: int, kind: Any, *blocks: dict[str, Any], **more: Any) -> Passage:
    entry = Entry(seq=seq, type=kind, at=NOW, content=blocks, **more)
    return Passage(entry, tuple((Place(seq, index), block) for index, block in enumerate(blocks)))


def call(**arguments: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": "look", "input": arguments}


def result(text: str) -> dict[str, Any]:
    wrapped = wrap([text_block(text)], tool="look", nonce="n" * 16, max_bytes=1_000_000)
    return tool_result("toolu_1", list(wrapped.content), is_error=False)


DENIED = ToolOutcome(tool_use_id="toolu_1", tool="look", outcome="denied", duration_ms=1)
PASSAGES = [
    passage(1, "user", text_block("What of INV-77?")),
    passage(
        2, "assistant", {"type": "thinking", "thinking": "secret 123456"}, text_block("I look."), call(id="INV-77")
    ),
    passage(3, "tool_results", result("see order/2041-b and 90210"), outcomes=(DENIED,)),
    passage(4, "user", {"type": "image", "source": {"type": "base64", "data": "A1" * 9}}),
]


def test_all_that_was_said_is_shown_but_thoughts_and_wrappings() -> None:
    assert render(PASSAGES, 10_000).splitlines() == [
        "<user>",
        "What of INV-77?",
        "<assistant>",
        "I look.",
        'call of look: {"id":"INV-77"}',
        "<tool_results>",
        "result (denied): see order/2041-b and 90210",
        "<user>",
        "image: ",
    ]


def test_a_document_in_a_result_is_shown_without_its_wrapping() -> None:
    found = {"type": "search_result", "source": "s", "title": "t", "content": [text_block("a"), text_block("b")]}
    wrapped = wrap([found], tool="look", nonce="n" * 16, max_bytes=1_000)
    of_it = [passage(1, "tool_results", tool_result("toolu_1", list(wrapped.content), is_error=False))]
    shown = render(of_it, 10_000)
    assert "untrusted_tool_result" not in shown
    assert [line for line in shown.splitlines() if line in {"a", "b"}] == ["a", "b"]


def test_results_are_cut_before_words() -> None:
    long = [passage(1, "user", text_block("w" * 900)), passage(2, "tool_results", result("r" * 9_000))]
    text = render(long, 500)
    assert len(text) <= 1_500
    assert "w" * 900 in text
    assert "more characters" in text


def test_what_is_too_long_however_it_is_cut_loses_its_middle() -> None:
    text = render([passage(seq, "user", text_block(f"{seq} " + "w" * 5_000)) for seq in range(1, 9)], 1_000)
    assert len(text) < 3_100
    assert text.startswith("<user>\n1 w")
    assert "characters left out" in text


def test_names_that_the_summary_has_not_are_kept_beside_it() -> None:
    plan = Plan(goal="close it", items=(PlanItem(title="look", state="done"),))
    text = text_of(content("It is about INV-77.", PASSAGES, plan, 1_000))
    assert text.startswith(HEAD)
    assert "The plan as it stands: close it\n- [done] look" in text
    assert text.endswith("Names and numbers that came up: order/2041-b, 90210")
    assert NO_WORDS in text_of(content(" ", PASSAGES, None, 1_000))
    assert text_of(content("w", PASSAGES, None, 5)).endswith("came up: INV-77"), "the latest call comes first"


def test_a_hostile_result_takes_no_time() -> None:
    """It would take days if each letter were the beginning of a search to the end."""
    hostile = [passage(1, "tool_results", result("a" * 400_000)), passage(2, "tool_results", result("-" * 400_000))]
    assert "came up" not in text_of(content("w", hostile, None, 1_000))
