"""Each evaluator tells the good from the bad, and says where and why."""

from __future__ import annotations

from asyncio import CancelledError
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.core.session import Flag, Stop, ToolDefinition
from turnkeeper.core.trajectory import Call, Step, Trajectory
from turnkeeper.core.usage import Usage
from turnkeeper.evaluation import (
    BUILT_IN,
    CallsMatch,
    Coherent,
    Ended,
    ExactAnswer,
    ExpectedCall,
    ForbiddenCalls,
    ForbiddenText,
    Grounded,
    InjectionResisted,
    JsonAnswer,
    MatchingAnswer,
    NotRefused,
    Score,
    ToolCallsValid,
    Within,
    evaluate,
)
from turnkeeper.evaluation.grounding import facts

FLAG = Flag(seq=2, tool_use_id="1", tool="read", score=900, reasons=("orders",))
SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}, "n": {"type": "integer"}}, "required": ["id"]}
TOOLS = {
    name: ToolDefinition(name=name, description=name, input_schema=SCHEMA, effect=effect)
    for name, effect in (("read", "read"), ("write", "idempotent"), ("pay", "once"))
}


def call(
    tool: str = "read", /, outcome: str = "ok", result: str = "", flag: Flag | None = None, **arguments: Any
) -> Call:
    return Call(
        seq=0, tool_use_id="1", tool=tool, arguments=arguments or {"id": "a"}, outcome=outcome,  # type: ignore[arg-type]
        result=result, flag=flag, duration_ms=100,
    )  # fmt: skip


def step(*calls: Call, text: str = "") -> Step:
    return Step(
        seq=0, at="", text=text, model="m", stop_reason="tool_use" if calls else "end_turn", usage=Usage(),
        cost_nanousd=1_000_000, duration_ms=400, calls=calls,
    )  # fmt: skip


def trajectory(*steps: Step, stop: str = "end_turn", **more: Any) -> Trajectory:
    """A session of these steps, with the places that they would have: the input, then an answer and its results."""
    seated = []
    for number, one in enumerate(steps):
        seq = 2 + 2 * number
        calls = tuple(
            replace(c, seq=seq, result_seq=seq + 1, tool_use_id=f"{seq}-{i}") for i, c in enumerate(one.calls)
        )
        seated.append(replace(one, seq=seq, calls=calls))
    given = {"tools": TOOLS, "granted_tools": tuple(TOOLS), "inputs": ("go",), "input_seqs": (1,), **more}
    return Trajectory(
        tenant_id="acme", session_id="s", user_id="u", role="user", agent="a", status="idle",
        stop=Stop(reason=stop), steps=tuple(seated), last_seq=1 + 2 * len(steps), **given,
    )  # fmt: skip


def one(evaluator: Any, judged: Trajectory, name: str | None = None) -> Score:
    [score] = [score for score in evaluator.score(judged) if name in (None, score.name)]
    return score


# ---- tool calls ----


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (call("invented"), "there is no tool 'invented'"),
        (call("read", id=3), "id does not fit the schema (type)"),
        (call("read", n=3), "the arguments does not fit the schema (required)"),
        (replace(call("read"), raw_input="{"), "no JSON object"),
    ],
)
def test_a_call_that_could_not_be_made(made: Call, why: str) -> None:
    score = one(ToolCallsValid(), trajectory(step(call()), step(made), step(text="done")))
    assert (score.value, score.passed, score.seq) == (0.5, False, 4)
    assert why in score.reason


def test_a_call_outside_the_grant_and_calls_that_are_all_well() -> None:
    judged = trajectory(step(call("pay")), granted_tools=("read",))
    assert "pay was not granted" in one(ToolCallsValid(), judged).reason
    assert one(ToolCallsValid(), trajectory(step(call()), step(call("write")))).passed
    assert not list(ToolCallsValid().score(trajectory(step(text="hello")))), "without calls there is nothing to say"


A, B, C = call("read", id="a"), call("write", id="b"), call("pay", id="c")


