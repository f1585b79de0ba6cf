"""Bodies that ask for more than their call pays: what is read of them, what is priced, and what bounds a call."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.gateway import MODEL, served
from tests.unit.gateway.test_gateway import ANSWER, post
from tests.unit.gateway.test_pure import BODY, asked, values
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.core.errors import InvalidRequest, TurnkeeperError, UnpricedModel
from turnkeeper.core.ledger import bound_nanousd
from turnkeeper.gateway.asking import FIELDS
from turnkeeper.gateway.bounds import Contexts, beginnings_of
from turnkeeper.gateway.money import _sampled
from turnkeeper_local.standin.serving import serving

# ---- bodies ----

odd = st.one_of(
    values,
    st.sampled_from(
        [
            10**400,
            -1,
            0,
            [],
            {},
            [{}],
            {"budget_tokens": "all"},
            {"budget_tokens": None},
            {"budget_tokens": 9e9},
            {"budget_tokens": True},
            {"edits": 5},
            {"edits": True},
            {"edits": {"type": "clear_"}},
            {"edits": [None]},
            [{"type": "web_search_20250305", "max_uses": 10**30}],
            [{"type": ["custom"]}],
            [{"cache_control": {"ttl": "1h"}}],
            "\ud800",
        ]
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), odd, max_size=4))
def test_whatever_is_in_a_body_it_is_read_priced_and_made_shorter_or_refused(more: dict[str, Any]) -> None:
    try:
        found = asked({**BODY, **more})
        rates = BundledPrices().rates(found.model, found.options)
        begins = beginnings_of(found.body, found.betas, changes=found.changes)
        bound = Contexts().bound("t", found.body, begins)
        shorter = found.clamped(1)
    except TurnkeeperError as error:
        assert len(str(error)) < 1_000
        return
    assert bound is None or bound > 0
    assert _sampled(1, found.server_tools) * rates.input_nanousd < 10**38  # What a number of the table holds.
    assert json.loads(shorter, parse_constant=pytest.fail)["max_tokens"] == 1


@pytest.mark.parametrize(
    "raw",
    [
        b'{"model":"m","max_tokens":1,"messages":[{}],"temperature":1e999}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"thinking":{"budget_tokens":1e999}}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"thinking":{"budget_tokens":"9"}}',
        b'{"model":"' + b"m" * 1_000 + b'","max_tokens":1,"messages":[{}]}',
        b'{"model":"m\\nlevel=error","max_tokens":1,"messages":[{}]}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"' + b"x" * 100_000 + b'":1}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"tools":[{"type":"tool_search_tool_bm25_20251119"}]}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"tools":[{"type":"web_search_20260209","max_uses":1}]}',
        b'{"model":"m","max_tokens":1,"messages":[{}],"tools":[{"type":"web_fetch_latest","max_uses":1}]}',
    ],
)
def test_what_would_fail_later_or_cannot_be_bounded_is_refused_in_few_words(raw: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        asked(raw)
    assert len(str(caught.value)) < 400


def test_uses_of_a_tool_are_a_number_that_a_call_can_have() -> None:
    found = asked({**BODY, "tools": [{"type": "web_search_20250305", "name": "s", "max_uses": 10**30}]})
    with pytest.raises(UnpricedModel):
        BundledPrices().rates(found.model, found.options)


def test_a_search_that_is_called_by_the_model_alone_runs_as_often_as_it_says() -> None:
    tool = {"type": "web_search_20260209", "name": "s", "max_uses": 2, "allowed_callers": ["direct"]}
    assert [each.max_uses for each in asked({**BODY, "tools": [tool]}).server_tools] == [2]


def test_what_a_fetch_brings_is_read_again_after_each_use() -> None:
    tool = {"type": "web_fetch_20250910", "name": "f", "max_uses": 3, "max_content_tokens": 100_000}
    found = asked({**BODY, "tools": [tool]})
    most = sum(1_000 + use * 100_000 for use in range(4))
    assert _sampled(1_000, found.server_tools) >= most


def test_tools_of_any_size_are_priced_and_forgotten() -> None:
    prices = BundledPrices()

    def call(number: int) -> None:
        tools = [{"name": f"t{number}_{each}", "description": "d" * 1_000, "input_schema": {}} for each in range(100)]
        found = asked({**BODY, "tools": tools})
        prices.rates(found.model, found.options)
        prices.cost_nanousd(found.model, {"input_tokens": 1, "output_tokens": 1}, found.options)

    call(0)
    tracemalloc.start()
    for number in range(20):
        call(number)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 500_000


# ---- what bounds a call ----

PAGE = {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}
THOUGHT = {"type": "thinking", "thinking": "hm " * 10_000, "signature": "s"}
USE = {"type": "tool_use", "id": "t1", "name": "n", "input": {}}
RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]}


def test_a_page_that_grows_between_its_count_and_its_call_is_set_aside_in_full() -> None:
    """Its owner may be the client. Neither a count nor what it was before says how much the model will read."""

    def answer() -> Response:
        return JSONResponse({"input_tokens": 10})

    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        await request.body()
        seen.append(request.url.path)
        await (answer() if "count" in request.url.path else JSONResponse(ANSWER))(scope, receive, send)

    body = {**BODY, "messages": [{"role": "user", "content": [PAGE]}]}
    with serving(app) as url, served(url, tenant_monthly=10**12) as rig:
        for _ in "12":
            assert post(rig, body).status_code == 200
        rates = rig.gateway.till.prices.rates(MODEL, {})
        assert rates.window is not None
        least = bound_nanousd(rates.window, 0, rates.input_nanousd, 0, 0)
        assert all(call["amount_nanousd"] >= least for call in rig.calls())
        rig.till.tenants.set("acme", actor="ops", caps={"tenant_monthly": 10**7})
        assert post(rig, body).status_code == 402


def test_thoughts_that_were_left_out_of_one_call_are_read_by_another() -> None:
    """The turn is over in the first call, so its thoughts are not read; in the second one it goes on."""
    contexts = Contexts()
    turn = [{"role": "user", "content": "do"}, {"role": "assistant", "content": [THOUGHT, USE]}, RESULT]
    over = {**BODY, "messages": [*turn, {"role": "assistant", "content": "done"}, {"role": "user", "content": "next"}]}
    contexts.learn("t", over, beginnings_of(over, ()), 600)
    goes_on = {**BODY, "messages": turn}
    bound = contexts.bound("t", goes_on, beginnings_of(goes_on, ()))
    assert bound is not None and bound > 10_000
    more = {**over, "messages": [*over["messages"], {"role": "assistant", "content": "yes"}, BODY["messages"][0]]}
    bound = contexts.bound("t", more, beginnings_of(more, ()))
    assert bound is not None and bound < 1_000


def test_what_was_summarized_in_one_call_is_read_by_another() -> None:
    contexts = Contexts()
    long = [{"role": "user", "content": "long " * 10_000}]
    summary = {"role": "assistant", "content": [{"type": "compaction", "content": "it was long"}]}
    summed = {**BODY, "messages": [*long, summary, *BODY["messages"]]}
    contexts.learn("t", summed, beginnings_of(summed, ()), 50)
    plain = {**BODY, "messages": [*long, {"role": "assistant", "content": "yes"}, *BODY["messages"]]}
    bound = contexts.bound("t", plain, beginnings_of(plain, ()))
    assert bound is not None and bound > 50_000


def test_a_tool_that_was_not_read_yet_may_be_read_now() -> None:
    contexts = Contexts()
    tool = {"name": "n", "description": "word " * 10_000, "input_schema": {}, "defer_loading": True}
    first = {**BODY, "tools": [tool]}
    contexts.learn("t", first, beginnings_of(first, ()), 500)
    found = {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "tool_reference", "tool_name": "n"}]}
    then = {**first, "messages": [*BODY["messages"], {"role": "user", "content": [found]}]}
    bound = contexts.bound("t", then, beginnings_of(then, ()))
    assert bound is not None and bound > 50_000
