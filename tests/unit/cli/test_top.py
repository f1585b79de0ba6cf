"""`turnkeeper top`: a frame is a function of a snapshot, and a snapshot is what the table, queues and metrics say."""

from __future__ import annotations

import io
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from tests.support.heads import NOW, reservation
from tests.support.heads import head as head_of
from tests.support.kit import MemoryKit
from tests.unit.cli.conftest import Cli, new_session
from turnkeeper.core.lost_runners import OpenCall
from turnkeeper.core.session import Handoff, Head
from turnkeeper_local.cli.commands import top as commands
from turnkeeper_local.cli.logs import GroupSource
from turnkeeper_local.cli.operator import Operator
from turnkeeper_local.cli.place import Place
from turnkeeper_local.cli.top import looking
from turnkeeper_local.cli.top.frame import frame
from turnkeeper_local.cli.top.looking import Metered, Overview, metrics_in
from turnkeeper_local.cli.top.snapshot import Snapshot, row_of

DEPTHS = {"queue": 3, "in_flight": 1, "dead_letters": 2}


def shown(snapshot: Snapshot, width: int = 220) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(frame(snapshot))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def line(at: float, **values: Any) -> str:
    return json.dumps({"_aws": {"Timestamp": int(at * 1000), "CloudWatchMetrics": []}, "service": "observe", **values})