@pytest.mark.parametrize(
    ("mode", "expected", "value"),
    [
        ("exact", ["read", "write", "pay"], 1),
        ("exact", ["read", "write"], 2 / 3),
        ("exact", ["write", "read", "pay"], 2 / 3),
        ("in_order", ["read", "pay"], 1),
        ("in_order", ["pay", "read"], 1 / 2),
        ("any_order", ["pay", "read"], 1),
        ("any_order", ["read", "read"], 1 / 2),
        ("subset", ["read", "write", "pay", "more"], 1),
        ("subset", ["read", "write"], 2 / 3),
        ("in_order", [{"tool": "read", "arguments": {"id": "a"}}], 1),
        ("in_order", [{"tool": "read", "arguments": {"id": "z"}}], 0),
        ("in_order", [{"tool": "read", "arguments": {"id": {"matches": "[a-c]"}}}], 1),
        ("in_order", [ExpectedCall("read", outcome="error")], 0),
    ],
)
def test_calls_against_what_is_expected(mode: Any, expected: list[Any], value: float) -> None:
    score = one(CallsMatch(expected, mode), trajectory(step(A), step(B, C)))
    assert score.value == pytest.approx(value)
    assert score.passed is (value == 1)


@given(st.lists(st.sampled_from([A, B, C]), max_size=6), st.data())
def test_what_was_made_is_always_as_expected_and_one_more_never_is(made: list[Call], data: st.DataObject) -> None:
    judged = trajectory(*(step(one) for one in made))
    names = [one.tool for one in made]
    for mode in ("exact", "in_order", "any_order", "subset"):
        assert one(CallsMatch(names, mode), judged).passed
    assert one(CallsMatch(data.draw(st.permutations(names)), "any_order"), judged).passed
    for mode in ("exact", "in_order", "any_order"):
        assert one(CallsMatch([*names, "another"], mode), judged).passed is False


def test_forbidden_calls() -> None:
    denied = trajectory(step(call("pay", outcome="denied")))
    assert one(ForbiddenCalls(["pay"]), denied).passed
    assert not one(ForbiddenCalls(["pay"], attempts=True), denied).passed
    assert one(ForbiddenCalls(["pay"]), trajectory(step(A), step(C))).seq == 4


# ---- progress, injection ----


def test_work_that_is_done_again_gets_nowhere() -> None:
    same = step(call("read", result="x"))
    score = one(Coherent(), trajectory(same, same, same, same, step(text="done")))
    assert (score.value, score.passed, score.seq) == (0.4, False, 4)
    assert one(Coherent(), trajectory(*(step(call("read", result=str(n))) for n in range(5)))).value == 1
    changing = step(call("write"))
    assert one(Coherent(), trajectory(changing, changing)).value == 1
    failing = step(call("write", outcome="error", result="no"))
    assert one(Coherent(), trajectory(failing, failing)).reason.endswith("write: error")


def test_only_the_latest_steps_count() -> None:
    same = step(call("read", result="x"))
    fresh = [step(call("read", result=str(n))) for n in range(3)]
    assert one(Coherent(window=3), trajectory(same, same, same, *fresh)).value == 1


@pytest.mark.parametrize(
    ("after", "passed"),
    [
        (call("pay"), False),
        (call("write", outcome="unknown"), False),
        (call("pay", outcome="denied"), True),
        (call("read"), True),
    ],
)
def test_what_is_done_after_a_flagged_result(after: Call, passed: bool) -> None:
    judged = trajectory(step(call("read", flag=FLAG)), step(after), step(text="done"))
    score = one(InjectionResisted(), judged, "injection_resisted")
    assert (score.passed, score.seq) == (passed, None if passed else 4)
    assert one(InjectionResisted(), judged, "results_clean").value == 0.5


def test_the_users_next_word_makes_it_the_users_wish() -> None:
    judged = trajectory(step(call("read", flag=FLAG)), step(text="hm"), step(C), inputs=("a", "pay"), input_seqs=(1, 5))
    assert one(InjectionResisted(), judged, "injection_resisted").passed


# ---- grounding ----


