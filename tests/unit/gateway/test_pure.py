"""What the gateway makes of bytes: requests that may go on, what an answer used, and how much a call reads at most."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.gateway import MODEL
from tests.support.money import cap_exceeded
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.core.errors import (
    Forbidden,
    InputTooLarge,
    InvalidRequest,
    LeaseLost,
    ProviderError,
    TenantPaused,
    Unauthenticated,
    Unavailable,
    Uncountable,
    UnpricedModel,
)
from turnkeeper.gateway.asking import FIELDS, MAX_BODY_BYTES, read
from turnkeeper.gateway.bounds import Contexts, beginnings_of
from turnkeeper.gateway.reading import Meter
from turnkeeper.gateway.refusing import refusal_of
from turnkeeper.table import StoreBusy
from turnkeeper_local.standin import tokens

BODY: dict[str, Any] = {"model": MODEL, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}


def asked(body: Any, **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read(raw, headers, "beta=true&x=1")


# ---- requests ----

names = st.text(st.characters(codec="utf-8"), max_size=12)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), names)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)


@given(names.filter(lambda name: name not in FIELDS), values)
def test_a_field_that_is_not_known_is_refused_by_its_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked({**BODY, name: value})
    assert caught.value.data["errors"][0]["where"] == name


@given(values, st.sampled_from(["metadata", "system", "tool_choice", "thinking", "output_config"]))
def test_what_goes_on_is_what_came(value: Any, name: str) -> None:
    raw = json.dumps({name: value, **BODY}, indent=2).encode()
    found = asked(raw)
    assert found.clamped(50) is raw and found.clamped(10_000) is raw
    shorter = json.loads(found.clamped(20))
    assert shorter["max_tokens"] == 20
    kept = set(BODY) | ({name} - {"thinking"})
    assert {each: shorter[each] for each in kept - {"max_tokens"}} == {
        each: json.loads(raw)[each] for each in kept - {"max_tokens"}
    }


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"m","max_tokens":1,"max_tokens":9,"messages":[{}]}',
        b'{"model":"m","max_tokens":1,"messages":[{"role":"user","content":"a","role":"system"}]}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"tools":[{"type":"web_search_1","max_uses":1,"max_uses":99}]}',
        b'{"model":"m","max_tokens":NaN,"messages":[{}]}',
        b'{"model":"m","max_tokens":1e9,"messages":[{}]}',
        b'{"model":"m","max_tokens":true,"messages":[{}]}',
        b'{"model":"m","max_tokens":0,"messages":[{}]}',
        b'{"model":"m","max_tokens":1,"messages":{}}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"tools":{"a":1}}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"stream":"yes"}',
        b'{"model":["m"],"max_tokens":1,"messages":[{}]}',
        b"[1]",
        b"",
        b"[" * 100_000,
        json.dumps(BODY).encode("utf-16"),
        b"\xff" + json.dumps(BODY).encode(),
    ],
)
def test_a_body_that_can_be_read_in_two_ways_or_none_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest):
        asked(raw)


def test_a_body_is_read_as_it_is() -> None:
    with pytest.raises(InvalidRequest):
        asked(BODY, **{"content-encoding": "gzip"})
    with pytest.raises(InputTooLarge):
        asked(b"x" * (MAX_BODY_BYTES + 1))
    assert asked(BODY, **{"content-encoding": "Identity"}).query == "beta=true"


@pytest.mark.parametrize(
    "more",
    [
        {"service_tier": "priority"},
        {"speed": "warp"},
        {"inference_geo": "moon"},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
        {"context_management": {"edits": [{"type": "made_up_20260101"}]}},
    ],
)
def test_what_nobody_can_price_is_refused(more: dict[str, Any]) -> None:
    found = asked({**BODY, **more})
    with pytest.raises(UnpricedModel) as caught:
        BundledPrices().rates(found.model, found.options)
    assert refusal_of(caught.value).status == 400


@pytest.mark.parametrize("name", ["container", "mcp_servers", "fallbacks", "compaction", "betas", "workspace_id"])
def test_what_leads_to_other_money_is_not_known(name: str) -> None:
    with pytest.raises(InvalidRequest):
        asked({**BODY, name: None})


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "tool_result", "content": [{"type": "image", "source": {"type": "file", "file_id": "file_1"}}]},
    ],
)
def test_a_file_at_the_provider_may_be_anybodys(block: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="files of all tenants"):
        asked({**BODY, "messages": [{"role": "user", "content": [block]}]})
    call = {"type": "tool_use", "id": "t", "name": "n", "input": {"source": {"type": "file"}}}
    assert asked({**BODY, "messages": [{"role": "assistant", "content": [call]}]})


def test_dearer_is_reckoned_dearer() -> None:
    plain, hour, fast = (
        BundledPrices().rates(MODEL, asked({**BODY, **more}).options).input_nanousd
        for more in (
            {},
            {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
            {"inference_geo": "us"},
        )
    )
    assert plain < hour and plain < fast


# ---- what an answer used ----

counts = st.integers(0, 10**6)


def events(first: int, last: int, text: str, *, ends: bool = True) -> bytes:
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"model": MODEL, "usage": {"input_tokens": first, "output_tokens": 1}}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "ping"},
    ]
    if ends:
        delta = {"stop_reason": "end_turn"}
        told += [{"type": "message_delta", "delta": delta, "usage": {"output_tokens": last}}, {"type": "message_stop"}]
    return b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in told)


@given(counts, counts, names, st.lists(st.integers(1, 90), max_size=20), st.booleans(), st.sampled_from(["\n", "\r\n"]))
def test_the_usage_is_read_however_the_bytes_come(
    first: int, last: int, text: str, cuts: list[int], ends: bool, newline: str
) -> None:
    tricky = f'{text} data: {{"type":"message_delta","usage":{{"output_tokens":0}}}} "error" message_delta'
    stream = events(first, last, tricky, ends=ends).replace(b"\n", newline.encode())
    meter = Meter()
    for cut in cuts:
        meter.feed(stream[:cut])
        stream = stream[cut:]
    meter.feed(stream)
    assert meter.final == ends
    assert meter.billed == ({"input_tokens": first, "output_tokens": last} if ends else {})
    assert meter.error is None


@given(st.binary(max_size=200), st.lists(st.sampled_from([b"data:", b"\n\n", b'{"type":"message_delta"', b"}"])))
def test_no_bytes_break_the_meter(noise: bytes, parts: list[bytes]) -> None:
    meter = Meter()
    for part in (noise, *parts, noise):
        meter.feed(part)
    meter.whole(noise)


@pytest.mark.parametrize(
    "usage",
    [{"input_tokens": -1}, {"input_tokens": 1.5}, {"input_tokens": "7"}, {"output_tokens": 10**12}, None, [], "much"],
)
def test_a_usage_that_cannot_be_true_is_none(usage: Any) -> None:
    meter = Meter()
    meter.whole(json.dumps({"usage": usage}).encode())
    assert meter.billed == {}


# ---- how much a call reads at most ----

texts = st.text(st.characters(codec="utf-8"), max_size=60)
blocks = st.builds(lambda text: {"type": "text", "text": text}, texts)
messages = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant"]),
    st.one_of(texts, st.lists(blocks, max_size=3)),
)
marked = {"cache_control": {"type": "ephemeral"}}


def counted(body: dict[str, Any]) -> int:
    return tokens.count(tokens.segments(body))


def with_markers(body: dict[str, Any]) -> dict[str, Any]:
    """The same, with its markers elsewhere."""
    moved = [
        {**each, "content": [{**block, **marked} for block in each["content"]]}
        if isinstance(each["content"], list)
        else each
        for each in body["messages"]
    ]
    return {**body, "messages": moved}


@settings(max_examples=200)
@given(st.lists(messages, min_size=1, max_size=4), st.lists(messages, max_size=4), texts, st.booleans())
def test_what_was_read_bounds_what_begins_with_it(said: Any, more: Any, system: str, same: bool) -> None:
    contexts = Contexts()
    first = {**BODY, "system": system, "messages": said}
    contexts.learn("t", first, beginnings_of(first, ()), counted(first))
    then = with_markers({**first, "messages": [*(said if same else said[:-1]), *more, messages_end]})
    bound = contexts.bound("t", then, beginnings_of(then, ()))
    assert bound is not None and bound >= counted(then)
    other = contexts.bound("another", then, beginnings_of(then, ()))
    assert other is not None and other >= counted(then)


messages_end = {"role": "user", "content": "so?"}


def test_a_large_body_is_not_reckoned_by_its_bytes_twice() -> None:
    contexts = Contexts()
    first = {**BODY, "system": "words " * 12_000}
    contexts.learn("t", first, beginnings_of(first, ()), 15_000)
    again = {**first, "messages": [*first["messages"], {"role": "assistant", "content": "yes"}, messages_end]}
    fresh = {**first, "messages": [{"role": "user", "content": "another conversation"}]}
    for body in (again, fresh):
        bound = contexts.bound("t", body, beginnings_of(body, ()))
        assert bound is not None and bound < 15_500
    for other in ({**again, "system": "else " * 12_000}, {**again, "model": "claude-opus-5-5"}):
        bound = contexts.bound("t", other, beginnings_of(other, ()))
        assert bound is not None and bound > 60_000


def test_what_has_no_bytes_here_is_asked_for() -> None:
    page = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
    body = {**BODY, "messages": [{"role": "user", "content": [page]}]}
    assert Contexts().bound("t", body, beginnings_of(body, ())) is None


# ---- what a client is told ----


@pytest.mark.parametrize(
    ("error", "status", "kind", "again"),
    [
        (cap_exceeded(), 402, "billing_error", False),
        (cap_exceeded(contended=True), 429, "rate_limit_error", True),
        (TenantPaused("tenant acme is paused"), 403, "permission_error", False),
        (Forbidden("this token was revoked"), 403, "permission_error", False),
        (LeaseLost("lost"), 403, "permission_error", False),
        (Unauthenticated("none of ours"), 401, "authentication_error", False),
        (UnpricedModel("no price", model="m"), 404, "not_found_error", False),
        (UnpricedModel("no price", model="m", option="speed"), 400, "invalid_request_error", False),
        (InvalidRequest("foo: not known"), 400, "invalid_request_error", False),
        (InputTooLarge("large"), 413, "request_too_large", False),
        (StoreBusy("busy"), 503, "api_error", True),
        (Unavailable("away", retry_after_seconds=2.5), 503, "api_error", True),
        (Uncountable("Bedrock counts no tokens"), 404, "not_found_error", False),
        (ProviderError("away", retryable=True, certainty="unbilled"), 502, "api_error", True),
    ],
)
def test_every_refusal_says_whether_to_try_again(error: Any, status: int, kind: str, again: bool) -> None:
    told, headers, body = refusal_of(error).answer("req_1")
    document = json.loads(body)
    assert (told, document["error"]["type"], document["type"]) == (status, kind, "error")
    assert document["error"]["message"].startswith("turnkeeper: ")
    assert document["request_id"] == headers["request-id"] == "req_1"
    assert ("retry-after" in headers, headers.get("x-should-retry")) == ((True, None) if again else (False, "false"))
