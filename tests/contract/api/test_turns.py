"""Turns: what a caller gets for an input, and how long it waits for it."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from functions.api.app import FrontDoor
from tests.support.http import Caller
from tests.support.kit import MemoryKit
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.money import parse_usd
from turnkeeper.core.scopes import SCOPES
from turnkeeper.runtime.intake import Intake

TURN = {
    "session_id",
    "agent",
    "status",
    "stop",
    "output",
    "output_text",
    "steps",
    "usage",
    "cost_usd",
    "last_seq",
    "continuation_token",
}


def create(ann: Caller, text: Any = "[[say hello]]", agent: str = "plain", **more: Any) -> Any:
    return ann.post("/v1/sessions", {"agent": agent, "input": text}, **more)


def additions(times: int, before: str = "") -> str:
    """So many steps, none like the other."""
    return " ".join(f'{before} [[tool add {{"a": {n}, "b": 1}}]]' for n in range(times))


# ---- turns ----


def test_a_turn_has_what_the_contract_says(ann: Caller) -> None:
    turn = create(ann).ok()
    assert turn.keys() >= TURN
    assert (turn["agent"], turn["status"], turn["stop"]["reason"]) == ("plain", "idle", "end_turn")
    assert turn["output"] == [{"type": "text", "text": "hello"}]
    assert (turn["output_text"], turn["steps"], turn["continuation_token"]) == ("hello", 1, None)
    assert turn["last_seq"] == 3
    assert turn["usage"]["output_tokens"] > 0
    assert float(turn["cost_usd"]) > 0


def test_the_next_input_goes_on_with_the_conversation(ann: Caller, kit: MemoryKit) -> None:
    first = create(ann).ok()
    second = ann.post(f"/v1/sessions/{first['session_id']}/turns", {"input": "[[say again]]"}).ok()
    assert (second["session_id"], second["output_text"], second["steps"]) == (first["session_id"], "again", 2)
    assert second["last_seq"] == 6
    assert len(kit.model.requests[-1].messages) == 3


def test_content_blocks_reach_the_model_without_cache_control(ann: Caller, kit: MemoryKit) -> None:
    blocks = [
        {"type": "text", "text": "[[say seen]]", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A page."}, "title": "P"},
    ]
    assert create(ann, blocks).ok()["output_text"] == "seen"
    [message] = kit.model.requests[0].messages
    assert message["content"][0] == {"type": "text", "text": "[[say seen]]"}
    assert "1h" not in json.dumps(message)


def test_steps_with_parallel_tools(ann: Caller) -> None:
    script = '[[tool add {"a": 1, "b": 2} & tool read_note {"title": "x"}]] [[say three]]'
    turn = create(ann, script, "helper").ok()
    assert (turn["output_text"], turn["steps"], turn["last_seq"]) == ("three", 2, 5)


def test_a_task_that_ends_itself(ann: Caller) -> None:
    script = '[[tool end_task {"status": "completed", "summary": "All is done."}]]'
    turn = create(ann, script, "tasker").ok()
    assert (turn["status"], turn["stop"]["reason"]) == ("completed", "end_task")
    assert turn["stop"]["detail"]["summary"] == "All is done."
    assert (turn["output_text"], turn["continuation_token"]) == ("All is done.", None)


def test_a_task_that_says_that_it_failed(ann: Caller) -> None:
    turn = create(ann, '[[tool end_task {"status": "failed", "summary": "No."}]]', "tasker").ok()
    assert (turn["status"], turn["stop"]["reason"]) == ("failed", "end_task")


# ---- waiting ----


def test_who_does_not_wait_gets_a_202_and_goes_on(ann: Caller) -> None:
    answer = create(ann, "[[sleep 0.5]] [[say late]]", wait=0)
    turn = answer.ok(202)
    assert answer.headers["preference-applied"] == "wait=0"
    assert turn["status"] == "running"
    assert turn["continuation_token"]
    done = ann.post("/v1/continue", {"continuation_token": turn["continuation_token"]}, wait=10).ok()
    assert (done["session_id"], done["status"], done["output_text"]) == (turn["session_id"], "idle", "late")
    again = ann.post("/v1/continue", {"continuation_token": turn["continuation_token"]}).ok()
    assert again == done


def test_a_wait_is_as_long_as_it_was_asked_for(ann: Caller, kit: MemoryKit) -> None:
    started = kit.clock.monotonic()
    create(ann, "[[sleep 3]] [[say late]]", wait=1).ok(202)
    assert 1 <= kit.clock.monotonic() - started < 2


def test_the_wait_ends_before_the_lambda_does(kit: MemoryKit) -> None:
    started = kit.clock.monotonic()
    create(Caller(FrontDoor(kit), left_seconds=4.0), "[[sleep 3]] [[say late]]").ok(202)
    assert kit.clock.monotonic() - started < 2


def test_the_wait_is_shorter_where_taking_the_input_in_was_slow(
    kit: MemoryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a busy day's requests are ended by Lambda, and API Gateway answers them with a 500 of its own."""
    intake_create = Intake.create

    def slowly(*arguments: Any, **named: Any) -> Any:
        time.sleep(1.5)
        return intake_create(*arguments, **named)

    monkeypatch.setattr(Intake, "create", slowly)
    started = time.monotonic()
    create(Caller(FrontDoor(kit), left_seconds=5.0), "[[sleep 9]] [[say late]]").ok(202)
    assert time.monotonic() - started < 3.0


