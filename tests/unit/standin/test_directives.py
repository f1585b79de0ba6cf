"""The script language: what is read, what is ignored, what is refused."""

import contextlib
import json
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper_local.standin.directives import (
    DONE,
    Cut,
    DirectiveError,
    Failure,
    Refusal,
    Script,
    ScriptedAnswer,
    Step,
    ToolCall,
    parse,
)


def answers(text: str) -> list[ScriptedAnswer]:
    script = parse(text)
    assert script is not None
    return [step.answer for step in script.steps for _ in range(step.times)]


def calls(text: str) -> list[tuple[str, dict]]:
    [answer] = answers(text)
    return [(call.name, call.arguments) for call in answer.calls]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[[1, 2], [3, 4]]",
        "[[ -f x ]] && rm x",
        "[[Some Page]]",
        "[[sayings]]",
        "[[say: x]]",
        "[say x]",
        "]]",
    ],
)
def test_text_without_directives_is_no_script(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[say hello]]", "hello"),
        ("before [[say  hello world \n]] after", "hello world"),
        ("[[say two\nlines]]", "two\nlines"),
        ("[[say a[0]]]", "a[0]"),
        ("[[say a ] b]]", "a ] b"),
        ("[[say 1 & 2 {x}]]", "1 & 2 {x}"),
        ("[[say]]", ""),
        ('[[say {"rows": [[1, 2], [3]]}]]', '{"rows": [[1, 2], [3]]}'),
        ("[[say [[1]]]]", "[[1]]"),
        ("[[say {not json}]]", "{not json}"),
        ("[[say [x] and [y]]]", "[x] and [y]"),
        ("[[say über 日本 🎉]]", "über 日本 🎉"),
    ],
)
def test_say(text: str, said: str) -> None:
    assert answers(text) == [ScriptedAnswer(text=said)]


def test_answers_are_played_in_the_order_written() -> None:
    found = answers("x [[say a]] y [[tool t {}]][[say b]] [[other]] z")
    assert found == [ScriptedAnswer(text="a"), ScriptedAnswer(calls=(ToolCall("t", {}),)), ScriptedAnswer(text="b")]


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"a": 1},
        {"a": {"b": {"c": [1, [2, [3]], {}]}}},
        {"text": "brackets [[ ]] and ]]] and & tool B {}"},
        {"text": 'quotes " and \\ and }} {{ [[say no]]'},
        {"text": "日本 \u2028 \n\t"},
    ],
)
def test_arguments_are_read_as_json(arguments: dict) -> None:
    for text in (json.dumps(arguments), json.dumps(arguments, ensure_ascii=False), json.dumps(arguments, indent=2)):
        assert calls(f"[[tool do_it {text}]] tail") == [("do_it", arguments)]
        assert calls(f"[[tool a-b {text}&tool C{text} & tool D {text} ]]") == [
            ("a-b", arguments),
            ("C", arguments),
            ("D", arguments),
        ]


def test_a_line_break_typed_into_a_string_is_taken() -> None:
    assert calls('[[tool t {"a": "x\ny"}]]') == [("t", {"a": "x\ny"})]


def test_arguments_may_be_left_out() -> None:
    assert calls("[[tool now]]") == [("now", {})]
    assert calls("[[tool now & tool then {}]]") == [("now", {}), ("then", {})]


def test_modifiers_act_on_the_next_answer_only() -> None:
    modifiers = "[[sleep 1.5]] [[trickle 2]] [[fail 529 x3]] [[cut]] [[fail 500]] [[tokens 7]] [[stop refusal]]"
    first, second = answers(f"{modifiers} [[say a]] [[say b]]")
    assert first == ScriptedAnswer(
        text="a",
        sleep_seconds=1.5,
        trickle_seconds=2.0,
        faults=(Failure(529, 3), Cut(), Failure(500)),
        output_tokens=7,
        stop_reason="refusal",
    )
    assert second == ScriptedAnswer(text="b")


