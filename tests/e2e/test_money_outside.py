"""Caps and the kill switch from outside: nothing is ever spent over a cap, and nothing done is lost at one."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from tests.e2e.outside import (
    PATIENCE_SECONDS,
    RESTING,
    Caller,
    Stack,
    assert_books,
    assert_problem,
    call,
    eventually,
    good,
    results,
    tools,
)

pytestmark = pytest.mark.stack

#: Those that every tenant has.
SCOPES = ("task", "user_daily", "user_monthly", "tenant_monthly")
CAP_FIELDS = {"scope", "limit_usd", "spent_usd", "reserved_usd", "needed_usd", "contended", "resets_at"}


@pytest.mark.parametrize("scope", [*SCOPES, "agent_daily"])
def test_a_cap_before_the_first_call_is_a_402(stack: Stack, caller: Caller, scope: str) -> None:
    stack.set_caps(caller.tenant, **{scope: "0.000100"})
    response = caller.start("handy", f"{tools(call('look', what='x'))} [[say afterwards]]")
    problem = assert_problem(response, 402, "cost_cap_exceeded")
    assert set(problem) >= CAP_FIELDS | {"continuation_token", "session_id"}
    assert (problem["scope"], problem["contended"]) == (scope, False)
    assert Decimal(problem["limit_usd"]) == Decimal("0.0001")
    assert Decimal(problem["spent_usd"]) == Decimal(problem["reserved_usd"]) == 0
    assert Decimal(problem["needed_usd"]) > Decimal("0.0001")
    assert (problem["resets_at"] is None) == (scope == "task")
    session, events = caller.checked(problem["session_id"])
    assert (session["status"], session["stop"]["reason"], session["steps"]) == ("stopped", "cost_cap", 0)
    assert_books(caller, [session])
    again = caller.go_on(problem["continuation_token"])
    assert again.status_code == 402, "the cap still stands"
    assert_problem(again, 402, "cost_cap_exceeded")
    stack.set_caps(caller.tenant, **{scope: "1.00"})
    turn = caller.finish(caller.go_on(again.json()["continuation_token"]))
    assert (turn["status"], turn["output_text"]) == ("idle", "afterwards")
    session, after = caller.checked(problem["session_id"])
    assert after[: len(events)] == events
    assert_books(caller, [session])


@pytest.mark.parametrize(
    ("scope", "placement"),
    [
        ("task", "interactive"),
        ("user_daily", "background"),
        ("tenant_monthly", "interactive"),
        *(
            pytest.param(*each, marks=pytest.mark.nightly)
            for each in (("task", "background"), ("user_daily", "interactive"), ("tenant_monthly", "background"))
        ),
    ],
)
def test_a_cap_that_trips_later_stops_the_turn(stack: Stack, caller: Caller, scope: str, placement: str) -> None:
    stack.set_caps(caller.tenant, **{scope: "0.05"})
    text = " ".join(f"[[tokens 200]] {tools(call('look', what=str(n)))}" for n in range(40))
    turn = caller.turn("endless", f"{text} [[say all]]", placement=placement)
    assert (turn["status"], turn["stop"]["reason"]) == ("stopped", "cost_cap"), turn
    detail = turn["stop"]["detail"]
    assert set(detail) >= CAP_FIELDS
    assert (detail["scope"], detail["contended"]) == (scope, False)
    assert Decimal(turn["cost_usd"]) <= Decimal("0.05")
    assert turn["continuation_token"]
    session, events = caller.checked(turn["session_id"])
    assert session["steps"] >= 2
    assert len(results(events)) == session["steps"], "what was done is kept"
    assert_books(caller, [session])
    still = caller.go_on(turn["continuation_token"])
    assert still.status_code in {200, 202, 402}, still.text
    session = caller.rested(turn["session_id"])
    assert (session["status"], session["stop"]["reason"]) == ("stopped", "cost_cap")
    stack.set_caps(caller.tenant, **{scope: "5.00"})
    after = caller.finish(caller.go_on(session["continuation_token"]))
    assert (after["status"], after["output_text"]) == ("idle", "all"), after
    session, events = caller.checked(turn["session_id"])
    assert len(results(events)) == 40
    assert_books(caller, [session])


def test_a_plan_in_force_at_the_next_call(stack: Stack, caller: Caller) -> None:
    stack.cli("tenant", "set", caller.tenant, "--plan", "trial")
    shown = stack.cli("tenant", "show", caller.tenant)
    assert (shown["plan"], Decimal(shown["caps"]["user_daily"])) == ("trial", 1)
    scopes = caller.scopes()
    assert Decimal(scopes["user_daily"]["cap_usd"]) == 1
    assert Decimal(scopes["tenant_monthly"]["cap_usd"]) == 10
    turn = caller.turn("handy", "hi")
    assert caller.session(turn["session_id"])["limits"]["max_iterations"] == 15
    spend = stack.cli("spend", "--tenant", caller.tenant, "--user", caller.user, "--session", turn["session_id"])
    assert {scope["scope"] for scope in spend["scopes"]} == set(SCOPES)
    by_name = {scope["scope"]: scope for scope in spend["scopes"]}
    assert Decimal(by_name["task"]["spent_usd"]) == Decimal(turn["cost_usd"])
    assert Decimal(by_name["user_daily"]["spent_usd"]) == Decimal(turn["cost_usd"])


def test_agents_have_days_of_their_own_in_the_tenants_time_zone(stack: Stack, caller: Caller) -> None:
    shown = stack.cli("tenant", "set", caller.tenant, "--cap", "agent_daily=1.00", "--timezone", "Asia/Tokyo")
    assert (Decimal(shown["caps"]["agent_daily"]), shown["timezone"]) == (1, "Asia/Tokyo")
    turn = caller.turn("handy", "hi")
    spend = stack.cli("spend", "--tenant", caller.tenant, "--user", caller.user)
    days = {scope["agent"]: Decimal(scope["spent_usd"]) for scope in spend["scopes"] if scope["scope"] == "agent_daily"}
    assert days.pop("handy") == Decimal(turn["cost_usd"])
    assert set(days.values()) == {0}
    assert {scope["resets_at"][10:] for scope in spend["scopes"]} == {"T15:00:00.000Z"}


def test_users_have_caps_of_their_own_and_share_the_tenants(stack: Stack) -> None:
    one = stack.caller()
    two = stack.caller(one.tenant, user="u2", role="user")
    stack.set_caps(one.tenant, user_daily="0.02")
    turns = []
    while (response := one.start("handy", "[[tokens 200]] [[say x]]")).status_code == 200:
        turns.append(response.json())
        assert len(turns) < 30
    assert_problem(response, 402, "cost_cap_exceeded")
    assert response.json()["scope"] == "user_daily"
    turns.append(good(two.start("handy", "[[tokens 200]] [[say x]]")))
    total = sum(Decimal(turn["cost_usd"]) for turn in turns)
    assert Decimal(one.scopes()["tenant_monthly"]["spent_usd"]) == total
    assert Decimal(two.scopes()["user_daily"]["spent_usd"]) == Decimal(turns[-1]["cost_usd"])


def test_wrong_caps_and_plans_are_refused(stack: Stack, caller: Caller) -> None:
    for options in (["--cap", "task=-1"], ["--cap", "week=1"], ["--cap", "task"], ["--cap", "task=much"], []):
        stack.cli("tenant", "set", caller.tenant, *options, exit_code=2)
    stack.cli("tenant", "set", caller.tenant, "--plan", "nothing-like-it", exit_code=None)
    assert caller.turn("handy", "hi")["status"] == "idle"


# ---- the kill switch ----


def test_the_kill_switch_and_back(stack: Stack, caller: Caller) -> None:
    """Sessions that run, on Lambda and on the worker, stop at their next call; new ones are not begun; all go on."""
    other = stack.caller()
    text = " ".join(tools(call("wait", seconds=0.5 + n / 100)) for n in range(24)) + " [[say all of it]]"
    running = [
        caller.start("endless", text, wait=0, placement=placement).json()["session_id"]
        for placement in ("interactive", "background")
    ]
    for session_id in running:
        caller.until(session_id, lambda now: now["steps"] >= 1)
    idle = good(caller.start("handy", "hi"))["session_id"]
    assert stack.cli("tenant", "pause", caller.tenant)["paused"] is True
    sessions = [caller.rested(session_id) for session_id in running]
    for session in sessions:
        assert (session["status"], session["stop"]["reason"]) == ("stopped", "paused")
        assert session["continuation_token"]
        assert session["steps"] < 24
        caller.checked(session["session_id"])
    assert_problem(caller.start("handy", "hi"), 423, "tenant_paused")
    refused = caller.say(idle, "more")
    assert refused.status_code == 423, refused.text
    job = stack.cli("submit", "handy", "[[say the job]]", "--tenant", caller.tenant, "--user", caller.user)
    queued = caller.rested(job["submitted"][0]["session_id"])
    assert (queued["status"], queued["stop"]["reason"]) == ("stopped", "paused")
    for session in sessions:
        response = caller.go_on(session["continuation_token"])
        assert response.status_code in {200, 202, 423}, response.text
        assert caller.rested(session["session_id"])["stop"]["reason"] == "paused"
    assert good(other.start("handy", "[[say untouched]]"))["output_text"] == "untouched"
    steps = sum(caller.session(session_id)["steps"] for session_id in running)

    assert stack.cli("tenant", "unpause", caller.tenant)["paused"] is False
    assert steps == sum(caller.session(session_id)["steps"] for session_id in running)
    for session_id in running:
        token = caller.session(session_id)["continuation_token"]
        turn = caller.finish(caller.go_on(token))
        assert (turn["status"], turn["output_text"]) == ("idle", "all of it"), turn
        session, events = caller.checked(session_id)
        assert len(results(events)) == 24
    stack.cli("resume", queued["session_id"], "--tenant", caller.tenant, "--user", caller.user)
    assert caller.rested(queued["session_id"])["output_text"] == "the job"
    if caller.session(idle)["status"] == "stopped":  # The refused input was kept: then it goes on.
        caller.finish(caller.go_on(caller.session(idle)["continuation_token"]))
    assert_books(caller, [caller.session(each) for each in (*running, idle, queued["session_id"])])


# ---- many at once ----


@pytest.fixture
def watched(caller: Caller) -> Iterator[list[Decimal]]:
    """Spent and reserved of the tenant's month together, looked at again and again while a test runs."""
    seen: list[Decimal] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            scope = caller.scopes()["tenant_monthly"]
            seen.append(Decimal(scope["spent_usd"]) + Decimal(scope["reserved_usd"]))
            time.sleep(0.3)  # Each look keeps the kit busy.

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    done.set()
    thread.join()