@pytest.mark.parametrize("prefer", ["wait=abc", "wait=-1", "respond-async", "wait", ""])
def test_a_preference_that_makes_no_sense_is_ignored(ann: Caller, prefer: str) -> None:
    answer = create(ann, prefer=prefer)
    answer.ok()
    assert "preference-applied" not in answer.headers


def test_a_wait_beyond_the_most_is_the_most(ann: Caller) -> None:
    answer = create(ann, prefer="foo=bar, WAIT=100; x=y")
    answer.ok()
    assert answer.headers["preference-applied"] == "wait=25"


def test_a_background_session_is_done_by_the_worker(ann: Caller, kit: MemoryKit) -> None:
    body = {"agent": "plain", "input": "[[say done]]", "placement": "background"}
    turn = ann.post("/v1/sessions", body, wait=0).ok(202)
    assert turn["status"] == "queued"
    assert kit.turns.started == []
    assert kit.work() == 1
    done = ann.post("/v1/continue", {"continuation_token": turn["continuation_token"]}).ok()
    assert (done["output_text"], ann.get(f"/v1/sessions/{turn['session_id']}").ok()["runner"]) == ("done", "fargate")


def test_whoever_only_waits_asks_for_no_runner(ann: Caller, kit: MemoryKit) -> None:
    kit.runner = "none"
    for agent in ("plain", "slow"):
        token = create(ann, agent=agent, wait=0).ok(202)["continuation_token"]
        for _ in range(3):
            ann.post("/v1/continue", {"continuation_token": token}, wait=0).ok(202)
    assert len(kit.turns.started) == len(kit.queue.bodies()) == 1