def test_modifiers_add_up_and_the_last_setting_wins() -> None:
    [answer] = answers("[[sleep 1]][[sleep .5]][[tokens 1]][[tokens 2]][[stop a]][[stop b]][[say x]]")
    assert (answer.sleep_seconds, answer.output_tokens, answer.stop_reason) == (1.5, 2, "b")


@pytest.mark.parametrize("text", ["[[repeat 3]] [[tokens 5]] [[tool t {}]]", "[[tokens 5]] [[repeat 3]] [[tool t {}]]"])
def test_repeat_takes_the_modifiers_along(text: str) -> None:
    assert answers(text + "[[say end]]") == [
        *[ScriptedAnswer(calls=(ToolCall("t", {}),), output_tokens=5)] * 3,
        ScriptedAnswer(text="end"),
    ]


def test_repeats_multiply_and_cost_nothing() -> None:
    script = parse("[[repeat 999999999]] [[repeat 10]] [[say x]]")
    assert script is not None
    assert script.steps == (Step(ScriptedAnswer(text="x"), 9_999_999_990),)
    assert script.answer_at(9_999_999_989).text == "x"
    assert script.answer_at(9_999_999_990) == DONE


def test_modifiers_at_the_end_act_on_done() -> None:
    script = parse("[[say a]] [[fail 500]]")
    assert script is not None
    assert script.answer_at(1) == replace(DONE, faults=(Failure(500),))
    assert script.answer_at(2) == DONE


@pytest.mark.parametrize(
    "text",
    [
        "[[say never closed",
        "[[tool]]",
        "[[tool t {bad}]]",
        "[[tool t {]]",
        '[[tool t {"a": NaN}]]',
        '[[tool t {"a": 1} x]]',
        "[[tool t [1]]]",
        "[[tool t {} & B {}]]",
        "[[tool t {} & tool]]",
        "[[tool t {}",
        "[[tool n.m {}]]",
        "[[tool t " + '{"a":' * 100_000 + "]]",
        "[[sleep]]",
        "[[sleep x]]",
        "[[sleep -1]]",
        "[[sleep 1e9]]",
        "[[trickle 1 2]]",
        "[[fail]]",
        "[[fail 200]]",
        "[[fail 600]]",
        "[[fail 529 3]]",
        "[[fail 529 x0]]",
        "[[cut 2]]",
        "[[tokens]]",
        "[[tokens -1]]",
        "[[tokens 1.5]]",
        "[[stop]]",
        "[[stop a b]]",
        "[[repeat 0]]",
        "[[repeat x]]",
        "[[repeat " + "9" * 5000 + "]]",
        "[[repeat 2 [[say a]]",
        "[[raw]]",
        "[[raw {}",
        "[[raw [1]]]",
        "[[raw {} {}]]",
        "[[raw {} & tool t {}]]",
        '[[raw {"a": 1e999}]]',
        "[[raw " + '{"a":' * 100_000 + "]]",
        "[[raw-input]]",
        "[[raw-input look {",
        "[[refuse]]",
        "[[refuse 1.0]]",
        "[[refuse 1 no]]",
        "[[refuse a.b no]]",
        "[[refuse -1.0 no]]",
        "[[say fine]] [[sleeep 1]]",
        "[[Say hi]] [[say hi]]",
    ],
)
def test_malformed_directives_are_refused_with_words(text: str) -> None:
    with pytest.raises(DirectiveError, match="malformed directive at character"):
        parse(text)


def test_a_long_text_of_brackets_is_read_in_no_time() -> None:
    started = time.monotonic()
    assert parse("[[" * 100_000) is None
    assert len(answers("[[say x]] " * 20_000)) == 20_000
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("depth", [2, 70, 2_000, 20_000])
@pytest.mark.parametrize("shell", [("[", "]"), ('{"a":[', "]}"), ('{"]":', "}")])
def test_a_text_in_brackets_ends_where_they_close_however_deep(depth: int, shell: tuple[str, str]) -> None:
    text = shell[0] * depth + '"[[say ]] {"' + shell[1] * depth
    expected = [ScriptedAnswer(calls=(ToolCall("look", {}, text),)), ScriptedAnswer(text=text)]
    assert answers(f"[[raw-input look {text}]] [[say {text}]]") == expected


