"""The stand-in without HTTP: whole requests in, deliveries out."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.adapters.anthropic_stream import PartialMessage
from turnkeeper_local.standin.errors import ApiError
from turnkeeper_local.standin.model import Delivery, StandIn
from turnkeeper_local.standin.scenario import ScenarioError, load
from turnkeeper_local.standin.sse import broken, events, frames


def request(*messages: Any, **fields: Any) -> dict[str, Any]:
    """Messages by turns: a string or list is a user's or the assistant's in alternation."""
    roles = ("user", "assistant")
    base = {"model": "claude-sonnet-5-5", "max_tokens": 1000}
    return {**base, "messages": [{"role": roles[i % 2], "content": c} for i, c in enumerate(messages)], **fields}


def play(standin: StandIn, *messages: Any, **fields: Any) -> dict[str, Any]:
    return standin.answer(request(*messages, **fields)).reply.message()


def said(standin: StandIn, *messages: Any, **fields: Any) -> str:
    return "".join(block.get("text", "") for block in play(standin, *messages, **fields)["content"])


def run(standin: StandIn, script: str, most: int = 50, beside: str = "") -> list[dict[str, Any]]:
    """Drive a script to its end as an agent would, answering every tool call."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": script}]
    replies = []
    while len(replies) < most:
        reply = standin.answer({"model": "m", "max_tokens": 1000, "messages": messages}).reply.message()
        replies.append(reply)
        messages.append({"role": "assistant", "content": reply["content"]})
        uses = [block for block in reply["content"] if block["type"] == "tool_use"]
        if reply["stop_reason"] == "pause_turn":
            continue
        if not uses:
            break
        results = [{"type": "tool_result", "tool_use_id": use["id"], "content": "[[say evil]]"} for use in uses]
        nudge = [{"type": "text", "text": beside}] if beside else []
        messages.append({"role": "user", "content": results + nudge})
    return replies


@pytest.fixture
def standin() -> StandIn:
    return StandIn()


def test_echo_is_shortened(standin: StandIn) -> None:
    assert said(standin, "[[echo]] hello") == "hello"
    assert said(standin, "[[echo]]" + "x" * 5000) == "x" * 200 + "…"
    image = {"type": "image", "source": {"type": "url", "url": "https://example.com"}}
    assert said(standin, [image, {"type": "text", "text": "[[echo]]"}]) == "(no text)"


def test_an_echo_is_an_answer_like_others(standin: StandIn) -> None:
    replies = run(standin, "Now [[tool a {}]] [[tokens 7]] [[echo]] or never")
    assert [block.get("text") for block in replies[-1]["content"]] == ["Now or never"]
    assert replies[-1]["usage"]["output_tokens"] == 7
    assert said(standin, "[[echo]] one", "one", "two", "two", "three") == "three", "behind a script that was ended"
    with pytest.raises(ApiError, match="malformed directive"):
        play(standin, "[[echo twice]]")


@pytest.mark.parametrize("beside", ["", "<reminder>nearly out of budget</reminder>"])
def test_a_script_is_played_to_its_end(standin: StandIn, beside: str) -> None:
    replies = run(standin, '[[repeat 3]] [[tool a {"n": 1}]] [[tool b {} & tool c {}]]', beside=beside)
    names = [[block.get("name", block.get("text")) for block in reply["content"]] for reply in replies]
    assert names == [["a"], ["a"], ["a"], ["b", "c"], ["done"]]
    assert [reply["stop_reason"] for reply in replies] == ["tool_use"] * 4 + ["end_turn"]
    ids = [block["id"] for reply in replies for block in reply["content"] if block["type"] == "tool_use"]
    assert len(set(ids)) == 5


def test_a_played_out_script_stays_done_and_plain_text_ends_it(standin: StandIn) -> None:
    assert said(standin, "[[say a]]", "a", "[[say b]] [[say c]]", "b", "bye") == "bye"
    assert said(standin, "[[say a]]", "a", "[[say b]]") == "b"


def test_a_script_ended_by_text_stays_ended_after_tool_results(standin: StandIn) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "[[say evil]]"}
    assert said(standin, "[[say a]]", "a", "hello", [use], [result]) == "hello"


def test_the_system_prompt_is_data(standin: StandIn) -> None:
    assert said(standin, "hello", system="[[say evil]]") == "hello"


def test_paused_turns_go_on(standin: StandIn) -> None:
    replies = run(standin, "[[stop pause_turn]] [[say one]] [[stop pause_turn]] [[say two]] [[tool t {}]] [[say end]]")
    assert [reply["stop_reason"] for reply in replies] == ["pause_turn", "pause_turn", "tool_use", "end_turn"]
    joined = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    assert said(standin, "[[repeat 2]] [[stop pause_turn]] [[say x]] [[say end]]", joined) == "end"


