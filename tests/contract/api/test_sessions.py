"""Sessions: looking at them, listing, cancelling and erasing them; and whose they are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.http import Caller
from tests.support.kit import MemoryKit
from turnkeeper.core.errors import SessionEnded
from turnkeeper.core.money import parse_usd
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Update

SESSION = {
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
    "tenant_id",
    "user_id",
    "placement",
    "runner",
    "granted_tools",
    "limits",
    "iterations",
    "created_at",
    "updated_at",
    "metadata",
    "scores",
}


def create(ann: Caller, text: str = "[[say hello]]", agent: str = "plain", **more: Any) -> Any:
    return ann.post("/v1/sessions", {"agent": agent, "input": text}, **more)


def session(ann: Caller, session_id: str) -> Any:
    return ann.get(f"/v1/sessions/{session_id}").ok()


# ---- looking ----


def test_a_session_has_what_the_contract_says(ann: Caller) -> None:
    body = {"agent": "helper", "input": "[[say hello]]", "metadata": {"ticket": 7, "tags": ["a", 1.5, None]}}
    turn = ann.post("/v1/sessions", body).ok()
    found = session(ann, turn["session_id"])
    assert found.keys() >= SESSION
    assert {name: found[name] for name in turn} == turn
    assert (found["tenant_id"], found["user_id"], found["runner"]) == ("acme", "ann", "lambda")
    assert (found["placement"], found["iterations"], found["metadata"]) == ("auto", 1, body["metadata"])
    assert found["granted_tools"] == ["add", "read_note", "fail", "update_plan"]
    assert found["limits"]["max_iterations"] == 25


def test_the_plan_is_part_of_the_session(ann: Caller) -> None:
    plan = '{"goal": "All", "items": [{"title": "One", "state": "done"}, {"title": "Two", "state": "pending"}]}'
    turn = create(ann, f"[[tool update_plan {plan}]] [[say ok]]", "helper").ok()
    assert session(ann, turn["session_id"])["plan"] == {
        "goal": "All",
        "items": [{"title": "One", "state": "done"}, {"title": "Two", "state": "pending"}],
    }


def test_before_a_runner_has_it(ann: Caller) -> None:
    turn = create(ann, agent="slow", wait=0).ok(202)
    found = session(ann, turn["session_id"])
    assert (found["status"], found["runner"], found["placement"]) == ("queued", None, "background")
    assert found["continuation_token"]


# ---- listing ----


def test_a_list_is_newest_first_and_goes_on_where_it_ended(ann: Caller) -> None:
    made = [create(ann, f"[[say {n}]]").ok()["session_id"] for n in range(5)]
    create(ann.but(user="bob"))
    seen: list[str] = []
    page = ann.get("/v1/sessions?limit=2").ok()
    while True:
        seen += [each["session_id"] for each in page["sessions"]]
        assert len(page["sessions"]) <= 2
        if page["next_cursor"] is None:
            break
        page = ann.get(f"/v1/sessions?limit=2&cursor={page['next_cursor']}").ok()
    assert seen == made[::-1]


def test_a_list_of_one_status(ann: Caller) -> None:
    create(ann).ok()
    queued = create(ann, agent="slow", wait=0).ok(202)["session_id"]
    assert [each["session_id"] for each in ann.get("/v1/sessions?status=queued").ok()["sessions"]] == [queued]
    assert ann.get("/v1/sessions?status=failed").ok() == {"sessions": [], "next_cursor": None}


def test_admins_see_the_tenant_and_others_themselves(ann: Caller) -> None:
    mine = create(ann).ok()["session_id"]
    bobs = create(ann.but(user="bob")).ok()["session_id"]
    create(ann.but(tenant="globex", user="ann", role="admin")).ok()

    def listed(caller: Caller) -> set[str]:
        return {each["session_id"] for each in caller.get("/v1/sessions").ok()["sessions"]}

    assert listed(ann) == {mine}
    assert listed(ann.but(user="boss", role="admin")) == {mine, bobs}
    assert listed(ann.but(user="boss", role="nobody-described-this")) == set()


@pytest.mark.parametrize("caller", [{}, {"user": "boss", "role": "admin"}], ids=["user", "admin"])
def test_a_list_by_status_is_full_while_there_is_something_to_fill_it(
    ann: Caller, kit: MemoryKit, caller: dict[str, str]
) -> None:
    stopped = [create(ann, "[[stop max_tokens]] [[say cut]]").ok()["session_id"] for _ in range(3)]
    kit.runner = "none"
    for _ in range(230):
        create(ann, wait=0).ok(202)
    who = ann.but(**caller)
    page = who.get("/v1/sessions?status=stopped&limit=2").ok()
    assert [each["session_id"] for each in page["sessions"]] == [stopped[2], stopped[1]]
    rest = who.get(f"/v1/sessions?status=stopped&limit=2&cursor={page['next_cursor']}").ok()
    assert ([each["session_id"] for each in rest["sessions"]], rest["next_cursor"]) == ([stopped[0]], None)
    assert {each["status"] for each in (*page["sessions"], *rest["sessions"])} == {"stopped"}
    for other in ("status=running&", "status=idle&", ""):
        problem = who.get(f"/v1/sessions?{other}limit=2&cursor={page['next_cursor']}").problem(400, "invalid_request")
        assert "not one of this list" in problem["detail"]


def test_a_cursor_is_of_use_to_its_owner_only(ann: Caller) -> None:
    for n in range(3):
        create(ann, f"[[say {n}]]").ok()
    cursor = ann.get("/v1/sessions?limit=1").ok()["next_cursor"]
    ann.but(user="bob").get(f"/v1/sessions?cursor={cursor}").problem(400, "invalid_request")
    ann.but(tenant="globex").get(f"/v1/sessions?cursor={cursor}").problem(400, "invalid_request")


# ---- whose ----


@pytest.mark.parametrize(
    "stranger",
    [{"user": "bob"}, {"tenant": "globex"}, {"tenant": "globex", "role": "admin"}, {"user": "Ann"}, {"tenant": "acm"}],
)
def test_a_session_of_somebody_else_is_not_there(ann: Caller, kit: MemoryKit, stranger: dict[str, str]) -> None:
    session_id = create(ann).ok()["session_id"]
    before = kit.head(session_id)
    other = ann.but(**stranger)
    for answer in (
        other.get(f"/v1/sessions/{session_id}"),
        other.get(f"/v1/sessions/{session_id}/events"),
        other.get(f"/v1/sessions/{session_id}/events", accept="text/event-stream"),
        other.get(f"/v1/spend?session_id={session_id}"),
        other.post(f"/v1/sessions/{session_id}/turns", {"input": "x"}),
        other.post(f"/v1/sessions/{session_id}/cancel"),
        other.delete(f"/v1/sessions/{session_id}"),
    ):
        theirs = answer.problem(404, "session_not_found")
        assert "ann" not in str(theirs)
    assert kit.head(session_id) == before


def test_admins_may_look_at_and_end_what_others_began(ann: Caller) -> None:
    session_id = create(ann, "[[sleep 5]] [[say x]]", wait=0).ok(202)["session_id"]
    boss = ann.but(user="boss", role="admin")
    assert session(boss, session_id)["user_id"] == "ann"
    # The token is bound to the user; an admin would have no use for it.
    assert session(boss, session_id)["continuation_token"] is None
    assert boss.post(f"/v1/sessions/{session_id}/cancel").ok()["status"] == "cancelled"
    assert boss.delete(f"/v1/sessions/{session_id}").status == 204


def test_a_role_gives_what_the_policy_gives_it_and_no_body_changes_that(ann: Caller) -> None:
    def granted(caller: Caller) -> list[str]:
        turn = create(caller, agent="helper").ok()
        return list(session(caller, turn["session_id"])["granted_tools"])

    everything = ["add", "read_note", "fail", "update_plan", "write_note"]
    assert granted(ann.but(role="writer")) == everything
    assert granted(ann.but(role="user")) == everything[:-1]
    assert granted(ann.but(role="Writer")) == ["add", "fail", "update_plan"]
    assert granted(ann.but(role="unknown")) == ["add", "fail", "update_plan"]
    body = {"agent": "helper", "input": "x", "metadata": {"role": "writer", "scopes": ["notes:write"]}}
    turn = ann.but(role="unknown").post("/v1/sessions", body).ok()
    assert session(ann, turn["session_id"])["granted_tools"] == ["add", "fail", "update_plan"]


# ---- cancelling ----


def test_a_running_session_is_cancelled_within_seconds(ann: Caller, kit: MemoryKit) -> None:
    turn = create(ann, "[[sleep 20]] [[say late]]", wait=0).ok(202)
    kit.wait_for(turn["session_id"], lambda head: head.account.pending is not None)
    started = kit.clock.monotonic()
    cancelled = ann.post(f"/v1/sessions/{turn['session_id']}/cancel").ok()
    assert kit.clock.monotonic() - started < 5
    assert (cancelled["status"], cancelled["stop"]["reason"]) == ("cancelled", "cancelled")
    assert cancelled["continuation_token"] is None
    assert kit.head(turn["session_id"]).account.pending is None
    again = ann.post(f"/v1/sessions/{turn['session_id']}/cancel").ok()
    assert again == cancelled
    path = f"/v1/sessions/{turn['session_id']}/turns"
    assert ann.post(path, {"input": "x"}).problem(409, "session_ended")["session_status"] == "cancelled"


def test_a_queued_session_is_cancelled_at_once_and_the_worker_leaves_it(ann: Caller, kit: MemoryKit) -> None:
    turn = create(ann, agent="slow", wait=0).ok(202)
    assert ann.post(f"/v1/sessions/{turn['session_id']}/cancel").ok()["status"] == "cancelled"
    assert kit.work() == 1
    assert kit.head(turn["session_id"]).status == "cancelled"
    assert kit.model.requests == []


def test_a_session_that_moves_to_the_worker_is_cancelled_there(ann: Caller, kit: MemoryKit) -> None:
    kit.allowance = Allowance(runner="lambda", turn_seconds=0.0, hard_seconds=60)
    turn = create(ann, '[[tool add {"a": 1, "b": 2}]] [[say done]]', "helper", wait=2).ok(202)
    assert turn["status"] == "queued"
    assert ann.post(f"/v1/sessions/{turn['session_id']}/cancel").ok()["status"] == "cancelled"


def test_a_session_whose_runner_is_dead_is_cancelled_at_once(ann: Caller, kit: MemoryKit) -> None:
    turn = create(ann, agent="slow", wait=0).ok(202)
    kit.sessions.claim("acme", turn["session_id"], "a dead runner", "fargate")
    kit.table.update(Update(keys.head_key("acme", turn["session_id"]), set={"lease_expires_at": 1}))
    cancelled = ann.post(f"/v1/sessions/{turn['session_id']}/cancel").ok()
    assert (cancelled["status"], cancelled["stop"]["reason"]) == ("cancelled", "cancelled")
    with pytest.raises(SessionEnded):
        kit.run(kit.head(turn["session_id"]))


def test_a_runner_that_dies_while_a_cancel_waits_for_it_is_not_waited_for(ann: Caller, kit: MemoryKit) -> None:
    turn = create(ann, agent="slow", wait=0).ok(202)
    session_id = turn["session_id"]
    held = kit.sessions.claim("acme", session_id, "a runner", "fargate")
    clock = kit.clock

    class Sleeps:
        """The lease runs out while the call waits."""

        now, monotonic = clock.now, clock.monotonic

        def sleep(self, _: float) -> None:
            kit.table.update(Update(keys.head_key("acme", session_id), set={"lease_expires_at": 1}))

    kit.clock = Sleeps()
    assert kit.sessions.is_held(held)
    assert ann.post(f"/v1/sessions/{session_id}/cancel").ok()["status"] == "cancelled"


def test_a_session_at_rest_is_cancelled(ann: Caller) -> None:
    turn = create(ann).ok()
    cancelled = ann.post(f"/v1/sessions/{turn['session_id']}/cancel").ok()
    assert (cancelled["status"], cancelled["output_text"]) == ("cancelled", "hello")


def test_a_session_that_completed_is_not_cancelled_any_more(ann: Caller) -> None:
    turn = create(ann, '[[tool end_task {"status": "completed", "summary": "."}]]', "tasker").ok()
    problem = ann.post(f"/v1/sessions/{turn['session_id']}/cancel").problem(409, "session_ended")
    assert problem["session_status"] == "completed"


# ---- erasing ----


def test_an_erased_session_keeps_what_it_cost(ann: Caller, kit: MemoryKit) -> None:
    body = {"agent": "helper", "input": '[[tool read_note {"title": "x"}]] [[say secret]]', "metadata": {"a": "secret"}}
    turn = ann.post("/v1/sessions", body).ok()
    before = ann.get("/v1/spend").ok()["scopes"]
    answer = ann.delete(f"/v1/sessions/{turn['session_id']}")
    assert (answer.status, answer.body) == (204, "")
    assert "content-type" not in answer.headers
    erased = session(ann, turn["session_id"])
    assert (erased["status"], erased["cost_usd"], erased["steps"]) == ("erased", turn["cost_usd"], turn["steps"])
    assert (erased["output"], erased["output_text"], erased["metadata"]) == ([], "", {})
    events = ann.get(f"/v1/sessions/{turn['session_id']}/events").ok()
    assert [event["seq"] for event in events["events"]] == [1, 2, 3, 4, 5, 6]
    assert (events["events"][-1]["status"], erased["stop"]) == ("erased", None)
    assert "secret" not in str(events) + str(erased)
    assert ann.get("/v1/spend").ok()["scopes"] == before
    assert ann.delete(f"/v1/sessions/{turn['session_id']}").status == 204
    path = f"/v1/sessions/{turn['session_id']}/turns"
    assert ann.post(path, {"input": "x"}).problem(409, "session_ended")["session_status"] == "erased"
    ann.post(f"/v1/sessions/{turn['session_id']}/cancel").problem(409, "session_ended")


def test_a_running_session_is_erased(ann: Caller, kit: MemoryKit) -> None:
    turn = create(ann, "[[sleep 20]] [[say secret]]", wait=0).ok(202)
    kit.wait_for(turn["session_id"], lambda head: head.account.pending is not None)
    assert ann.delete(f"/v1/sessions/{turn['session_id']}").status == 204
    kit.join(5)
    after = kit.head(turn["session_id"])
    assert (after.status, after.account.pending) == ("erased", None)
    assert [entry.content for entry in kit.entries(turn["session_id"])] == [(), ()]
    assert {scope["reserved_usd"] for scope in ann.get("/v1/spend").ok()["scopes"]} == {"0.000000"}
    answer = ann.post("/v1/continue", {"continuation_token": turn["continuation_token"]})
    assert answer.ok()["status"] == "erased"


# ---- money ----


def test_spend_tells_every_scope(ann: Caller, kit: MemoryKit) -> None:
    kit.tenants.set("acme", actor="op", caps={"tenant_monthly": None})
    turn = create(ann).ok()
    spend = ann.get(f"/v1/spend?session_id={turn['session_id']}").ok()
    scopes = {each["scope"]: each for each in spend["scopes"]}
    assert list(scopes) == ["task", "user_daily", "user_monthly", "tenant_monthly"]
    assert {each["spent_usd"] for each in scopes.values()} == {turn["cost_usd"]}
    assert {each["reserved_usd"] for each in scopes.values()} == {"0.000000"}
    caps = [each["cap_usd"] for each in scopes.values()]
    assert caps == ["2.000000", "20.000000", "200.000000", "unlimited"]
    assert scopes["task"]["resets_at"] is None
    assert scopes["user_daily"]["resets_at"].endswith("T00:00:00.000Z")


def test_spend_is_ones_own(ann: Caller) -> None:
    turn = create(ann).ok()
    bob = {each["scope"]: each["spent_usd"] for each in ann.but(user="bob").get("/v1/spend").ok()["scopes"]}
    assert bob == {"user_daily": "0.000000", "user_monthly": "0.000000", "tenant_monthly": turn["cost_usd"]}
    other = ann.but(tenant="globex").get("/v1/spend").ok()["scopes"]
    assert {each["spent_usd"] for each in other} == {"0.000000"}


def test_spend_tells_agents_days_where_they_have_a_cap(ann: Caller, kit: MemoryKit) -> None:
    before = ann.get("/v1/spend").ok()["scopes"]
    kit.tenants.set("acme", actor="op", caps={"agent_daily": parse_usd("3.00")})
    turn = create(ann).ok()
    scopes = ann.get("/v1/spend").ok()["scopes"]
    assert [each.keys() for each in scopes[:3]] == [each.keys() for each in before]
    agents = {each["agent"]: (each["cap_usd"], each["spent_usd"]) for each in scopes[3:]}
    assert agents.keys() == kit.catalog.agents.keys()
    assert agents.pop("plain") == ("3.000000", turn["cost_usd"])
    assert set(agents.values()) == {("3.000000", "0.000000")}
    assert {each["scope"] for each in scopes[3:]} == {"agent_daily"}
    kit.tenants.set("acme", actor="op", caps={"agent_daily": None})
    assert len(ann.get("/v1/spend").ok()["scopes"]) == 3


def test_resets_are_told_in_utc_for_the_tenants_own_midnight(ann: Caller, kit: MemoryKit) -> None:
    kit.tenants.set("acme", actor="op", timezone="Asia/Tokyo")
    scopes = {each["scope"]: each["resets_at"] for each in ann.get("/v1/spend").ok()["scopes"]}
    assert {at.endswith("T15:00:00.000Z") for at in scopes.values()} == {True}
