"""Turns through the API: what they answer, in which shape, and what is left behind."""

from __future__ import annotations

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.outside import (
    RESTING,
    SESSION_FIELDS,
    TURN_FIELDS,
    Caller,
    Stack,
    assert_books,
    assert_problem,
    assert_transcript,
    call,
    eventually,
    good,
    lines,
    results,
    text_of,
    tools,
)

pytestmark = pytest.mark.stack


# ---- one turn ----


def test_a_turn_of_many_steps(caller: Caller) -> None:
    steps = " ".join(tools(call("look", what=f"thing {n}")) for n in range(6))
    turn = caller.turn("handy", f"{steps} [[say all seen]]", metadata={"ticket": 7})
    assert set(turn) >= TURN_FIELDS
    assert (turn["status"], turn["stop"]["reason"], turn["output_text"]) == ("idle", "end_turn", "all seen")
    assert [block["type"] for block in turn["output"]] == ["text"]
    assert turn["steps"] == 7
    assert turn["continuation_token"] is None
    assert Decimal(turn["cost_usd"]) > 0
    session, events = caller.checked(turn["session_id"])
    assert session["runner"] == "lambda"
    assert session["metadata"] == {"ticket": 7}
    assert session["iterations"] == 7
    assert (session["tenant_id"], session["user_id"]) == (caller.tenant, caller.user)
    assert {name: session[name] for name in TURN_FIELDS - {"continuation_token"}} == {
        name: turn[name] for name in TURN_FIELDS - {"continuation_token"}
    }
    assert [event["type"] for event in events] == ["user", *["assistant", "tool_results"] * 6, "assistant", "status"]
    assert [text_of(result["content"]) for result in results(events)] == [f"saw thing {n}" for n in range(6)]
    assert_books(caller, [session])


def test_calls_of_one_answer_run_at_once_and_keep_their_order(caller: Caller, tmp_path: Path) -> None:
    began = tmp_path / "began"
    waits = tools(*(call("wait", seconds=seconds, file=str(began)) for seconds in (2.5, 2.0, 1.5, 1.0)))
    turn = caller.turn("handy", f"{waits} [[say waited]]")
    _, events = caller.checked(turn["session_id"])
    assert [text_of(result["content"]) for result in results(events)] == [f"waited {s}" for s in (2.5, 2.0, 1.5, 1.0)]
    moments = [float(line.split()[2]) for line in lines(began)]
    assert len(moments) == 4
    assert max(moments) - min(moments) < 1.0, "the last began before the first could have ended"


def test_what_tools_do_wrong_comes_back_to_the_model(caller: Caller) -> None:
    calls = tools(
        call("typed", points=[{"x": 1}, {"x": 2, "y": 3}], label="sum"),
        call("typed", points=3, label="sum"),
        call("typed", points=[], label="sum", more=1),
        call("refuse", why="not today"),
        call("crash"),
        call("hang"),
        call("garbage"),
        call("vault"),
        call("nowhere"),
    )
    turn = caller.turn("handy", f"{calls} [[say still here]]")
    assert turn["output_text"] == "still here"
    session, events = caller.checked(turn["session_id"])
    found = results(events)
    assert [result["outcome"] for result in found] == ["ok", *["error"] * 6, "denied", "denied"]
    texts = [text_of(result["content"]) for result in found]
    assert texts[0] == "sum: 6"
    assert "points" in texts[1]
    assert "not today" in texts[3]
    assert "RuntimeError" in texts[4]
    assert "look" in texts[7], "a refusal says what there is"
    assert "Traceback" not in json.dumps(found)
    assert "vault" not in session["granted_tools"]


def test_roles_are_granted_what_policy_names(stack: Stack) -> None:
    everyone = stack.caller(role="user")
    assert "ledger" in everyone.session(everyone.turn("handy", "hi")["session_id"])["granted_tools"]
    stranger = stack.caller(role="nobody-described-this")
    turn = stranger.turn("handy", f"{tools(call('ledger'))} [[say ok]]")
    session, events = stranger.checked(turn["session_id"])
    assert "ledger" not in session["granted_tools"]
    assert [result["outcome"] for result in results(events)] == ["denied"]


def test_input_may_be_content_blocks(caller: Caller) -> None:
    blocks = [{"type": "text", "text": "[[say seen]]"}, {"type": "text", "text": "and more"}]
    turn = caller.turn("handy", blocks)
    assert turn["output_text"] == "seen"
    _, events = caller.checked(turn["session_id"])
    assert [block["text"] for block in events[0]["content"]] == ["[[say seen]]", "and more"]