def test_where_no_runner_can_be_asked_the_turn_is_taken_in_all_the_same(
    ann: Caller, kit: MemoryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_reach(*_: Any) -> None:
        raise Unavailable("Lambda is out of reach")

    monkeypatch.setattr(kit.turns, "on_start", out_of_reach)
    turn = create(ann).ok(202)
    assert turn["status"] == "running"
    assert kit.head(turn["session_id"]).handoff is not None


# ---- idempotency ----


def test_the_same_key_is_the_same_turn(ann: Caller, kit: MemoryKit) -> None:
    first = create(ann, key="k1").ok()
    assert create(ann, key="k1").ok() == first
    session_id = first["session_id"]
    second = ann.post(f"/v1/sessions/{session_id}/turns", {"input": "[[say two]]"}, key="k2").ok()
    assert ann.post(f"/v1/sessions/{session_id}/turns", {"input": "[[say two]]"}, key="k2").ok() == second
    assert kit.head(session_id).turn.number == 2
    assert len(kit.model.requests) == 2


def test_an_old_key_still_answers_with_its_own_turn(ann: Caller) -> None:
    first = create(ann, key="k1").ok()
    ann.post(f"/v1/sessions/{first['session_id']}/turns", {"input": "[[say two]]"}).ok()
    assert create(ann, key="k1").ok() == first


def test_a_key_of_a_session_that_was_erased_tells_what_the_session_has_cost(ann: Caller) -> None:
    """Not that its turn was for nothing: what each turn was is gone, what all of it cost is not."""
    first = create(ann, key="k1").ok()
    path = f"/v1/sessions/{first['session_id']}"
    ann.post(f"{path}/turns", {"input": "[[say two]]"}).ok()
    ann.delete(path)
    told, now = create(ann, key="k1").ok(), ann.get(path).ok()
    assert (told["status"], told["output_text"]) == ("erased", "")
    assert {name: now[name] for name in told} == told
    assert float(told["cost_usd"]) > float(first["cost_usd"])


def test_the_same_key_with_another_body_is_refused(ann: Caller) -> None:
    first = create(ann, key="k1").ok()
    create(ann, "[[say other]]", key="k1").problem(422, "idempotency_mismatch")
    path = f"/v1/sessions/{first['session_id']}/turns"
    ann.post(path, {"input": "[[say hello]]"}, key="k1").problem(422, "idempotency_mismatch")


def test_nobody_who_reads_the_table_can_try_what_was_asked_under_a_key(ann: Caller, kit: MemoryKit) -> None:
    """Not while the key is remembered, which is longer than a session that is erased."""
    first = create(ann, "[[say yes]]", key="k1").ok()
    ann.delete(f"/v1/sessions/{first['session_id']}")
    asked = sorted_json(["POST", "/v1/sessions", {"agent": "plain", "input": "[[say yes]]"}], ascii=True)
    assert hashlib.sha256(asked).hexdigest() not in str(kit.table.snapshot())
    create(ann, "[[say no]]", key="k1").problem(422, "idempotency_mismatch")
    assert create(ann, "[[say yes]]", key="k1").ok()["status"] == "erased"


def test_a_key_outlives_a_rotation_and_an_upgrade(ann: Caller, kit: MemoryKit) -> None:
    first = create(ann, key="k1").ok()
    kit.signing_keys = ["the next signing key", *kit.signing_keys]
    assert create(ann, key="k1").ok() == first
    create(ann, "[[say other]]", key="k1").problem(422, "idempotency_mismatch")

    kit.settings = kit.settings.model_copy(update={"compact_writes": False})
    second = create(ann, key="k2").ok()
    asked = sorted_json(["POST", "/v1/sessions", {"agent": "plain", "input": "[[say hello]]"}], ascii=True)
    assert hashlib.sha256(asked).hexdigest() in str(kit.table.snapshot()), "an earlier release knows it by this"
    kit.settings = kit.settings.model_copy(update={"compact_writes": True})
    assert create(ann, key="k2").ok() == second
    create(ann, "[[say other]]", key="k2").problem(422, "idempotency_mismatch")


def test_a_key_belongs_to_its_user(ann: Caller) -> None:
    first = create(ann, key="k1").ok()
    other = create(ann.but(user="bob"), key="k1").ok()
    assert other["session_id"] != first["session_id"]


def test_how_the_body_is_written_does_not_matter(ann: Caller) -> None:
    first = ann.call("POST", "/v1/sessions", headers={"idempotency-key": "k"}, text='{"agent":"plain","input":"x"}')
    second = ann.call(
        "POST", "/v1/sessions", headers={"idempotency-key": "k"}, text='{ "input": "x",\n "agent": "pl\\u0061in" }'
    )
    assert first.ok() == second.ok()


def test_ten_at_once_make_one(ann: Caller, kit: MemoryKit) -> None:
    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(lambda _: create(ann, "[[sleep 0.3]] [[say once]]", key="k"), range(10)))
    assert len({answer.ok()["session_id"] for answer in made}) == 1
    assert len(ann.get("/v1/sessions").ok()["sessions"]) == 1
    assert len(kit.model.requests) == 1

    path = f"/v1/sessions/{made[0].json()['session_id']}/turns"
    with ThreadPoolExecutor(10) as pool:
        posted = list(pool.map(lambda _: ann.post(path, {"input": "[[say twice]]"}, key="t"), range(10)))
    assert {answer.ok()["output_text"] for answer in posted} == {"twice"}
    assert kit.head(made[0].json()["session_id"]).turn.number == 2


