"""The story of a session and the live view, of a kit that is up."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.e2e.outside import Caller, Document, Stack, call, eventually, tools

pytestmark = pytest.mark.stack


def test_a_story_adds_up_and_what_it_says_to_type_works(stack: Stack, caller: Caller) -> None:
    turn = caller.turn("handy", f"{tools(call('look', what='a'))} [[fail 529]] [[say seen]]")
    document = stack.cli("explain", turn["session_id"], "--tenant", caller.tenant, "--user", caller.user)
    costs = (Decimal(line["cost_usd"]) for line in document["story"] if line["cost_usd"] is not None)
    assert sum(costs) == Decimal(turn["cost_usd"])
    assert {line["refs"]["call"] for line in document["story"] if "call" in line["refs"]} == {1, 2, 3}
    assert any("HTTP 529" in line["text"] for line in document["story"])
    assert any("tenant's budget for the month" in line["text"] for line in document["story"])
    commands = [part.split()[1:] for part in document["what_now"].split("`")[1::2]]
    [fork] = [command for command in commands if command[0] == "fork"]
    copy = caller.session(stack.cli(*fork)["session_id"])
    assert copy["forked_from"]["session_id"] == turn["session_id"]
    [look] = [command for command in commands if command[:2] == ["audit", "show"]]
    assert stack.cli(*look)


def test_a_session_that_runs_is_in_the_live_view(stack: Stack, caller: Caller) -> None:
    turn = caller.start("handy", "[[sleep 30]] [[say late]]", wait=0).json()

    def frame() -> Document | None:
        found: Document = stack.cli("top", "--once")
        calling = [
            row for row in found["sessions"] if row["session_id"] == turn["session_id"] and "model" in row["doing"]
        ]
        return found if calling else None

    found = eventually(frame, "it is seen to call the model")
    [row] = [row for row in found["sessions"] if row["session_id"] == turn["session_id"]]
    assert (row["tenant_id"], row["user_id"], row["agent"], row["turn"]) == (caller.tenant, caller.user, "handy", 1)
    assert row["runner"].startswith("lambda ")
    assert found["workers"] == 1
    assert found["dead_letters"] >= 0
    of_tenant = stack.cli("top", "--tenant", caller.tenant)
    assert [one["session_id"] for one in of_tenant["sessions"]] == [turn["session_id"]]
    eventually(lambda: caller.session(turn["session_id"])["status"] == "idle", "it is done")
    spent = eventually(lambda: _spent(stack), "what it spent is in the metrics")
    assert spent > 0


def _spent(stack: Stack) -> Decimal:
    return Decimal(stack.cli("top")["spend_per_minute_usd"] or 0)