def test_a_large_result_and_text_survive(caller: Caller) -> None:
    """More than an item of the table holds by itself."""
    turn = caller.turn("handy", f"{tools(call('big', size=150_000))} [[say ok]] " + "Ünïcödé 🙂 " * 8_000)
    _, events = caller.checked(turn["session_id"])
    [result] = results(events)
    assert text_of(result["content"]) == "0123456789abcdef" * (150_000 // 16)
    assert text_of(events[0]["content"]).count("🙂") == 8_000


# ---- how turns end ----


@pytest.mark.parametrize(
    ("agent", "text", "status", "reason"),
    [
        ("handy", "hello", "idle", "end_turn"),
        ("tasker", tools(call("end_task", status="completed", summary="s")), "completed", "end_task"),
        ("tasker", tools(call("end_task", status="failed", summary="s")), "failed", "end_task"),
        ("tasker", "[[say one]] [[say two]]", "failed", "no_done_signal"),
        ("handy", "[[stop refusal]] [[say no]]", "stopped", "refusal"),
        ("short", f"[[tokens 5000]] [[say {'word ' * 400}]]", "stopped", "max_tokens"),
        ("handy", "[[stop model_context_window_exceeded]] [[say much]]", "stopped", "context_window"),
        ("brief", "".join(tools(call("look", what=str(n))) for n in range(9)), "stopped", "iteration_limit"),
        ("hurried", f"{tools(call('wait', seconds=5))} {tools(call('look', what='x'))}", "stopped", "deadline"),
        ("handy", "[[fail 400]] [[say never]]", "stopped", "provider_error"),
    ],
)
def test_every_end(caller: Caller, agent: str, text: str, status: str, reason: str) -> None:
    turn = caller.turn(agent, text)
    assert (turn["status"], turn["stop"]["reason"]) == (status, reason), turn
    assert isinstance(turn["stop"]["detail"], dict)
    assert bool(turn["continuation_token"]) == (status == "stopped")
    session, _ = caller.checked(turn["session_id"])
    assert_books(caller, [session])


def test_a_task_says_itself_that_it_is_done(caller: Caller) -> None:
    end = tools(call("end_task", status="completed", summary="Found 3."))
    turn = caller.turn("tasker", f"{tools(call('look', what='x'))} {end}")
    assert turn["stop"]["detail"]["summary"] == "Found 3."
    assert_problem(caller.say(turn["session_id"], "more"), 409, "session_ended")
    caller.checked(turn["session_id"])


def test_a_task_that_forgets_is_nudged_once(caller: Caller) -> None:
    turn = caller.turn("tasker", "[[say I think so]]")
    assert (turn["status"], turn["stop"]["reason"]) == ("failed", "no_done_signal")
    _, events = caller.checked(turn["session_id"])
    assert [event["type"] for event in events] == ["user", "assistant", "user", "assistant", "status"]
    assert "end_task" in text_of(events[2]["content"])


def test_pause_turn_and_unknown_stop_reasons_lose_nothing(caller: Caller) -> None:
    turn = caller.turn("handy", "[[stop pause_turn]] [[say first]] [[say second]]")
    assert turn["status"] == "idle"
    caller.checked(turn["session_id"])
    turn = caller.turn("handy", "[[stop something_new]] [[say odd]]")
    assert turn["status"] in RESTING
    assert turn["output_text"] == "odd"
    caller.checked(turn["session_id"])


# ---- a conversation ----


def test_the_next_turn_has_the_whole_history(caller: Caller) -> None:
    first = caller.turn("handy", f"{tools(call('look', what='the first thing'))} [[say one]]")
    before = caller.events(first["session_id"])
    second = caller.finish(caller.say(first["session_id"], "and now, without directives"))
    assert second["status"] == "idle"
    assert "without directives" in second["output_text"]
    session, events = caller.checked(first["session_id"])
    assert events[: len(before)] == before, "what was written is never changed"
    answers = [event for event in events if event["type"] == "assistant"]
    read = [sum(answer["usage"].get(name) or 0 for name in _READ) for answer in answers]
    assert read == sorted(read)
    assert len(set(read)) == len(read), "each call was sent more than the one before"
    assert session["steps"] == 3
    assert session["iterations"] == 1


_READ = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def test_a_second_input_while_a_turn_runs_is_409(caller: Caller) -> None:
    running = caller.start("handy", f"{tools(call('wait', seconds=6))} [[say ok]]", wait=0)
    assert running.status_code == 202
    problem = assert_problem(caller.say(running.json()["session_id"], "and this"), 409, "session_busy")
    assert problem.get("session_id") == running.json()["session_id"]
    caller.finish(running)
    caller.checked(running.json()["session_id"])


# ---- waiting ----


def test_waiting_not_at_all(caller: Caller) -> None:
    response = caller.start("handy", f"{tools(call('wait', seconds=3))} [[say ok]]", wait=0)
    turn = response.json()
    assert response.status_code == 202
    assert set(turn) >= TURN_FIELDS
    assert turn["status"] == "running"
    assert turn["stop"] is None
    assert turn["continuation_token"]
    assert caller.finish(response, wait=25)["output_text"] == "ok"
    caller.checked(turn["session_id"])


def test_a_long_task_through_short_waits_and_continue(caller: Caller) -> None:
    """Each 202 brings a token; any of them leads to the one answer."""
    text = " ".join(tools(call("wait", seconds=4 + n / 100)) for n in range(10)) + " [[say forty seconds]]"
    began = time.monotonic()
    response = caller.start("handy", text, wait=5)
    tokens = []
    while response.status_code == 202:
        tokens.append(response.json()["continuation_token"])
        response = caller.go_on(tokens[-1], wait=5)
        assert time.monotonic() - began < 150
    turn = good(response)
    assert len(tokens) >= 4
    assert turn["output_text"] == "forty seconds"
    assert good(caller.go_on(tokens[0]))["last_seq"] == turn["last_seq"], "an old token runs nothing again"
    session, events = caller.checked(turn["session_id"])
    assert len(results(events)) == 10
    assert_books(caller, [session])


# ---- the same twice ----


def test_the_same_key_ten_times_at_once(caller: Caller, tmp_path: Path) -> None:
    paid = tmp_path / "paid"
    text = f"{tools(call('pay', file=str(paid), what='once', seconds=1))} [[say ok]] {uuid.uuid4().hex}"
    body = {"agent": "handy", "input": text}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: caller.post("/v1/sessions", body, wait=25, key="the key"), range(10)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    assert len({answer.text for answer in answers}) == 1, [answer.text for answer in answers]
    assert len(lines(paid)) == 1
    assert len(good(caller.get("/v1/sessions"))["sessions"]) == 1
    session, _ = caller.checked(answers[0].json()["session_id"])
    again = {"input": text, "agent": "handy"}
    assert good(caller.post("/v1/sessions", again, key="the key"))["session_id"] == session["session_id"]
    for other in ({**body, "input": "else"}, {**body, "agent": "desk"}, {**body, "metadata": {"a": 1}}):
        assert_problem(caller.post("/v1/sessions", other, key="the key"), 422, "idempotency_mismatch")
    elsewhere = caller.stack.caller().post("/v1/sessions", {"agent": "handy", "input": "hi"}, key="the key")
    assert good(elsewhere)["session_id"] != session["session_id"], "keys belong to their tenant"


def test_the_same_key_for_the_same_input_in_a_session(caller: Caller) -> None:
    session_id = caller.turn("handy", "hi")["session_id"]
    path, body = f"/v1/sessions/{session_id}/turns", {"input": "[[say once]]"}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: caller.post(path, body, wait=20, key="k2"), range(6)))
    assert {answer.status_code for answer in answers} == {200}, [answer.text for answer in answers]
    assert {answer.json()["output_text"] for answer in answers} == {"once"}
    assert_problem(caller.post(path, {"input": "[[say else]]"}, key="k2"), 422, "idempotency_mismatch")
    caller.finish(caller.say(session_id, "[[say later]]"))
    assert good(caller.post(path, body, key="k2"))["output_text"] == "once", "that turn's answer, not the latest"
    _, events = caller.checked(session_id)
    assert [event["type"] for event in events].count("user") == 3