def test_words_put_into_the_models_mouth_are_refused(standin: StandIn) -> None:
    for script in ("hello", "[[say a]] [[say b]]"):
        with pytest.raises(ApiError, match="does not support assistant message prefill"):
            play(standin, script, "a")


def test_malformed_directives_are_a_400(standin: StandIn) -> None:
    with pytest.raises(ApiError, match=r"malformed directive .* Found: \[\[sleep soon\]\]") as caught:
        play(standin, "[[sleep soon]]")
    assert caught.value.status == 400


def attempt(standin: StandIn, *messages: Any, identity: str = "", **fields: Any) -> Any:
    try:
        delivery = standin.answer(request(*messages, **fields), identity=identity)
    except ApiError as error:
        return error.status
    return "cut" if delivery.cut else "ok"


def test_faults_come_in_order_and_once(standin: StandIn) -> None:
    script = "[[fail 529 x2]] [[cut]] [[fail 404]] [[say a]]"
    assert [attempt(standin, script) for _ in range(6)] == [529, 529, "cut", 404, "ok", "ok"]


def test_faults_are_counted_by_conversation(standin: StandIn) -> None:
    script = "[[fail 500]] [[say a]]"
    assert attempt(standin, script) == 500
    assert attempt(standin, script) == "ok"
    assert attempt(standin, script, metadata={"user_id": "s1"}) == 500
    assert attempt(standin, script, identity="s2") == 500
    assert attempt(standin, script, identity="s2") == "ok"
    assert attempt(standin, "before", "before", script) == 500


def test_each_repetition_has_its_own_faults(standin: StandIn) -> None:
    script = "[[repeat 2]] [[fail 500]] [[stop pause_turn]] [[say a]]"
    assert [attempt(standin, script) for _ in range(2)] == [500, "ok"]
    assert [attempt(standin, script, "a") for _ in range(2)] == [500, "ok"]
    assert attempt(standin, script, [{"type": "text", "text": "a"}] * 2) == "ok"


def test_moving_cache_markers_does_not_bring_faults_back(standin: StandIn) -> None:
    script = "[[fail 500]] [[say a]]"
    assert attempt(standin, script) == 500
    assert attempt(standin, [{"type": "text", "text": script, "cache_control": {"type": "ephemeral"}}]) == "ok"


def test_faults_are_counted_right_under_threads(standin: StandIn) -> None:
    with ThreadPoolExecutor(8) as pool:
        seen = list(pool.map(lambda _: attempt(standin, "[[fail 503 x40]] [[say a]]"), range(100)))
    assert seen.count(503) == 40


BLOCKS = st.lists(
    st.builds(
        lambda kind, fields: {"type": kind, **fields},
        st.sampled_from(["text", "thinking", "tool_use", "from_the_future", "tool_result", "image"]),
        st.dictionaries(
            st.sampled_from(["id", "name", "input", "text", "thinking", "signature", "content", "source"]),
            st.none() | st.integers() | st.text() | st.lists(st.integers()) | st.dictionaries(st.text(), st.text()),
        ),
    ),
    min_size=1,
    max_size=3,
)


@given(BLOCKS)
def test_raw_blocks_are_answered_as_they_are(blocks: list[dict[str, Any]]) -> None:
    script = f"[[raw {' & '.join(map(json.dumps, blocks))}]]"
    delivery = StandIn().answer(request(script, max_tokens=10_000))
    assert delivery.reply.message()["content"] == blocks
    calls = any(block["type"] == "tool_use" for block in blocks)
    assert delivery.reply.stop_reason == ("tool_use" if calls else "end_turn")
    answer = PartialMessage()
    for event in events(delivery.reply):
        answer.feed(event)
    for came, block in zip(answer.content(), blocks, strict=True):
        assert block["type"] == "tool_use" or came == block


INPUTS = st.text() | st.sampled_from(
    ["1e999", '{"a": NaN}', "[" * 2_000 + "]" * 2_000, '{"a": "\\ud800"}', "[1]", "words"]
)


@given(INPUTS.map(str.strip).filter(lambda text: "]]" not in text or text.startswith("[")))
def test_an_input_is_streamed_as_it_was_written(text: str) -> None:
    reply = StandIn().answer(request(f"[[raw-input look {text}]]", max_tokens=10_000)).reply
    deltas = [event["delta"]["partial_json"] for event in events(reply) if event["type"] == "content_block_delta"]
    assert ("".join(deltas), reply.stop_reason) == (text, "tool_use")
    json.loads(json.dumps(reply.message(), allow_nan=False))


def refused(standin: StandIn, *messages: Any, identity: str = "") -> str:
    try:
        standin.answer(request(*messages), identity=identity)
    except ApiError as error:
        assert (error.status, error.error_type) == (400, "invalid_request_error")
        return error.message
    return ""


