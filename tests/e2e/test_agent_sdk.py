"""Agents on the Claude Agent SDK, from outside: the real program, driven by the worker, on the stand-in model.

Needs the extra: `make sdk` puts it where the local kit's worker finds it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.outside import Stack, assert_books, eventually, good, lines, results
from tests.support.repository import REPOSITORY
from tests.support.running_kit import running_kit
from turnkeeper_local.kit import Home

HERE = Path(__file__).parent
LEASE_SECONDS = 6

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(
        not (REPOSITORY / ".turnkeeper" / "agent-sdk" / "claude_agent_sdk").exists(), reason="needs `make sdk`"
    ),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("sdk")
    with running_kit(
        folder,
        TURNKEEPER_AGENTS=str(HERE / "sdk_agents"),
        TURNKEEPER_SCENARIO=str(HERE / "sdk_scenario.yaml"),
        TURNKEEPER_LEASE_SECONDS=str(LEASE_SECONDS),
    ) as kit:
        yield Stack(kit, Home(folder))


def test_a_turn_with_five_tools(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "notes"
    turn = caller.turn("clerk", f"five into {file}")
    assert turn["output_text"] == "Five tools were used."
    session, events = caller.checked(turn["session_id"])
    assert session["stop"]["reason"] == "end_turn"
    assert (session["placement"], session["runner"]) == ("background", "fargate")
    assert session["granted_tools"] == ["note", "look", "Bash", "Read", "Agent"]
    done = [(result["tool"], result["outcome"]) for result in results(events)]
    assert done == [("look", "ok"), ("Bash", "ok"), ("Read", "ok"), ("note", "ok"), ("Agent", "ok")]
    assert [line.split()[-2:][0] for line in lines(file)] == ["bash", "note", "errand"]
    # The program was shown nothing of the worker's own.
    seen = str(results(events)[1]["content"])
    for secret in ("AWS_", "TURNKEEPER_", "tkgl."):
        assert secret not in seen
    assert_books(caller, [session])
    audit = stack.cli("audit", "show", turn["session_id"], "--tenant", caller.tenant)
    assert "Bash" in str(audit)
    stack.cli("audit", "verify", turn["session_id"], "--tenant", caller.tenant)


def test_a_worker_killed_in_the_middle_of_a_once_tool(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "notes"
    session_id = caller.start("clerk", f"slowly into {file}", wait=0).json()["session_id"]
    eventually(lambda: lines(file), "the note was begun")
    os.kill(stack.worker_pid(), signal.SIGKILL)
    session = caller.rested(session_id)
    assert len(lines(file)) == 1
    assert session["stop"]["reason"] == "end_turn"
    _, events = caller.checked(session_id)
    assert [(result["tool"], result["outcome"]) for result in results(events)] == [("note", "unknown")]
    assert "runner_lost" in {event["type"] for event in events}
    assert_books(caller, [session])


def test_what_a_killed_worker_leaves_behind_does_nothing_more(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "ticks"
    session_id = caller.start("clerk", f"endlessly into {file}", wait=0).json()["session_id"]
    eventually(lambda: len(lines(file)) > 3, "the command runs")
    os.kill(stack.worker_pid(), signal.SIGKILL)
    time.sleep(2)
    ticks = len(lines(file))
    time.sleep(2)
    assert len(lines(file)) == ticks
    session = caller.rested(session_id)
    assert session["stop"]["reason"] == "end_turn"
    _, events = caller.checked(session_id)
    assert results(events)[0]["outcome"] == "unknown"
    assert lines(file)[ticks:] in ([], ["after"])


def test_a_worker_that_is_told_to_stop_hands_on_what_was_done(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "notes"
    session_id = caller.start("clerk", f"briefly into {file}", wait=0).json()["session_id"]
    eventually(lambda: lines(file), "the note was begun")
    os.kill(stack.worker_pid(), signal.SIGTERM)
    session = caller.rested(session_id)
    assert session["stop"]["reason"] == "end_turn"
    assert len(lines(file)) == 1
    _, events = caller.checked(session_id)
    assert [(result["tool"], result["outcome"]) for result in results(events)] == [("note", "ok")]
    assert [event["status"] for event in events if event["type"] == "status"] == ["queued", "idle"]
    assert_books(caller, [session])


def test_a_cap_that_trips_stops_the_turn_and_a_raise_lets_it_go_on(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "notes"
    # Less than the turn costs, and about what it has cost when its subagent begins.
    stack.set_caps(caller.tenant, user_daily="0.017")
    session_id = caller.start("clerk", f"five into {file}", wait=0).json()["session_id"]
    session = caller.rested(session_id)
    assert session["status"] == "stopped"
    assert session["stop"]["reason"] == "cost_cap"
    assert session["stop"]["detail"]["scope"] == "user_daily", session
    caller.checked(session_id)
    assert_books(caller, [session])
    stack.set_caps(caller.tenant, user_daily="5.00")
    turn = caller.finish(caller.go_on(session["continuation_token"]))
    assert turn["status"] == "idle"
    assert turn["stop"]["reason"] == "end_turn"
    session, _ = caller.checked(session_id)
    assert_books(caller, [session])


def test_a_cap_that_trips_in_a_subagent_stops_the_turn_too(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "notes"
    stack.set_caps(caller.tenant, user_daily="0.035")
    session_id = caller.start("clerk", f"spend into {file}", wait=0).json()["session_id"]
    session = caller.rested(session_id)
    assert session["stop"]["reason"] == "cost_cap"
    _, events = caller.checked(session_id)
    assert [result["tool"] for result in results(events)] == ["Agent"]
    assert results(events)[0]["is_error"]
    assert_books(caller, [session])


def test_nothing_runs_that_is_not_granted_nor_past_a_hook_that_raises(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "out"
    turn = caller.turn("closed", f"break out into {file}")
    assert turn["output_text"] == "Nothing worked."
    assert not file.exists()
    _, events = caller.checked(turn["session_id"])
    done = [(result["tool"], result["outcome"]) for result in results(events)]
    assert done == [("Bash", "denied"), ("Write", "denied"), ("Glob", "denied")]


def test_settings_in_the_workspace_are_not_read(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "trapped"
    turn = caller.turn("clerk", f"hostile into {file}")
    assert turn["output_text"] == "The trap is set."
    again = caller.finish(caller.say(turn["session_id"], "once more"))
    assert again["output_text"] == "Still here."
    assert not file.exists()
    caller.checked(turn["session_id"])


def test_a_cancel_ends_program_and_tools(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "ticks"
    session_id = caller.start("clerk", f"endlessly into {file}", wait=0).json()["session_id"]
    eventually(lambda: len(lines(file)) > 3, "the command runs")
    good(caller.cancel(session_id))
    session = caller.rested(session_id)
    assert session["status"] == "cancelled"
    ticks = len(lines(file))
    time.sleep(1)
    assert len(lines(file)) == ticks
    caller.checked(session_id)


def test_it_runs_in_the_background_only_and_is_erased_whole(stack: Stack, tmp_path: Path) -> None:
    caller, file = stack.caller(), tmp_path / "notes"
    refused = caller.start("clerk", "hello", placement="interactive")
    assert refused.status_code == 400
    assert "background" in refused.json()["detail"]
    turn = caller.turn("clerk", f"five into {file}")
    assert caller.post(f"/v1/sessions/{turn['session_id']}/fork", {}).status_code == 400
    assert caller.erase(turn["session_id"]).status_code == 204
    table = stack.client("dynamodb")
    pages = table.get_paginator("scan").paginate(TableName=stack.kit.table_name)
    items = [item for page in pages for item in page["Items"] if turn["session_id"] in str(item.get("pk"))]
    kept = [item for item in items if item["sk"]["S"].startswith("ELSEWHERE#")]
    assert kept
    assert not any("data" in item or "blob" in item for item in kept)