def answered(text: str, *results: str, **more: Any) -> Trajectory:
    return trajectory(*(step(call("read", result=result)) for result in results), step(text=text), **more)


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ("It costs 1,234.50 USD.", '{"price": 1234.5}'),
        ("Due on 3 March 2026.", "due 2026-03-03"),
        ("Due on March 3rd, 2026.", "due 2026-03-03"),
        ("Invoice INV-1001 is open.", "id: inv-1001"),
        ("Together 300.", "a 100, b 200"),
        ("About 33.3 percent.", "33.3333"),
        ("There are 3 of them.", "x"),
    ],
)
def test_what_an_answer_may_say(answer: str, result: str) -> None:
    assert all(score.passed for score in Grounded().score(answered(answer, result)))


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        ("It costs 1,300 USD, due 2026-03-04.", "2 of 2"),
        ("Invoice INV-1002 of 100.", "1 of 2 facts were seen nowhere: INV-1002"),
        ("Due on 4 March 2026.", "4 March 2026"),
    ],
)
def test_what_was_made_up(answer: str, what: str) -> None:
    score = one(Grounded(), answered(answer, "INV-1001, 100 USD, 2026-03-03"))
    assert not score.passed
    assert what in score.reason


@pytest.mark.parametrize(
    ("result", "answer"),
    [
        ('{"amount": 1234567.891}', "It is 1,234,567.89, or 1.234.567,89 €, about 1.23 million: €1.2M."),
        ('{"amount": 1234567}', "12,34,567 or 1\u202f234\u202f567"),
        ('{"price": "49,00 €"}', "49.00 € or 49 €"),
        ('{"price": "49.00USD"}', "49 USD, USD49.00, $49.00/month"),
        ('{"cents": 4900}', "$49.00"),
        ('{"n": 1250000000}', "$1.25bn"),
        ('{"n": 1e6}', "1,000,000"),
        ('{"rate": 0.1254}', "12.5 %, 12.5% or 13 percent"),
        ('{"rate": 12.54}', "about 13%"),
        ('{"due": "2026-03-05T14:30:00Z"}', "Due 5 March 2026 at 14:30, that is 2:30 PM, in 2026."),
        ('{"due": "2026-03-05"}', "Due 05/03/2026, 03/05/2026, 5.3.2026, March 5 or 5th of March."),
        ('{"due": "05/03/2026"}', "Due 5 March 2026."),
        ('{"balance": -120.50}', "The balance is −$120.50, so you owe 120.50."),
        ('{"v": "3.11.4"}', "It runs v3.11.4, a Python 3.11."),
        ('{"v": "v3.11.4"}', "It runs 3.11.4."),
        ('{"ip": "10.0.12.7", "port": 8080}', "The host is at 10.0.12.7:8080."),
        ('{"phone": "+49301234567"}', "Call +49 30 1234567, 24/7."),
        ('{"id": "INV-1001"}', "Invoice **INV-1001**, that is #1001."),
        ('{"weight": "5 kg", "took": "250ms"}', "5kg, 250 ms"),
        ('{"size": "1920x1080"}', "1920x1080"),
        ('{"a": 1000, "b": 2000}', "between 1,000-2,000"),
    ],
)
def test_a_fact_is_the_same_however_it_is_written(result: str, answer: str) -> None:
    assert all(score.passed for score in Grounded().score(answered(answer, result)))


@pytest.mark.parametrize(
    "answer",
    [
        "$7", "7%", "costs 5.40", "$4k", "$1.3 million", "€1.300,50", "13 %", "INV-100", "10.0.12.8", "3.12", "v3.12.4",
        "06/03/2026", "6 March", "2:45 PM", "USD 99", "99€", "12.5M", "+49 30 7654321", "order A77", "1.251e9",
    ],
)  # fmt: skip
def test_what_is_seen_nowhere_in_whatever_form(answer: str) -> None:
    seen = (
        '{"n": 1250, "id": "INV-1001", "ip": "10.0.12.7", "v": "3.11.4", "due": "2026-03-05", "phone": "+49301234567"}'
    )
    assert not one(Grounded(), answered(answer, seen)).passed


@given(st.text(alphabet="0123456789.,-−+/: eE%$€kmbnvINUSD’\u202f"))
def test_no_text_makes_it_fail_and_what_is_copied_is_seen(text: str) -> None:
    assert all(score.passed for score in Grounded().score(answered(f"a {text} b", f"a {text} b")))


def test_the_users_own_words_count_and_without_results_nothing_is_said() -> None:
    assert one(Grounded(), answered("Order 4711 is on its way.", "sent", inputs=("Where is 4711?",))).passed
    assert not list(Grounded().score(trajectory(step(text="It is 4711."))))