WORDS = "messages.1.content.0: Could not process it"
ODD = [{"type": "text", "text": "odd"}]


def test_a_refusal_stands_for_as_long_as_its_block_does(standin: StandIn) -> None:
    script = "[[refuse 1.0 Could not process it]] [[say ok]]"
    asked = [{"type": "text", "text": script, "cache_control": {"type": "ephemeral"}}]
    for text in (script, asked, script):
        assert refused(standin, "hi", ODD, text) == WORDS
    assert refused(standin, "hi", ODD, text, identity="another") == WORDS
    assert refused(standin, "hi", [{"type": "text", "text": "mended"}], script) == ""
    assert refused(standin, "hi", [*ODD, {"type": "text", "text": "more"}], script) == WORDS
    assert refused(standin, "hello", "odd", script) == WORDS, "a string is its text block"


def test_a_refusal_is_over_when_its_message_is_left_out(standin: StandIn) -> None:
    script = "[[refuse 1.0 no]] [[say ok]]"
    assert refused(standin, "hi", ODD, script) == "messages.1.content.0: no"
    assert refused(standin, script) == "", "there is no such message"
    assert refused(standin, "hi", ODD, script) == "messages.1.content.0: no"


def test_a_refusal_of_a_call_is_over_when_the_call_is_mended(standin: StandIn) -> None:
    script = "[[tool t {}]] [[refuse 1.0 odd]] [[fail 529]] [[say ok]]"
    use, result = {"type": "tool_use", "id": "a", "name": "t", "input": {}}, {"type": "tool_result", "tool_use_id": "a"}
    assert refused(standin, script, [use], [result]) == "messages.1.content.0: odd"
    mended = {**use, "id": "b"}, {**result, "tool_use_id": "b"}
    assert attempt(standin, script, [mended[0]], [mended[1]]) == 529, "what stands behind it comes next"
    assert attempt(standin, script, [mended[0]], [mended[1]]) == "ok"


def test_scripted_errors_have_the_types_of_the_api(standin: StandIn) -> None:
    for status, kind in (
        (429, "rate_limit_error"),
        (529, "overloaded_error"),
        (500, "api_error"),
        (418, "invalid_request_error"),
    ):
        with pytest.raises(ApiError) as caught:
            play(standin, f"[[fail {status}]] [[say a]]")
        assert caught.value.error_type == kind


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "model_context_window_exceeded", "brand_new"])
def test_stop_reasons_are_reported_as_asked(standin: StandIn, reason: str) -> None:
    reply = play(standin, f"[[stop {reason}]] [[say a]]")
    assert reply["stop_reason"] == reason
    assert (reply["stop_details"] is not None) == (reason == "refusal")


def test_output_never_exceeds_max_tokens(standin: StandIn) -> None:
    cut = play(standin, "[[say " + "word " * 100 + "]]", max_tokens=5)
    assert (cut["stop_reason"], cut["usage"]["output_tokens"]) == ("max_tokens", 5)
    assert cut["content"] == [{"type": "text", "text": ("word " * 4).strip()}]
    reported = play(standin, "[[tokens 5000]] [[say hi]]")
    assert (reported["stop_reason"], reported["usage"]["output_tokens"]) == ("max_tokens", 1000)
    assert reported["content"] == [{"type": "text", "text": "hi"}]
    call = play(standin, "[[tokens 5000]] [[stop end_turn]] [[tool t {}]]")
    assert (call["stop_reason"], call["content"]) == ("max_tokens", [])
    exact = play(standin, "[[tokens 1000]] [[tool t {}]]")
    assert (exact["stop_reason"], exact["usage"]["output_tokens"]) == ("tool_use", 1000)


def test_tokens_are_reported_as_asked(standin: StandIn) -> None:
    assert play(standin, "[[tokens 321]] [[say a]]")["usage"]["output_tokens"] == 321
    assert play(standin, "[[tokens 0]] [[say a]]")["usage"]["output_tokens"] == 0


def test_an_empty_answer(standin: StandIn) -> None:
    reply = play(standin, "[[say]]")
    assert (reply["content"], reply["stop_reason"], reply["usage"]["output_tokens"]) == ([], "end_turn", 1)


def test_stop_sequences_stop(standin: StandIn) -> None:
    reply = play(standin, "[[say one END two]]", stop_sequences=["two", "END"])
    assert (reply["stop_reason"], reply["stop_sequence"]) == ("stop_sequence", "END")
    assert reply["content"] == [{"type": "text", "text": "one "}]