@pytest.mark.parametrize("key", ["", "x" * 129, "ü"])
def test_a_key_that_is_none(ann: Caller, key: str) -> None:
    problem = create(ann, key=key).problem(400, "invalid_request")
    assert problem["errors"] == [{"where": "header Idempotency-Key", "why": "not a key"}]


# ---- a session that cannot take it ----


def test_a_session_takes_one_turn_at_a_time(ann: Caller) -> None:
    turn = create(ann, "[[sleep 0.5]] [[say late]]", wait=0).ok(202)
    path = f"/v1/sessions/{turn['session_id']}/turns"
    problem = ann.post(path, {"input": "x"}).problem(409, "session_busy")
    assert (problem["session_id"], problem["session_status"]) == (turn["session_id"], "running")


def test_a_session_that_ended_takes_nothing(ann: Caller) -> None:
    turn = create(ann, '[[tool end_task {"status": "completed", "summary": "."}]]', "tasker").ok()
    path = f"/v1/sessions/{turn['session_id']}/turns"
    problem = ann.post(path, {"input": "x"}).problem(409, "session_ended")
    assert (problem["session_id"], problem["session_status"]) == (turn["session_id"], "completed")


def test_two_inputs_at_once_are_one_turn_and_one_refusal(ann: Caller) -> None:
    session_id = create(ann).ok()["session_id"]
    barrier = threading.Barrier(2)

    def post(text: str) -> Any:
        barrier.wait()
        return ann.post(f"/v1/sessions/{session_id}/turns", {"input": f"[[sleep 0.3]] [[say {text}]]"})

    with ThreadPoolExecutor(2) as pool:
        answers = sorted(pool.map(post, ["a", "b"]), key=lambda answer: answer.status)
    answers[0].ok()
    answers[1].problem(409, "session_busy")


# ---- money ----

CAPPED = {
    "scope",
    "limit_usd",
    "spent_usd",
    "reserved_usd",
    "needed_usd",
    "contended",
    "resets_at",
    "continuation_token",
    "session_id",
}


@pytest.mark.parametrize("scope", SCOPES)
def test_a_cap_before_the_first_call_is_a_402_and_goes_on_once_it_is_raised(
    ann: Caller, kit: MemoryKit, scope: str
) -> None:
    kit.tenants.set("acme", actor="op", caps={scope: parse_usd("0.000010")})
    answer = create(ann)
    problem = answer.problem(402, "cost_cap_exceeded")
    assert problem.keys() >= CAPPED
    assert (problem["scope"], problem["limit_usd"], problem["contended"]) == (scope, "0.000010", False)
    assert (problem["spent_usd"], problem["reserved_usd"]) == ("0.000000", "0.000000")
    assert (problem["resets_at"] is None) == (scope == "task")
    assert "retry-after" not in answer.headers
    assert "before_first_call" not in problem

    token = problem["continuation_token"]
    ann.post("/v1/continue", {"continuation_token": token}).problem(402, "cost_cap_exceeded")
    kit.tenants.set("acme", actor="op", caps={scope: parse_usd("1")})
    turn = ann.post("/v1/continue", {"continuation_token": token}).ok()
    assert (turn["status"], turn["output_text"]) == ("idle", "hello")


def test_a_turn_that_was_refused_stays_so_when_later_ones_have_followed(ann: Caller, kit: MemoryKit) -> None:
    """Told by its idempotency key as it was told first, but for the token, which is of no more use."""
    kit.tenants.set("acme", actor="op", caps={"task": parse_usd("0.000010")})
    refused = create(ann, key="cap").problem(402, "cost_cap_exceeded")
    path = f"/v1/sessions/{refused['session_id']}/turns"
    kit.tenants.set("acme", actor="op", paused=True)
    paused = ann.post(path, {"input": "[[say two]]"}, key="pause").problem(423, "tenant_paused")
    kit.tenants.set("acme", actor="op", paused=False, caps={"task": parse_usd("1")})
    told = ann.post(path, {"input": "[[say three]]"}, key="done").ok()
    assert told["output_text"] == "three"

    assert create(ann, key="cap").problem(402, "cost_cap_exceeded") == {**refused, "continuation_token": None}
    again = ann.post(path, {"input": "[[say two]]"}, key="pause").problem(423, "tenant_paused")
    assert again == {**paused, "continuation_token": None}
    assert ann.post(path, {"input": "[[say three]]"}, key="done").ok() == told