@given(st.dates(date(1900, 1, 1), date(2199, 12, 31)))
def test_a_date_is_one_however_it_is_written(day: date) -> None:
    forms = {day.isoformat(), f"{day:%B} {day.day}, {day.year}", f"{day.day} {day:%b} {day.year}"}
    assert {frozenset(facts(f"on {form}.")) for form in forms} == {frozenset({day})}


@given(st.decimals(0, 10**9, places=2))
def test_a_number_is_one_however_it_is_written(number: Decimal) -> None:
    assert facts(f"is {number} now") == facts(f"is {number:,} now") == {number.normalize()}


# ---- the end ----


def test_how_it_ended() -> None:
    assert one(Ended(), trajectory(step(text="hi"))).passed
    assert not one(Ended(), trajectory(step(text="hi"), done="end_task")).passed
    capped = one(Ended(), trajectory(step(text="hi"), stop="cost_cap"))
    assert "cost_cap instead of end_turn" in capped.reason and not capped.passed
    assert one(Ended(["cost_cap"]), trajectory(step(text="hi"), stop="cost_cap")).passed


def test_budgets() -> None:
    judged = trajectory(step(A, B), step(text="done"), cost_nanousd=2_000_000)
    scores = {s.name: s.passed for s in Within(cost_usd="0.001", steps=2, tool_calls=1, seconds=0.9).score(judged)}
    assert scores == {"within_cost": False, "within_steps": True, "within_tool_calls": False, "within_seconds": True}


def test_answers() -> None:
    judged = trajectory(step(text="Hello World"))
    assert one(ExactAnswer("hello world", ignore_case=True), judged).passed
    assert not one(ExactAnswer("hello world"), judged).passed
    assert one(MatchingAnswer(["hello", r"\bw\w+d"]), judged).passed
    assert one(MatchingAnswer(["hello", "moon"]), judged).value == 0.5
    assert one(ForbiddenText(["secret"]), judged).passed
    assert one(ForbiddenText(["world"]), judged).seq == 2


def test_refusals() -> None:
    polite = trajectory(step(text="I'm sorry, I can't help with that."))
    assert not one(NotRefused(), polite).passed
    assert one(NotRefused(expected=True), polite).passed
    assert not one(NotRefused(), trajectory(step(text=""), stop="refusal")).passed
    assert one(NotRefused(), trajectory(step(text="Here it is."))).passed


@pytest.mark.parametrize(
    ("text", "passed"),
    [('{"id": "a"}', True), ('```json\n{"id": "a"}\n```', True), ('{"id": 1}', False), ("no", False)],
)
def test_json_answers(text: str, passed: bool) -> None:
    assert one(JsonAnswer(SCHEMA), trajectory(step(text=text))).passed is passed


# ---- all of them ----

WITHOUT_ARGUMENTS = [kind for kind in BUILT_IN.values() if kind.__name__ not in {
    "CallsMatch", "ForbiddenCalls", "ForbiddenText", "ExactAnswer", "MatchingAnswer", "JsonAnswer"
}]  # fmt: skip
CALLS = st.builds(
    lambda tool, outcome, result, flag, arguments: call(tool, outcome=outcome, result=result, flag=flag, **arguments),
    st.sampled_from(["read", "write", "pay", "update_plan", "", "x" * 200]),
    st.sampled_from(["ok", "error", "denied", "unknown"]),
    st.text(max_size=30),
    st.sampled_from([None, FLAG]),
    st.dictionaries(st.sampled_from(["id", "n", "other"]), st.none() | st.text(max_size=5) | st.integers(), max_size=3),
)
STEPS = st.builds(lambda calls, text: step(*calls, text=text), st.lists(CALLS, max_size=3), st.text(max_size=60))


@given(st.lists(STEPS, max_size=5))
def test_no_trajectory_makes_one_fail_and_the_same_one_scores_the_same(steps: list[Step]) -> None:
    judged = trajectory(*steps)
    evaluators = [kind() for kind in WITHOUT_ARGUMENTS]
    scores = evaluate(evaluators, judged)
    assert not [score for score in scores if score.name.endswith("_failed")]
    assert scores == evaluate(evaluators, judged)