def a_cap_for(stack: Stack, calls: int) -> Decimal:
    """What so many calls may cost one after another; and what the last of them asks for is more than it costs."""
    rival = stack.caller()
    return calls * max(Decimal(rival.turn("handy", f"[[say rival {n}]]")["cost_usd"]) for n in range(2)) + Decimal(
        "0.03"
    )


def jobs_done(stack: Stack, caller: Caller, count: int, text: str) -> list[dict[str, Any]]:
    """That many jobs sent at once: their sessions, at rest."""
    for n in range(count):
        job = {"job_id": f"job-{n}", "tenant_id": caller.tenant, "user_id": caller.user, "agent": "handy"}
        stack.send({"schema": "turnkeeper.job/v1", **job, "input": f"{text} [[say call {n}]]"}, group=caller.tenant)

    def found() -> list[dict[str, Any]]:
        page: dict[str, Any] = good(caller.get("/v1/sessions", limit=100))
        sessions: list[dict[str, Any]] = page["sessions"]
        while page["next_cursor"]:
            page = good(caller.get("/v1/sessions", limit=100, cursor=page["next_cursor"]))
            sessions += page["sessions"]
        return sessions if len(sessions) == count and all(each["status"] in RESTING for each in sessions) else []

    return eventually(found, "all of them rest", within_seconds=3 * PATIENCE_SECONDS)