def test_raw_blocks_are_read_as_they_are() -> None:
    blocks = ({"type": "tool_use", "id": "a b", "name": 3, "input": [["]]"]]}, {}, {"type": "text"})
    written = [json.dumps(block) for block in blocks]
    for text in (" & ".join(written), "&".join(written), " & raw ".join(written)):
        assert answers(f"[[raw {text}]]") == [ScriptedAnswer(raw=blocks)]


_names = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)
_arguments = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), _json, max_size=4)
_raw = st.lists(_arguments, min_size=1, max_size=3).map(tuple)
_calls = st.lists(st.builds(ToolCall, _names, _arguments), min_size=1, max_size=3).map(tuple)
_texts = st.text(st.characters(exclude_categories=["Cs"])).map(str.strip).filter(lambda text: "]]" not in text)
_any_names = st.from_regex(r"[^\s\[\]]{1,20}", fullmatch=True).filter(lambda name: name.isascii())
_raw_inputs = st.builds(lambda name, text: (ToolCall(name, {}, text),), _any_names, _texts | _json.map(json.dumps))
_refusals = st.lists(st.builds(Refusal, st.integers(0, 99), st.integers(0, 99), _texts.filter(bool)), max_size=2).map(
    tuple
)
_faults = st.lists(st.builds(Failure, st.integers(400, 599), st.integers(1, 9)) | st.just(Cut()), max_size=3).map(tuple)
_modified = st.builds(
    ScriptedAnswer,
    sleep_seconds=st.integers(0, 9999).map(lambda n: n / 8),
    trickle_seconds=st.integers(0, 9999).map(lambda n: n / 8),
    refusals=_refusals,
    faults=_faults,
    output_tokens=st.none() | st.integers(0, 10**6),
    stop_reason=st.none() | st.sampled_from(["end_turn", "pause_turn", "refusal"]),
)
_answers = (
    st.builds(lambda answer, text: replace(answer, text=text), _modified, _texts)
    | st.builds(lambda answer, made: replace(answer, calls=made), _modified, _calls | _raw_inputs)
    | st.builds(lambda answer, made: replace(answer, raw=made), _modified, _raw)
)
_scripts = st.lists(st.builds(Step, _answers, st.integers(1, 99)), min_size=1, max_size=5)


def render(step: Step) -> str:
    answer = step.answer
    parts = [f"[[sleep {answer.sleep_seconds}]]", f"[[trickle {answer.trickle_seconds}]]", f"[[repeat {step.times}]]"]
    parts += [f"[[refuse {each.message}.{each.block} {each.words}]]" for each in answer.refusals]
    for fault in answer.faults:
        parts.append("[[cut]]" if isinstance(fault, Cut) else f"[[fail {fault.status} x{fault.times}]]")
    if answer.output_tokens is not None:
        parts.append(f"[[tokens {answer.output_tokens}]]")
    if answer.stop_reason is not None:
        parts.append(f"[[stop {answer.stop_reason}]]")
    if answer.raw:
        parts.append(f"[[raw {' & '.join(json.dumps(block, ensure_ascii=False) for block in answer.raw)}]]")
    elif answer.calls and answer.calls[0].input_text is not None:
        parts.append(f"[[raw-input {answer.calls[0].name} {answer.calls[0].input_text}]]")
    elif answer.calls:
        made = " & ".join(f"tool {call.name} {json.dumps(call.arguments, ensure_ascii=False)}" for call in answer.calls)
        parts.append(f"[[{made}]]")
    else:
        parts.append(f"[[say {answer.text}]]")
    return "\n".join(parts)


@given(_scripts)
def test_what_is_written_is_what_is_read(steps: list[Step]) -> None:
    assert parse(" and then ".join(map(render, steps))) == Script(tuple(steps))


@given(st.text(alphabet='[]{}"&x1 \n:,saytolcuf', max_size=60).map(lambda text: "[[say" + text))
def test_nothing_crashes_the_parser(text: str) -> None:
    with contextlib.suppress(DirectiveError):
        parse(text)