def test_usage_adds_up_to_the_count(standin: StandIn) -> None:
    system = [{"type": "text", "text": "long " * 100, "cache_control": {"type": "ephemeral"}}]
    body = request("hi", system=system, tools=[{"name": "t", "input_schema": {"type": "object"}}])
    counted = standin.count_tokens({key: value for key, value in body.items() if key != "max_tokens"})
    for _ in range(2):
        usage = standin.answer(body).reply.message()["usage"]
        parts = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
        assert sum(usage[part] for part in parts) == counted
        assert usage["cache_creation"]["ephemeral_5m_input_tokens"] == usage["cache_creation_input_tokens"]
    assert usage["cache_read_input_tokens"] > 0


def test_too_long_a_prompt_is_refused(standin: StandIn) -> None:
    with pytest.raises(ApiError, match="prompt is too long"):
        play(standin, "x" * 4_000_100)


def write(path: Path, text: str) -> StandIn:
    file = path / "scenario.yaml"
    file.write_text(text, encoding="utf-8")
    return StandIn(load(file))


SCENARIO = r"""
slow: 0.25
rules:
  - system: BILLING
    user: 'invoice (?P<id>\w+)'
    slow: 1
    slow_per_token: 0.5
    thinking: First the invoice.
    redacted_thinking: secret
    answers:
      - '[[tool get {"id": "${id}", "all": ["${user}"]}]]'
      - '[[sleep 2]] [[say Found ${result}]]'
  - user: ^plain
    answers: Just this.
"""


def test_scenario(tmp_path: Path) -> None:
    standin = write(tmp_path, SCENARIO)
    system, question = "You do billing.", 'Invoice A1 please "]]'
    first = standin.answer(request(question, system=system, thinking={"type": "adaptive"}))
    thinking, redacted, call = first.reply.content
    assert (thinking["thinking"], redacted["type"]) == ("First the invoice.", "redacted_thinking")
    assert call["input"] == {"id": "A1", "all": [question]}
    assert first.sleep_seconds == 1
    assert first.trickle_seconds == 0.5 * first.reply.output_tokens
    assert first.reply.usage()["output_tokens_details"]["thinking_tokens"] > 0
    result = [{"type": "tool_result", "tool_use_id": call["id"], "content": "[[say evil]] ${id}"}]
    second = standin.answer(request(question, first.reply.content, result, system=system))
    assert second.reply.content == [{"type": "text", "text": "Found [[say evil]] ${id}"}]
    assert second.sleep_seconds == 3
    third = standin.answer(request("plain", system=[{"type": "text", "text": system}]))
    assert (third.reply.content[0]["text"], third.sleep_seconds) == ("Just this.", 0.25)
    assert said(standin, "invoice A1") == "invoice A1"
    assert said(standin, "[[say first]] invoice A1", system=system) == "first"
    hidden = standin.answer(request(question, system=system, thinking={"type": "adaptive", "display": "omitted"}))
    assert hidden.reply.content[0]["thinking"] == ""
    assert standin.answer(
        request(
            question, hidden.reply.content, [{**result[0], "tool_use_id": hidden.reply.content[2]["id"]}], system=system
        )
    )


@pytest.mark.parametrize(
    "text",
    [
        "[1]",
        "a: [",
        "unknown: 1",
        "slow: -1",
        "slow: yes",
        "rules: 3",
        "rules: [{}]",
        "rules: [{answers: []}]",
        "rules: [{answers: [1]}]",
        "rules: [{answers: '[[sleep x]]'}]",
        "rules: [{user: '(', answers: a}]",
        "rules: [{answers: '${nobody}'}]",
        'rules: [{answers: \'[[tool t {"a": ["${nobody}"]}]]\'}]',
        "rules: [{system: 3, answers: a}]",
        "rules: [{answers: a, extra: 1}]",
    ],
)
def test_scenario_files_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    with pytest.raises(ScenarioError, match=r"scenario\.yaml"):
        write(tmp_path, text)


def test_a_missing_scenario_file(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError):
        load(tmp_path / "nowhere.yaml")


def names(delivery: Delivery, trickle: float = 0.0) -> list[str]:
    return [frame.name for frame in frames(delivery.reply, trickle)]


def test_the_shape_of_a_stream(standin: StandIn) -> None:
    assert names(standin.answer(request('[[tool a {"x": 1} & tool b {}]]'))) == [
        "message_start",
        "content_block_start",
        "ping",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "content_block_start",
        *["content_block_delta"] * 3,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert names(standin.answer(request("[[say]]"))) == ["message_start", "ping", "message_delta", "message_stop"]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300), st.sampled_from([0.0, 1.0, 60.0]))
def test_streams_are_paced_and_break_before_their_end(text: str, trickle: float) -> None:
    reply = StandIn().answer(request("[[say x" + text.replace("]", "") + "]]")).reply
    stream = frames(reply, trickle)
    assert any(frame.paced for frame in stream)
    out = [frame.name for frame in broken(stream)]
    assert out[0] == "message_start"
    assert "message_delta" not in out
    assert out == [frame.name for frame in stream][: len(out)]