def test_a_turn_that_was_refused_and_went_on_is_told_as_it_ended(ann: Caller, kit: MemoryKit) -> None:
    kit.tenants.set("acme", actor="op", caps={"task": parse_usd("0.000010")})
    refused = create(ann, key="k").problem(402, "cost_cap_exceeded")
    kit.tenants.set("acme", actor="op", caps={"task": parse_usd("1")})
    ann.post("/v1/continue", {"continuation_token": refused["continuation_token"]}).ok()
    done = create(ann, key="k").ok()
    ann.post(f"/v1/sessions/{done['session_id']}/turns", {"input": "[[say two]]"}).ok()
    assert create(ann, key="k").ok() == done


def test_money_in_flight_is_contended_and_says_when_to_come_back(ann: Caller, kit: MemoryKit) -> None:
    create(ann).ok()
    kit.tenants.set("acme", actor="op", caps={"user_daily": parse_usd("0.2")})
    first = create(ann, "[[sleep 1.5]] [[say slow]]", wait=0).ok(202)
    kit.wait_for(first["session_id"], lambda head: head.account.pending is not None)
    spent = kit.head(first["session_id"]).account.pending.amount_nanousd
    kit.tenants.set("acme", actor="op", caps={"user_daily": spent + parse_usd("0.001")})
    answer = create(ann)
    problem = answer.problem(402, "cost_cap_exceeded")
    assert problem["contended"] is True
    assert int(answer.headers["retry-after"]) > 0


def test_a_cap_in_the_middle_stops_the_turn_and_keeps_what_was_done(ann: Caller, kit: MemoryKit) -> None:
    kit.tenants.set("acme", actor="op", caps={"task": parse_usd("0.02")})
    turn = create(ann, f"{additions(20, '[[tokens 250]]')} [[say end]]", "helper").ok()
    assert (turn["status"], turn["stop"]["reason"]) == ("stopped", "cost_cap")
    assert turn["stop"]["detail"].keys() >= CAPPED - {"continuation_token", "session_id"}
    assert turn["steps"] >= 1
    assert float(turn["cost_usd"]) <= 0.02
    kit.tenants.set("acme", actor="op", caps={"task": parse_usd("1")})
    done = ann.post("/v1/continue", {"continuation_token": turn["continuation_token"]}).ok()
    assert (done["status"], done["output_text"], done["steps"]) == ("idle", "end", 21)


def test_a_paused_tenant(ann: Caller, kit: MemoryKit) -> None:
    session_id = create(ann).ok()["session_id"]
    kit.tenants.set("acme", actor="op", paused=True)
    refused = create(ann, "[[say kept]]").problem(423, "tenant_paused")
    assert kit.head(refused["session_id"]).lease.fencing_token == 0, "no runner was asked"
    problem = ann.post(f"/v1/sessions/{session_id}/turns", {"input": "[[say later]]"}).problem(423, "tenant_paused")
    assert problem["session_id"] == session_id
    kit.tenants.set("acme", actor="op", paused=False)
    turn = ann.post("/v1/continue", {"continuation_token": problem["continuation_token"]}).ok()
    assert turn["output_text"] == "later"
    turn = ann.post("/v1/continue", {"continuation_token": refused["continuation_token"]}).ok()
    assert (turn["session_id"], turn["output_text"]) == (refused["session_id"], "kept")


def test_a_model_that_nobody_can_price(ann: Caller, kit: MemoryKit) -> None:
    create(ann, agent="unpriced").problem(422, "unpriced_model")
    assert ann.get("/v1/sessions").ok()["sessions"] == []


# ---- continuation tokens ----


def stopped(ann: Caller) -> Any:
    turn = create(ann, f"{additions(9)} [[say end]]", "brief").ok()
    assert (turn["status"], turn["stop"]["reason"], turn["steps"]) == ("stopped", "iteration_limit", 2)
    return turn