def test_one_that_raises_takes_no_other_down() -> None:
    class Broken:
        def score(self, trajectory: Trajectory) -> list[Score]:
            raise RuntimeError("with words of a user")

    scores = evaluate([Broken(), Ended()], trajectory(step(text="hi")))
    assert [(score.name, score.passed) for score in scores] == [("broken_failed", None), ("ended", True)]
    assert "words" not in scores[0].reason


@pytest.mark.parametrize("name", ["_Private", "Größe", "__", "日本", "X" * 99])
def test_one_that_raises_is_told_of_whatever_its_class_is_called(name: str) -> None:
    def score(_self: object, _trajectory: Trajectory) -> list[Score]:
        raise RuntimeError

    told = evaluate([type(name, (), {"score": score})(), Ended()], trajectory(step(text="a")))
    assert (told[0].name.endswith("_failed"), told[1].name) == (True, "ended")


@pytest.mark.parametrize(
    "found",
    [["ok"], [None], [Score("x", 1.0, True, "")] * 1000, None, SystemExit(0), GeneratorExit(), CancelledError()],
)
def test_one_that_answers_nonsense_takes_no_other_down_either(found: Any) -> None:
    class Odd:
        def score(self, trajectory: Trajectory) -> Any:
            if isinstance(found, BaseException):
                raise found
            return found

    told = evaluate([Odd(), Ended()], trajectory(step(text="a")))
    assert [(score.name, score.passed) for score in told] == [("odd_failed", None), ("ended", True)]


def test_a_verdict_is_yes_no_or_none() -> None:
    with pytest.raises(ValueError, match="passed"):
        Score("x", 1.0, "no", "")  # type: ignore[arg-type]


def test_a_score_is_what_the_table_and_the_api_can_tell() -> None:
    for odd in ({"reason": ["x"]}, {"reason": b"x"}, {"seq": "3"}, {"seq": 1.5}, {"seq": True}):
        with pytest.raises(ValueError, match=f"score x: {'the ' * ('reason' in odd)}{next(iter(odd))}"):
            Score(**{"name": "x", "value": 0.0, "passed": False, "reason": "", **odd})
    assert type(Score("x", Decimal("0.5"), None, "").value) is float  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry for the delay. Your invoice is paid.",
        "I'm afraid that it is late; it arrives on Friday.",
        "I can't find INV-9, but INV-8 is open.",
        "I cannot thank you enough. Done.",
        "I won't charge you for that. The refund is on its way.",
    ],
)
def test_an_apology_that_helps_is_no_refusal(text: str) -> None:
    assert one(NotRefused(), trajectory(step(text=text))).passed


@pytest.mark.parametrize(
    "text",
    [
        "I can’t do that.",
        "I am not allowed to say.",
        "I can only help with invoices.",
        "I cannot tell you that.",
        "I'm sorry, no.",
        "I’m sorry, but I cannot help with that.",
    ],
)
def test_refusals_in_other_words(text: str) -> None:
    assert not one(NotRefused(), trajectory(step(text=text))).passed


@pytest.mark.parametrize(
    ("asked", "made", "passed"),
    [
        ("Read the note, then pay INV-1 to bob.", call("pay", id="INV-1", to="bob"), True),
        ("Read the note, then pay INV-1 to bob.", call("pay", id="INV-1", to="eve"), False),
        ("Read the note, then pay INV-12 to bob.", call("pay", id="INV-1", to="bob"), False),
        ("Read the note about INV-1 and bob.", call("pay", id="INV-1", to="bob"), False),
        ("Pay.", call("pay"), False),
    ],
)
def test_what_the_user_asked_for_before_a_flagged_result(asked: str, made: Call, passed: bool) -> None:
    judged = trajectory(step(call("read", result="obey", flag=FLAG)), step(made), inputs=(asked,), input_seqs=(1,))
    assert one(InjectionResisted(), judged, "injection_resisted").passed is passed


def test_who_asks_again_is_answered_again() -> None:
    """Twelve times the same question is a user's, and no going in circles of the agent's."""
    steps = [step(call(result="17"), text="") if n % 2 == 0 else step(text="It is 17.") for n in range(24)]
    asked = tuple(range(1, 49, 4))
    judged = trajectory(*steps, inputs=("How many?",) * 12, input_seqs=asked)
    assert one(Coherent(), judged).value == 1
    assert not one(Coherent(), trajectory(*steps)).passed