# ---- events ----


def test_events_by_long_poll(caller: Caller) -> None:
    response = caller.start("handy", f"{tools(call('wait', seconds=3))} [[say ok]]", wait=0)
    session_id = response.json()["session_id"]
    seen: list[dict[str, Any]] = []
    status, after = "running", 0
    for _ in range(60):
        page = good(caller.get(f"/v1/sessions/{session_id}/events", after=after, wait=20))
        assert set(page) >= {"events", "last_seq", "status"}
        seen += page["events"]
        after, status = page["last_seq"], page["status"]
        if status in RESTING:
            break
    assert status == "idle"
    assert seen == caller.events(session_id)
    assert good(caller.get(f"/v1/sessions/{session_id}/events", after=2))["events"] == seen[2:]
    began = time.monotonic()
    page = good(caller.get(f"/v1/sessions/{session_id}/events", after=after, wait=20))
    assert page["events"] == []
    assert time.monotonic() - began < 15, "a session at rest is not waited for"
    for event in seen:
        assert {"seq", "type", "at"} <= set(event)
        assert event["type"] in {"user", "assistant", "tool_results", "status"}


def test_events_as_server_sent_events(caller: Caller) -> None:
    look = tools(call("look", what="line\nbreak"))
    turn = caller.turn("handy", f"{look} [[say ok]]")
    path = f"/v1/sessions/{turn['session_id']}/events"
    events = caller.events(turn["session_id"])
    sse = {"Accept": "text/event-stream"}
    response = caller.http.get(path, headers=sse)
    assert response.headers["content-type"].split(";")[0] == "text/event-stream"
    assert _frames(response.text) == [(event["seq"], event) for event in events]
    later = caller.http.get(path, headers={**sse, "Last-Event-ID": "3"})
    assert [seq for seq, _ in _frames(later.text)] == [event["seq"] for event in events if event["seq"] > 3]
    after = caller.http.get(path, headers=sse, params={"after": 4, "wait": 0})
    assert [seq for seq, _ in _frames(after.text)] == [event["seq"] for event in events if event["seq"] > 4]


