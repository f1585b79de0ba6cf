"""The stand-in model from outside: a process of its own, and the real SDK over HTTP."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anthropic
import httpx2
import pytest

from turnkeeper.adapters.anthropic_model import AnthropicModel
from turnkeeper.adapters.system import SystemClock
from turnkeeper.core.errors import ProviderError
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper_local.evals.standin import StandInModel

ROOT = Path(__file__).resolve().parents[2]
MODEL = "claude-sonnet-5-5"
TOOL = {"name": "look", "description": "Look.", "input_schema": {"type": "object", "properties": {}}}
BOTH = pytest.mark.parametrize("streaming", [True, False], ids=["stream", "whole"])


def start(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A stand-in on a free port; its address is the first line that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "turnkeeper_local.standin", "--port", "0", *arguments],
        cwd=ROOT,
        env={**os.environ, "TURNKEEPER_SCENARIO": ""},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait(10)
        assert process.stderr is not None
        raise AssertionError(f"the stand-in did not start: {process.stderr.read()}")
    return process, json.loads(line)["base_url"]


def stop(process: subprocess.Popen[str]) -> str:
    """Stop it, whatever state it is in; returns what it wrote to stderr."""
    process.terminate()
    try:
        _, errors = process.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
    return errors


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    process, url = start()
    try:
        yield url
    finally:
        errors = stop(process)
    assert errors == "", "nothing here is a reason to complain"


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=base_url, api_key="any", max_retries=0) as made:
        yield made


def ask(client: anthropic.Anthropic, messages: Any, *, streaming: bool = True, **fields: Any) -> Any:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    fields = {"model": MODEL, "max_tokens": 1000, **fields}
    if not streaming:
        return client.messages.create(messages=messages, **fields)
    with client.messages.stream(messages=messages, **fields) as stream:
        return stream.get_final_message()


def raw(message: Any) -> list[dict[str, Any]]:
    return [block.model_dump(exclude_none=True, exclude={"parsed_output"}) for block in message.content]


@BOTH
def test_says_what_it_is_told(client: anthropic.Anthropic, streaming: bool) -> None:
    message = ask(client, "[[say Hello, " + "world " * 50 + "!]]", streaming=streaming)
    assert message.content[0].text == "Hello, " + "world " * 50 + "!"
    assert (message.stop_reason, message.model, message.role) == ("end_turn", MODEL, "assistant")
    assert message.id.startswith("msg_01")
    assert message._request_id.startswith("req_") if not streaming else True


@BOTH
def test_a_whole_conversation(client: anthropic.Anthropic, streaming: bool) -> None:
    arguments = {"path": "a]] & b [[x]] {", "deep": {"n": [[1], [2]]}, "s": "über \n 日本"}
    script = (
        f"Play this: [[tool look {json.dumps(arguments)} & tool rm {{}}]] [[repeat 2]] [[tokens 9]] [[tool look {{}}]]"
    )
    messages: list[dict[str, Any]] = [{"role": "user", "content": script}]
    seen = []
    for _ in range(4):
        message = ask(client, messages, streaming=streaming, tools=[TOOL])
        seen.append(message)
        uses = [block for block in message.content if block.type == "tool_use"]
        messages.append({"role": "assistant", "content": raw(message)})
        results = [{"type": "tool_result", "tool_use_id": use.id, "content": "[[say evil]]"} for use in uses]
        messages.append({"role": "user", "content": [*results, {"type": "text", "text": "Mind the budget."}]})
    assert [[getattr(block, "name", None) for block in message.content] for message in seen] == [
        ["look", "rm"],
        ["look"],
        ["look"],
        [None],
    ]
    assert seen[0].content[0].input == arguments
    assert seen[1].usage.output_tokens == 9
    assert seen[3].content[0].text == "done"
    assert [message.stop_reason for message in seen] == ["tool_use", "tool_use", "tool_use", "end_turn"]


@BOTH
def test_failures_raise_what_the_sdk_has_for_them(client: anthropic.Anthropic, streaming: bool) -> None:
    script = f"[[fail 529 x2]] [[fail 429]] [[fail 500]] [[say fine]] {streaming}"
    expected = (
        anthropic.OverloadedError,
        anthropic.OverloadedError,
        anthropic.RateLimitError,
        anthropic.InternalServerError,
    )
    for kind in expected:
        with pytest.raises(kind) as caught:
            ask(client, script, streaming=streaming)
        assert caught.value.request_id
        assert caught.value.body["request_id"] == caught.value.request_id
    assert ask(client, script, streaming=streaming).content[0].text == "fine"


def test_the_sdk_retries_by_itself(base_url: str) -> None:
    with anthropic.Anthropic(base_url=base_url, api_key="any", max_retries=1) as client:
        assert ask(client, "[[fail 529]] [[say after a retry]]").content[0].text == "after a retry"


@pytest.mark.parametrize("answer", ["[[say " + "a long text " * 20 + "]]", "[[say x]]", "[[tool look {}]]", "[[say]]"])
def test_a_cut_breaks_the_stream_in_the_middle(client: anthropic.Anthropic, answer: str) -> None:
    script = f"[[cut]] {answer}"
    events = []
    with (
        pytest.raises(httpx2.RemoteProtocolError),
        client.messages.stream(model=MODEL, max_tokens=1000, messages=[{"role": "user", "content": script}]) as stream,
    ):
        for event in stream:
            events.append(event.type)
    assert events[0] == "message_start"
    assert "message_delta" not in events
    assert stream.current_message_snapshot.usage.input_tokens > 0
    assert ask(client, script).stop_reason in ("end_turn", "tool_use")


def test_a_cut_drops_the_connection_of_a_whole_answer(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.APIConnectionError):
        ask(client, "[[cut]] [[say whole]]", streaming=False)
    assert ask(client, "[[cut]] [[say whole]]", streaming=False).content[0].text == "whole"


@BOTH
def test_sleep_and_trickle_take_their_time(client: anthropic.Anthropic, streaming: bool) -> None:
    started = time.monotonic()
    assert ask(client, "[[sleep 0.4]] [[trickle 0.4]] [[say ok]]", streaming=streaming).content[0].text == "ok"
    assert 0.75 < time.monotonic() - started < 5


def test_nothing_is_sent_before_the_sleep_and_a_trickle_is_spread(client: anthropic.Anthropic) -> None:
    started = time.monotonic()
    content = [{"role": "user", "content": "[[sleep 0.5]] [[trickle 1]] [[say " + "word " * 30 + "]]"}]
    with client.messages.stream(model=MODEL, max_tokens=1000, messages=content) as stream:
        assert time.monotonic() - started > 0.45
        times = [time.monotonic() for event in stream if event.type == "text"]
    assert len(times) >= 5
    assert times[-1] - times[0] > 0.5


def test_many_at_a_time(client: anthropic.Anthropic) -> None:
    started = time.monotonic()
    with ThreadPoolExecutor(40) as pool:
        said = list(pool.map(lambda n: ask(client, f"[[sleep 1]] [[say {n}]]").content[0].text, range(40)))
    assert said == [str(n) for n in range(40)]
    assert time.monotonic() - started < 15


def test_the_events_of_a_stream(base_url: str) -> None:
    body = {
        "model": MODEL,
        "max_tokens": 99,
        "stream": True,
        "messages": [{"role": "user", "content": "[[say " + "x" * 80 + "]]"}],
    }
    status, headers, text = post(base_url, "/v1/messages", body)
    assert status == 200
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["request-id"].startswith("req_")
    events = []
    for part in text.strip().split("\n\n"):
        name, data = part.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    assert [event["type"] for event in events[:3]] == ["message_start", "content_block_start", "ping"]
    assert [event["type"] for event in events[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    first, last = events[0]["message"], events[-2]
    assert (first["content"], first["stop_reason"]) == ([], None)
    assert last["delta"]["stop_reason"] == "end_turn"
    assert last["usage"]["output_tokens"] == 20
    assert last["usage"]["input_tokens"] == first["usage"]["input_tokens"]
    assert "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta") == "x" * 80


@BOTH
def test_usage_is_its_own_count_split_by_the_cache(client: anthropic.Anthropic, streaming: bool) -> None:
    system = [
        {"type": "text", "text": f"rules {streaming} " * 100, "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    ]
    question = [{"role": "user", "content": "hello"}]
    counted = client.messages.count_tokens(model=MODEL, system=system, tools=[TOOL], messages=question).input_tokens
    first, second = (ask(client, question, system=system, tools=[TOOL], streaming=streaming).usage for _ in range(2))
    for usage in (first, second):
        assert usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens == counted
    assert first.cache_creation.ephemeral_1h_input_tokens == second.cache_read_input_tokens > 0
    assert first.cache_read_input_tokens == second.cache_creation_input_tokens == 0


@BOTH
def test_max_tokens_is_a_limit(client: anthropic.Anthropic, streaming: bool) -> None:
    message = ask(client, "[[say " + "word " * 100 + "]]", max_tokens=10, streaming=streaming)
    assert (message.stop_reason, message.usage.output_tokens) == ("max_tokens", 10)
    message = ask(client, "[[tokens 500]] [[tool look {}]]", max_tokens=10, streaming=streaming)
    assert (message.stop_reason, message.usage.output_tokens, message.content) == ("max_tokens", 10, [])


@BOTH
def test_refusals_and_pauses(client: anthropic.Anthropic, streaming: bool) -> None:
    refused = ask(client, "[[stop refusal]] [[say no]]", streaming=streaming)
    assert (refused.stop_reason, refused.stop_details.type) == ("refusal", "refusal")
    messages: list[dict[str, Any]] = [{"role": "user", "content": "[[stop pause_turn]] [[say one]] [[say two]]"}]
    paused = ask(client, messages, streaming=streaming)
    assert paused.stop_reason == "pause_turn"
    messages.append({"role": "assistant", "content": raw(paused)})
    assert ask(client, messages, streaming=streaming).content[0].text == "two"


@pytest.mark.parametrize(
    "directive",
    [
        '[[raw {"type": "tool_use", "id": "a b", "name": "n.o", "input": {"n": 1}} & {"type": "text", "text": "x"}]]',
        '[[raw {"type": "tool_use", "id": 7, "input": [1]} & {"type": "new", "deep": {"a": [null]}}]]',
        "[[raw-input look 1e999]]",
        '[[raw-input look {"a": NaN}]]',
        f"[[raw-input look {'[' * 2_000}{']' * 2_000}]]",
        '[[raw-input look {"a": "\\ud800"}]]',
        "[[raw-input look plain words]]",
    ],
)
def test_odd_answers_are_the_same_over_http_and_in_process(base_url: str, directive: str) -> None:
    asked = ModelRequest(
        model=MODEL,
        max_tokens=10_000,
        system=[],
        tools=[],
        messages=[{"role": "user", "content": directive}],
        options={},
    )
    outside = AnthropicModel(Key(), base_url).call(asked, timeout_seconds=10)
    inside = StandInModel(SystemClock()).call(asked, timeout_seconds=10)
    assert (shape(outside), outside.stop_reason) == (shape(inside), inside.stop_reason)
    assert outside.stop_reason == "tool_use"


class Key:
    def __call__(self) -> str:
        return "any"

    def refresh(self) -> str:
        return "any"


def shape(reply: ModelReply) -> list[dict[str, Any]]:
    """The content without ids that the stand-in makes up."""
    return [
        {**block, "id": "made up"} if str(block.get("id")).startswith("toolu_01") else block for block in reply.content
    ]


def test_a_refused_block_is_a_place_that_the_adapter_reads(base_url: str) -> None:
    script = "[[refuse 0.1 The image is broken]] [[say ok]]"
    content = [{"type": "text", "text": script}, {"type": "text", "text": "look"}]
    for parts, at in ((content, (0, 1)), (content[:1], None)):
        asked = ModelRequest(MODEL, 100, [], [], [{"role": "user", "content": parts}], {})
        try:
            reply = AnthropicModel(Key(), base_url).call(asked, timeout_seconds=10)
        except ProviderError as error:
            assert error.data["at"] == at
        else:
            assert (at, reply.content) == (None, [{"type": "text", "text": "ok"}])


def test_what_the_api_refuses_is_refused(client: anthropic.Anthropic) -> None:
    use = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    for messages, fields, words in (
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": [use]}], {}, "without `tool_result`"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "so"}], {}, "prefill"),
        ("hi", {"extra_body": {"temperature": 0.5}}, "temperature: Extra inputs"),
        ("hi", {"extra_body": {"nonsense": 1}}, "nonsense: Extra inputs"),
        ("[[fail soon]]", {}, "malformed directive"),
    ):
        with pytest.raises(anthropic.BadRequestError, match=words):
            ask(client, messages, **fields)


def test_the_beta_client_may_send_beta_fields(client: anthropic.Anthropic) -> None:
    message = client.beta.messages.create(
        model=MODEL,
        max_tokens=100,
        messages=[{"role": "user", "content": "hi"}],
        betas=["mcp-client-2025-11-20"],
        mcp_servers=[{"type": "url", "url": "https://mcp.example.com", "name": "m"}],
    )
    assert message.content[0].text == "hi"


def test_models(client: anthropic.Anthropic) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve(MODEL).lifecycle == "active"
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nobody")


HEADERS = {"x-api-key": "any", "anthropic-version": "2026-10-21", "content-type": "application/json"}


def post(
    base_url: str, path: str, body: Any, headers: dict[str, str] | None = None, method: str = "POST"
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=30)
    try:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, data, HEADERS if headers is None else headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read().decode()
    finally:
        connection.close()


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in HEADERS.items() if key != name}


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "kind"),
    [
        ("/v1/messages", {}, without("x-api-key"), 401, "authentication_error"),
        ("/v1/messages", {}, {**HEADERS, "x-api-key": " "}, 401, "authentication_error"),
        ("/v1/messages", {}, without("anthropic-version"), 400, "invalid_request_error"),
        ("/v1/messages", {}, {**HEADERS, "anthropic-version": "new"}, 400, "invalid_request_error"),
        ("/v1/messages", b"{", HEADERS, 400, "invalid_request_error"),
        ("/v1/messages", {"model": MODEL}, HEADERS, 400, "invalid_request_error"),
        ("/v1/messages", b"x" * (32 * 1024 * 1024 + 1), HEADERS, 413, "request_too_large"),
        ("/v1/complete", {}, HEADERS, 404, "not_found_error"),
        ("/v1/models", {}, HEADERS, 405, "invalid_request_error"),
    ],
)
def test_errors_have_the_body_of_the_api(
    base_url: str, path: str, body: Any, headers: dict[str, str], status: int, kind: str
) -> None:
    got, sent, text = post(base_url, path, body, headers)
    error = json.loads(text)
    assert (got, error["type"], error["error"]["type"]) == (status, "error", kind)
    assert error["error"]["message"]
    assert error["request_id"] == sent["request-id"]


def test_a_body_just_under_the_limit_is_read(base_url: str) -> None:
    size = 32 * 1024 * 1024
    status, _, text = post(base_url, "/v1/messages", b'{"model": "' + b"x" * (size - 13) + b'"}')
    assert (status, "max_tokens: Field required" in text) == (400, True)


def test_health_needs_no_key(base_url: str) -> None:
    assert post(base_url, "/healthz", b"", {}, "GET")[0] == 200


def test_the_session_header_tells_conversations_apart(client: anthropic.Anthropic) -> None:
    for name in ("a", "b"):
        with pytest.raises(anthropic.OverloadedError):
            ask(client, "[[fail 529]] [[say mine]]", extra_headers={"x-turnkeeper-session": name})
    assert ask(client, "[[fail 529]] [[say mine]]", extra_headers={"x-turnkeeper-session": "a"})


def test_a_client_that_leaves_does_no_harm(base_url: str, client: anthropic.Anthropic) -> None:
    for script in ("[[sleep 30]] [[say x]]", "[[trickle 30]] [[say xxxxxxxxxxxx]]"):
        with pytest.raises(httpx2.TimeoutException), httpx2.Client(timeout=0.3) as leaving:
            body = {"model": MODEL, "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": script}]}
            leaving.post(f"{base_url}/v1/messages", json=body, headers=HEADERS)
    assert ask(client, "still there").content[0].text == "still there"


def test_started_slow_and_with_a_scenario(tmp_path: Path) -> None:
    scenario = tmp_path / "s.yaml"
    scenario.write_text("rules:\n  - system: billing\n    answers: ['[[tool look {}]]', 'It is ${result}.']\n")
    process, url = start("--scenario", str(scenario), "--slow", "0.5")
    try:
        with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
            started = time.monotonic()
            first = ask(client, "how much?", system="For billing.")
            assert time.monotonic() - started > 0.45
            use = first.content[0]
            messages = [
                {"role": "user", "content": "how much?"},
                {"role": "assistant", "content": raw(first)},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use.id, "content": "42"}]},
            ]
            assert ask(client, messages, system="For billing.").content[0].text == "It is 42."
            assert ask(client, "hello").content[0].text == "hello"
    finally:
        stop(process)


def test_wrong_usage(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "turnkeeper_local.standin"]
    for arguments in ([], ["--port", "x"], ["--port", "0", "--scenario", str(tmp_path / "none.yaml")]):
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=30)
        assert done.returncode == 2
        assert done.stderr


def test_a_taken_port_is_said_so(base_url: str) -> None:
    port = str(urlsplit(base_url).port)
    command = [sys.executable, "-m", "turnkeeper_local.standin", "--port", port]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert (done.returncode, "cannot listen" in done.stderr) == (1, True)


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_even_with_answers_under_way(name: signal.Signals) -> None:
    process, url = start()
    try:
        with ThreadPoolExecutor(1) as pool, anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
            pending = pool.submit(ask, client, "[[sleep 60]] [[say x]]")
            time.sleep(0.5)
            process.send_signal(name)
            process.wait(10)
            with pytest.raises(anthropic.APIError):
                pending.result(10)
    finally:
        stop(process)


def test_answers_come_at_once(base_url: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=30)
    times = []
    for _ in range(20):
        started = time.monotonic()
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        times.append(time.monotonic() - started)
    connection.close()
    # A delayed acknowledgement costs 40 ms each time; the median shrugs off a busy machine.
    assert sorted(times)[10] < 0.03