class Logs:
    """A log group of the test's own."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def add(self, at: float, message: str) -> None:
        event_id = str(len(self.events))
        self.events.append({"eventId": event_id, "timestamp": int(at * 1000), "message": message})

    def get_paginator(self, _: str) -> Logs:
        return self

    def paginate(self, **_: Any) -> list[dict[str, Any]]:
        return [{"events": self.events}]

    def source(self) -> GroupSource:
        return GroupSource("observe", self, "group", 0)


# ---- frames ----


def test_a_frame_says_all_that_a_snapshot_holds() -> None:
    head = head_of(owner="task-1/token", runner="fargate", pending=reservation(), cost_nanousd=1_500_000, iterations=4)
    snapshot = Snapshot(
        at="2026-03-02T09:35:00.000Z",
        tenant_id=None,
        running=1,
        queued=7,
        sessions=[row_of(head, ())],
        runners=Counter({"fargate task-1": 1}),
        workers=0,
        spend_per_minute_nanousd=250_000_000,
        trips=Counter({"cost_cap": 2, "repetition": 1}),
        queues=DEPTHS,
    )
    text = shown(snapshot)
    for said in (
        *("all tenants", "1 running, 7 queued", "queue 3 waiting, 1 in hand", "dead letters 2", "workers 0"),
        *("spend $0.25 a minute", "trips in 5 min: cost_cap 2, repetition 1", "fargate task-1 (1)", "and 7 more"),
        *(head.session_id, "acme", "ann", "plain", "5 min", "$0.0015", "model call 1, a model"),
    ):
        assert said in text
    document = snapshot.document()
    assert document["sessions"][0]["cost_usd"] == "0.001500"
    assert document["spend_per_minute_usd"] == "0.250000"
    assert json.loads(json.dumps(document)) == document


def test_a_frame_of_a_kit_at_rest() -> None:
    text = shown(Snapshot(at=NOW, tenant_id="acme", running=0, queued=0))
    for said in ("tenant acme", "nothing runs", "not known yet", "workers ?", "min: none"):
        assert said in text


def test_names_from_outside_cannot_draw() -> None:
    text = shown(
        Snapshot(at=NOW, tenant_id=None, running=1, queued=0, sessions=[row_of(head_of(user_id="[red]\x1b[2J"), ())])
    )
    assert "\x1b[2J" not in text
    assert "[red]" in text


@pytest.mark.parametrize(
    ("head", "calls", "doing"),
    [
        (head_of(handoff=Handoff(to="queue", at=NOW)), (), "on its way to the worker"),
        (head_of(handoff=Handoff(to="function", at=NOW)), (), "on its way to the turn Lambda"),
        (head_of(handoff=Handoff(to="queue", at=NOW), put_backs=1), (), "waits for money in flight"),
        (head_of(pending=reservation()), (), "model call 1, a model"),
        (head_of(), [OpenCall(tool_use_id=str(n), tool=tool) for n, tool in enumerate("aab")], "tool a x2, b"),
        (head_of(attempts=2), (), "tries the model again, 2 failed"),
        (head_of(), (), "prepares its next call"),
    ],
)
def test_what_a_session_is_doing(head: Head, calls: list[OpenCall], doing: str) -> None:
    assert doing in row_of(head, calls).doing


# ---- metrics ----


def test_spend_and_trips_are_those_of_the_latest_minutes_each_counted_once() -> None:
    now, logs = datetime(2026, 3, 2, 9, 30, tzinfo=UTC), Logs()
    metered = Metered([logs.source()])
    base = now.timestamp()
    logs.add(base, line(base - 10, agent="plain", cost_nanousd=[5, 6]))
    logs.add(base, line(base - 90, agent="plain", cost_nanousd=1_000))
    logs.add(base, line(base - 90, agent="plain", reason="cost_cap", turns=[1]))
    logs.add(base, line(base - 90, agent="plain", reason="end_turn", turns=[4]))
    logs.add(base, line(base - 900, agent="plain", reason="repetition", turns=[1]))
    logs.add(base, "START RequestId: 1")
    assert metered.read(now) == (11, Counter({"cost_cap": 1}))
    logs.add(base, line(base + 1, agent="other", cost_nanousd=[4]))
    assert metered.read(now + timedelta(seconds=20)) == (15, Counter({"cost_cap": 1}))
    assert metered.read(now + timedelta(seconds=600)) == (0, Counter())
    assert Metered([]).read(now) == (None, Counter())


@pytest.mark.parametrize("message", ["", "{", '{"_aws": 1}', '{"_aws": {}}', '["_aws"]', '{"message": "\\"_aws\\""}'])
def test_what_is_no_metric_is_passed_over(message: str) -> None:
    assert metrics_in(message) is None


# ---- the table ----


def overview(kit: MemoryKit, tenant: str | None) -> Overview:
    place = Place("Turnkeeper", local=True, document={"worker_pid": 1})
    return Overview(kit, place, lambda: dict(DEPTHS), tenant)


def test_what_runs_is_found_of_all_tenants_or_of_one(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "sources", lambda _: iter(()))
    ids = [f"ses_{number:026d}" for number in range(12)]
    for number, session_id in enumerate(ids):
        new_session(kit, tenant=f"t{number % 3}", session_id=session_id)
    kit.run(kit.head(ids[0], "t0"))  # at rest
    kit.sessions.claim("t1", ids[1], "task-9/token", "fargate")
    everybody = overview(kit, None).look()
    assert {row.session_id for row in everybody.sessions} == set(ids) - {ids[0]}
    assert everybody.runners == {"fargate task-9": 1}
    assert (everybody.running, everybody.queued) == (11, 0)
    of_one = overview(kit, "t1").look()
    assert {row.session_id for row in of_one.sessions} == {ids[1], ids[4], ids[7], ids[10]}


def test_of_one_tenant_spend_is_known_at_the_second_look_and_trips_at_the_first(kit: MemoryKit) -> None:
    looks = overview(kit, "local")
    assert looks.look().spend_per_minute_nanousd is None
    new_session(kit, session_id="ses_1")
    head = kit.run(kit.head("ses_1", "local"))
    later = looks.look()
    assert later.spend_per_minute_nanousd is not None
    assert later.spend_per_minute_nanousd >= head.account.cost_nanousd > 0
    assert later.trips == Counter()
    kit.tenants.set("local", actor="op", caps={"user_daily": 1})
    new_session(kit, session_id="ses_2")
    assert kit.run(kit.head("ses_2", "local")).status == "stopped"
    assert looks.look().trips == {"cost_cap": 1}


def test_frames_follow_each_other_until_somebody_interrupts(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "sources", lambda _: iter(()))
    new_session(kit, session_id="ses_1")
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 1:
            new_session(kit, session_id="ses_2")
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    console = Console(file=io.StringIO(), force_terminal=True, width=220, height=30)
    commands.watch(console, overview(kit, None), 3.0)
    assert isinstance(console.file, io.StringIO)
    shown_at_all = console.file.getvalue()
    assert slept == [3.0, 3.0]
    assert shown_at_all.index("1 running") < shown_at_all.index("2 running")


def test_one_frame_is_printed_where_no_terminal_is(cli: Cli, kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looking, "sources", lambda _: iter(()))
    monkeypatch.setattr(Operator, "queue_depths", lambda _: dict(DEPTHS))
    new_session(kit, session_id="ses_1")
    result = cli("top")
    assert result.exit_code == 0
    assert "ses_1" in result.stdout
    document = cli("top", "--json", "--tenant", "local").document
    assert (document["tenant_id"], document["queue"], document["dead_letters"]) == ("local", 3, 2)
    assert [row["session_id"] for row in document["sessions"]] == ["ses_1"]
    assert cli("top", "--interval", "0").exit_code == 2