def test_a_burst_of_jobs_at_a_cap_gets_all_of_them_done(stack: Stack, caller: Caller, watched: list[Decimal]) -> None:
    """As many at once as the worker has slots: what others have in flight is waited for."""
    cap = a_cap_for(stack, 45)
    stack.set_caps(caller.tenant, tenant_monthly=f"{cap:f}")
    sessions = jobs_done(stack, caller, 45, "")
    assert [each["status"] for each in sessions] == ["idle"] * 45, [each["stop"] for each in sessions]
    assert max(watched) <= cap
    assert_books(caller, sessions)


def test_no_answer_is_cut_off_by_money_in_flight(stack: Stack, caller: Caller, watched: list[Decimal]) -> None:
    """More at once than a user's cap has room for, with answers so long that a call which took what fits would often be
    cut."""
    text, count = "[[tokens 1000]]", 120
    # All that a call reserves, 8,192 tokens, is a little over eight answers: beside all answers there is room for six.
    cap = (count + 50) * Decimal(stack.caller().turn("handy", f"{text} [[say rival]]")["cost_usd"])
    stack.set_caps(caller.tenant, user_daily=f"{cap:f}")
    sessions = jobs_done(stack, caller, count, text)
    assert {(each["status"], each["stop"]["reason"]) for each in sessions} == {("idle", "end_turn")}
    assert max(watched) <= cap
    assert_books(caller, sessions)