def test_a_stopped_turn_goes_on_when_its_limit_is_raised(ann: Caller) -> None:
    turn = stopped(ann)
    token = turn["continuation_token"]
    same = ann.post("/v1/continue", {"continuation_token": token}).ok()
    assert {**same, "continuation_token": None} == {**turn, "continuation_token": None}
    done = ann.post("/v1/continue", {"continuation_token": token, "limits": {"max_iterations": 20}}).ok()
    assert (done["status"], done["output_text"], done["steps"]) == ("idle", "end", 10)


def test_a_token_ends_one_stop_only(ann: Caller, kit: MemoryKit) -> None:
    token = stopped(ann)["continuation_token"]
    body = {"continuation_token": token, "limits": {"max_iterations": 4}}
    again = ann.post("/v1/continue", body).ok()
    assert (again["status"], again["steps"]) == ("stopped", 4)
    body = {"continuation_token": token, "limits": {"max_iterations": 20}}
    assert ann.post("/v1/continue", body).ok()["steps"] == 4
    body["continuation_token"] = again["continuation_token"]
    assert ann.post("/v1/continue", body).ok()["output_text"] == "end"


def test_continued_ten_times_at_once_it_runs_once(ann: Caller, kit: MemoryKit) -> None:
    turn = stopped(ann)
    body = {"continuation_token": turn["continuation_token"], "limits": {"max_iterations": 20}}
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: ann.post("/v1/continue", body), range(10)))
    assert {answer.ok()["output_text"] for answer in answers} == {"end"}
    assert len(kit.model.requests) == 10


def test_a_token_of_an_earlier_turn_only_tells(ann: Caller, kit: MemoryKit) -> None:
    turn = stopped(ann)
    newer = ann.post(f"/v1/sessions/{turn['session_id']}/turns", {"input": "[[say new]]"}).ok()
    calls = len(kit.model.requests)
    body = {"continuation_token": turn["continuation_token"], "limits": {"max_iterations": 20}}
    assert ann.post("/v1/continue", body).ok() == newer
    assert len(kit.model.requests) == calls


def test_tokens_that_are_not_ours(ann: Caller, kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    token = create(ann, "[[sleep 0.2]] [[say x]]", wait=0).ok(202)["continuation_token"]

    def go_on(caller: Caller, token: Any) -> Any:
        return caller.post("/v1/continue", {"continuation_token": token})

    for forged in ("x", "a.b.c", token[:-2], token + "A", "x" + token, token.replace(".", ".A", 1), "é" * 20):
        go_on(ann, forged).problem(401, "unauthenticated")
    for at in range(0, len(token), 7):
        altered = token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :]
        go_on(ann, altered).problem(401, "unauthenticated")
    for stranger in (ann.but(user="bob"), ann.but(tenant="globex"), ann.but(user="root", role="admin")):
        go_on(stranger, token).problem(404, "session_not_found")

    kit.signing_keys.insert(0, "a newer key")
    go_on(ann, token).ok()
    kit.signing_keys.pop()
    go_on(ann, token).problem(401, "unauthenticated")


def test_an_old_token_expires(ann: Caller, kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    token = stopped(ann)["continuation_token"]
    monkeypatch.setattr(kit.tokens, "_valid_seconds", -1)
    ann.post("/v1/continue", {"continuation_token": token}).problem(410, "continuation_expired")


def test_a_limit_can_be_raised_only_as_far_as_the_plan_goes(ann: Caller, kit: MemoryKit) -> None:
    token = stopped(ann)["continuation_token"]
    kit.tenants.set("acme", actor="op", plan="short")
    body = {"continuation_token": token, "limits": {"max_iterations": 4}}
    ann.post("/v1/continue", body).problem(403, "forbidden")
    body["limits"] = {"max_iterations": 3}
    assert ann.post("/v1/continue", body).ok()["steps"] == 3


@pytest.mark.parametrize("most", [0, -1, 1001, 10**30, 2.5, "5", None])
def test_a_limit_that_is_none(ann: Caller, most: Any) -> None:
    body = {"continuation_token": "x.y.z", "limits": {"max_iterations": most}}
    problem = ann.post("/v1/continue", body).problem(400, "invalid_request")
    assert problem["errors"][0]["where"] == "body.limits.max_iterations"