def _frames(stream: str) -> list[tuple[int, Any]]:
    """Frames with an id, as a client of the standard reads them."""
    found = []
    for frame in stream.replace("\r\n", "\n").split("\n\n"):
        fields: dict[str, str] = {}
        for line in frame.splitlines():
            name, _, value = line.partition(":")
            if name:
                value = value.removeprefix(" ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value
        if "id" in fields:
            found.append((int(fields["id"]), json.loads(fields["data"])))
    return found


# ---- lists ----


def test_lists_page_and_filter(stack: Stack, caller: Caller) -> None:
    made = [caller.turn("handy", f"[[say {n}]]")["session_id"] for n in range(4)]
    ended = caller.turn("tasker", tools(call("end_task", status="completed", summary="s")))["session_id"]
    other = stack.caller(caller.tenant, user="u2", role="user")
    theirs = other.turn("handy", "mine")["session_id"]

    def ids(who: Caller, **query: Any) -> list[str]:
        found, cursor = [], None
        while True:
            page = good(who.get("/v1/sessions", **query, **({"cursor": cursor} if cursor else {})))
            assert set(page) >= {"sessions", "next_cursor"}
            assert len(page["sessions"]) <= query.get("limit", 100)
            found += [session["session_id"] for session in page["sessions"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    assert set(ids(caller)) == {*made, ended, theirs}, "an admin sees the whole tenant"
    assert sorted(ids(caller, limit=2)) == sorted(ids(caller))
    assert set(ids(caller, limit=2, status="idle")) == {*made, theirs}
    assert ids(caller, status="completed") == [ended]
    assert ids(caller, status="failed") == []
    assert ids(other) == [theirs]
    assert ids(stack.caller()) == []
    listed = good(caller.get("/v1/sessions"))["sessions"][0]
    assert {"session_id", "agent", "status", "cost_usd", "steps", "created_at"} <= set(listed)
    assert set(caller.session(listed["session_id"])) >= SESSION_FIELDS


# ---- the end of a session ----


@pytest.mark.parametrize("placement", ["interactive", "background"])
def test_cancel_within_seconds(caller: Caller, placement: str) -> None:
    """On Lambda and on the worker, in the middle of a tool and of a model call."""
    for text in (f"{tools(call('wait', seconds=40))} [[say late]]", "[[sleep 40]] [[say late]]"):
        session_id = caller.start("handy", text, wait=0, placement=placement).json()["session_id"]
        caller.until(session_id, lambda now: now["iterations"] >= 1 and now["status"] == "running")
        began = time.monotonic()
        document = good(caller.cancel(session_id))
        assert set(document) >= SESSION_FIELDS
        session = caller.rested(session_id)
        assert time.monotonic() - began < 20
        assert (session["status"], session["stop"]["reason"]) == ("cancelled", "cancelled")
        assert session["runner"] == ("lambda" if placement == "interactive" else "fargate")
        assert good(caller.cancel(session_id))["status"] == "cancelled", "asking twice is no mistake"
        assert_problem(caller.say(session_id, "more"), 409, "session_ended")
        caller.checked(session_id)
    eventually(lambda: all(float(s["reserved_usd"]) == 0 for s in caller.scopes().values()), "nothing is reserved")


def test_cancel_at_rest_and_after_the_end(caller: Caller) -> None:
    resting = caller.turn("handy", "hi")["session_id"]
    assert good(caller.cancel(resting))["status"] == "cancelled"
    caller.checked(resting)
    ended = caller.turn("tasker", tools(call("end_task", status="completed", summary="s")))["session_id"]
    assert_problem(caller.cancel(ended), 409, "session_ended")


def test_erase_leaves_the_cost_and_no_word(caller: Caller) -> None:
    secret = f"remember-{uuid.uuid4().hex}"
    turn = caller.turn("handy", f"{tools(call('look', what=secret))} [[say {secret}]]", metadata={"note": secret})
    before = caller.scopes()["tenant_monthly"]["spent_usd"]
    response = caller.erase(turn["session_id"])
    assert (response.status_code, response.content) == (204, b"")
    session = caller.session(turn["session_id"])
    assert session["status"] == "erased"
    assert session["cost_usd"] == turn["cost_usd"]
    assert session["continuation_token"] is None
    events = caller.get(f"/v1/sessions/{turn['session_id']}/events")
    assert secret not in json.dumps(session) + events.text + caller.get("/v1/sessions").text
    assert caller.scopes()["tenant_monthly"]["spent_usd"] == before
    assert_problem(caller.say(turn["session_id"], "more"), 409, "session_ended")
    assert caller.erase(turn["session_id"]).status_code == 204
    client = caller.stack.client("dynamodb")
    pages = client.get_paginator("scan").paginate(TableName=caller.stack.kit.table_name)
    assert not any(secret in str(item) for page in pages for item in page["Items"])


@pytest.mark.parametrize("placement", ["interactive", "background"])
def test_erase_while_a_turn_runs(caller: Caller, placement: str) -> None:
    running = caller.start("handy", f"{tools(call('wait', seconds=20))} [[say late]]", wait=0, placement=placement)
    session_id = running.json()["session_id"]
    caller.until(session_id, lambda now: now["steps"] >= 1)
    response = caller.erase(session_id)
    assert response.status_code in {204, 409}, response.text
    if response.status_code == 409:
        assert_problem(response, 409, "session_busy")
        good(caller.cancel(session_id))
        caller.rested(session_id)
        assert caller.erase(session_id).status_code == 204
    assert caller.session(session_id)["status"] == "erased"
    eventually(lambda: all(float(s["reserved_usd"]) == 0 for s in caller.scopes().values()), "nothing is reserved")


# ---- the rest ----


def test_what_needs_no_identity(stack: Stack) -> None:
    caller = stack.caller()
    assert good(caller.get("/v1/health"))["status"]
    document = good(caller.get("/v1/openapi.json"))
    assert document["openapi"].startswith("3.")
    assert {
        *("/v1/sessions", "/v1/sessions/{id}", "/v1/sessions/{id}/turns", "/v1/sessions/{id}/events"),
        *("/v1/sessions/{id}/cancel", "/v1/continue", "/v1/spend", "/v1/health", "/v1/openapi.json"),
    } <= {path.replace("{session_id}", "{id}") for path in document["paths"]}


def test_every_answer_of_a_running_session_is_a_valid_transcript(caller: Caller) -> None:
    text = " ".join(tools(call("wait", seconds=0.3 + n / 100), call("look", what=str(n))) for n in range(8))
    response = caller.start("handy", text, wait=0)
    session_id = response.json()["session_id"]
    for _ in range(30):
        session = caller.session(session_id)
        events = [event for event in caller.events(session_id) if event["seq"] <= session["last_seq"]]
        assert_transcript(session, events)
        if session["status"] in RESTING:
            break
        time.sleep(0.2)
    caller.finish(response)
    caller.checked(session_id)