@pytest.mark.nightly
@pytest.mark.parametrize("placement", ["interactive", "background"])
def test_a_burst_of_calls_at_a_cap_gets_all_of_them_done(
    stack: Stack, caller: Caller, watched: list[Decimal], placement: str
) -> None:
    """24 at once, each a function that waits and one that works: more than a small machine does well."""
    cap = a_cap_for(stack, 45)
    stack.set_caps(caller.tenant, tenant_monthly=f"{cap:f}")

    def one(n: int) -> dict[str, Any]:
        response = caller.start("handy", f"[[say call {n}]]", wait=25, placement=placement)
        give_up_at = time.monotonic() + 240
        while True:
            assert time.monotonic() < give_up_at, response.text
            if response.status_code == 402:
                problem = assert_problem(response, 402, "cost_cap_exceeded")
                assert problem["contended"] is True, problem
                assert int(response.headers["retry-after"]) >= 1
                time.sleep(1)
                response = caller.go_on(problem["continuation_token"], wait=25)
            elif response.status_code == 202:
                response = caller.go_on(response.json()["continuation_token"], wait=25)
            else:
                return good(response)

    with ThreadPoolExecutor(24) as pool:
        turns = list(pool.map(one, range(45)))
    assert [turn["status"] for turn in turns] == ["idle"] * 45, [turn["stop"] for turn in turns]
    assert {turn["output_text"] for turn in turns} == {f"call {n}" for n in range(45)}
    assert max(watched) <= cap
    sessions = [caller.session(turn["session_id"]) for turn in turns]
    assert_books(caller, sessions)


def test_a_burst_over_a_cap_spends_up_to_it_and_not_more(stack: Stack, caller: Caller, watched: list[Decimal]) -> None:
    cap = Decimal("0.06")
    stack.set_caps(caller.tenant, tenant_monthly=f"{cap}")
    text = "[[tokens 300]] [[say x]]"
    with ThreadPoolExecutor(6) as pool:
        responses = list(pool.map(lambda _: caller.start("handy", text, wait=25), range(18)))
    responses = [_settled(caller, response) for response in responses]
    assert {response.status_code for response in responses} == {200, 402}
    done = [response.json() for response in responses if response.status_code == 200]
    assert max(watched) <= cap
    assert sum(Decimal(turn["cost_usd"]) for turn in done) <= cap
    scope = caller.scopes()["tenant_monthly"]
    assert Decimal(scope["reserved_usd"]) == 0
    assert Decimal(scope["spent_usd"]) == sum(Decimal(turn["cost_usd"]) for turn in done)
    sessions = good(caller.get("/v1/sessions", limit=100))["sessions"]
    assert len(sessions) >= len(done)
    assert all(session["status"] in RESTING for session in sessions)


def _settled(caller: Caller, response: Any) -> Any:
    while response.status_code == 202:
        response = caller.go_on(response.json()["continuation_token"], wait=25)
    return response


def test_caps_changed_under_traffic(stack: Stack, caller: Caller) -> None:
    """More shards of a tenant's counter, a higher cap, a lower one: in the middle of it, nothing is lost."""
    text = " ".join(tools(call("wait", seconds=0.2 + n / 100)) for n in range(15))
    started = [caller.start("endless", text, wait=0).json()["session_id"] for _ in range(4)]
    for cap in ("50.00", "3.00", "unlimited", "20.00"):
        stack.set_caps(caller.tenant, tenant_monthly=cap)
    sessions = [caller.rested(session_id) for session_id in started]
    assert [session["status"] for session in sessions] == ["idle"] * 4, [session["stop"] for session in sessions]
    for session in sessions:
        caller.checked(session["session_id"])
    eventually(lambda: Decimal(caller.scopes()["tenant_monthly"]["cap_usd"]) == 20, "the last word counts")
    assert_books(caller, sessions)
