"""Every turn is scored once, whatever the stream does, and nobody waits for it."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast
from unittest import mock

import pytest

from functions.api.app import FrontDoor
from functions.score import handler as module
from tests.support.http import Caller
from tests.support.kit import WHO, MemoryKit
from tests.unit.observe.conftest import Stream
from turnkeeper import Agent, Scoring
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.scoring import Score
from turnkeeper.core.session import Head
from turnkeeper.core.trajectory import Trajectory
from turnkeeper.evaluation import Ended
from turnkeeper.runtime import scoring
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.scoring import LEAST_TURNS, ScoreWatch
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.scores import Scores
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Update
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper.testing.recorders import RecordedAlerts

Handle = Callable[[], Any]


class Always:
    """Says what it is told to."""

    passes = True

    def score(self, trajectory: Trajectory) -> list[Score]:
        return [Score.check("always", self.passes, f"it said {trajectory.output_text}")]


class Hanging:
    """Waits for somebody to let it go on."""

    def __init__(self) -> None:
        self.asked, self.goes_on = 0, threading.Event()

    def score(self, trajectory: Trajectory) -> list[Score]:
        self.asked += 1
        assert self.goes_on.wait(60)
        return [Score.check("hanging", True, "it came back")]


class Poisoned:
    def score(self, trajectory: Trajectory) -> list[Score]:
        raise ValueError("not this one")


ALWAYS, HANGING = Always(), Hanging()
AGENTS = [
    Agent(name="slow", model="claude-sonnet-5-5", system="s", scoring=Scoring(evaluators=[HANGING, Ended()])),
    Agent(name="judged", model="claude-sonnet-5-5", system="s", scoring=Scoring(evaluators=[ALWAYS, Ended()])),
    Agent(name="half", model="claude-sonnet-5-5", system="s", scoring=Scoring(sample=0.5)),
    Agent(name="broken", model="claude-sonnet-5-5", system="s", scoring=Scoring(evaluators=[Poisoned(), Ended()])),
]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch, clock: ManualClock) -> MemoryKit:
    kit = MemoryKit(AGENTS, runner="none", clock=clock)
    monkeypatch.setattr(module, "_kit", lambda: kit)
    return kit


@pytest.fixture
def stream(kit: MemoryKit) -> Stream:
    return Stream(kit)


def turn(kit: MemoryKit, agent: str = "judged", text: str = "[[say hello]]", head: Head | None = None) -> Head:
    begun = kit.intake.post(head, text) if head else kit.intake.create(WHO, NewSession(agent, text, {}))
    return kit.engine.run("acme", begun.session_id, Allowance(runner="fargate"))


def scores(kit: MemoryKit, head: Head) -> dict[int, dict[str, bool | None]]:
    found = kit.scores.of_session("acme", head.session_id)
    return {one.turn: {score.name: score.passed for score in one.scores} for one in found}


def handle(event: dict[str, Any]) -> Any:
    return module.handler(event, None)["batchItemFailures"]


def test_each_turn_of_a_session_is_scored(kit: MemoryKit, stream: Stream) -> None:
    head = turn(kit, head=turn(kit))
    assert scores(kit, head) == {}, "not in the turn's way"
    assert handle(stream.event()) == []
    assert scores(kit, head) == {1: {"always": True, "ended": True}, 2: {"always": True, "ended": True}}


def test_what_the_stream_tells_again_is_scored_once(kit: MemoryKit, stream: Stream, clock: ManualClock) -> None:
    head = turn(kit)
    event = stream.event()
    for _ in range(3):
        assert handle(json.loads(json.dumps(event))) == []
    [made] = kit.scores.of_session("acme", head.session_id)
    [sums] = kit.scores.sums("judged", clock.now() - timedelta(hours=1), clock.now() + timedelta(hours=1)).values()
    assert (made.turn, sums.turns, sums.scores["always"][0]) == (1, 1, 1)
    assert sums.cost_nanousd == head.account.cost_nanousd > 0
    assert made.version == head.version


def test_after_an_outage_every_turn_has_its_scores(
    kit: MemoryKit, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = [turn(kit) for _ in range(3)]
    event = stream.event()
    with monkeypatch.context() as patch:
        patch.setattr(kit.table, "write", lambda _: (_ for _ in ()).throw(Unavailable("away")))
        [failure] = handle(event)
    number = int(failure["itemIdentifier"])
    left = {"Records": event["Records"][number - 1 :]}
    assert handle(left) == []
    assert all(scores(kit, head)[1]["ended"] for head in heads)


def test_a_poisoned_record_is_set_aside_and_counted(
    kit: MemoryKit, stream: Stream, capsys: pytest.CaptureFixture[str]
) -> None:
    turn(kit)
    [*_, poison] = [one for one in stream.event()["Records"] if one["dynamodb"]["NewImage"]["sk"] == {"S": "HEAD"}]
    poison["dynamodb"]["NewImage"]["packed"] = {"B": base64.b64encode(b"nobody can read this").decode()}
    other = turn(kit)
    capsys.readouterr()
    assert handle({"Records": [poison, *stream.event()["Records"]]}) == []
    assert scores(kit, other)[1]["ended"]
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert [line["turns_set_aside"] for line in printed if "turns_set_aside" in line] == [[1]]


def test_an_evaluator_that_fails_is_a_score_of_its_own(kit: MemoryKit, stream: Stream) -> None:
    head = turn(kit, "broken")
    assert handle(stream.event()) == []
    assert scores(kit, head)[1] == {"poisoned_failed": None, "ended": True}


def test_an_evaluator_that_hangs_is_waited_for_once(
    kit: MemoryKit, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And asked again once it has come back: until then it holds one thread, however many turns end."""
    monkeypatch.setattr(scoring, "EVALUATOR_SECONDS", 0.3)
    heads = [turn(kit, "slow") for _ in range(3)]
    assert handle(stream.event()) == []
    for head in heads:
        assert scores(kit, head)[1] == {"hanging_failed": None, "ended": True}
    assert HANGING.asked == 1
    HANGING.goes_on.set()
    until = time.monotonic() + 30
    while kit.scorer.patience._away and time.monotonic() < until:
        time.sleep(0.01)
    head = turn(kit, "slow")
    assert handle(stream.event()) == []
    assert scores(kit, head)[1] == {"hanging": True, "ended": True}


def test_an_evaluator_that_could_not_be_asked_is_asked_the_next_time(
    kit: MemoryKit, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that has no more threads just now."""
    first = turn(kit)
    with monkeypatch.context() as patched:
        patched.setattr(kit.parallel, "run_all", mock.Mock(side_effect=RuntimeError("can't start new thread")))
        assert handle(stream.event()) == []
    assert scores(kit, first)[1] == {"always_failed": None, "ended_failed": None}
    second = turn(kit)
    assert handle(stream.event()) == []
    assert scores(kit, second)[1] == {"always": True, "ended": True}


def test_a_sample_is_a_share_and_always_the_same(kit: MemoryKit, stream: Stream) -> None:
    heads = [turn(kit, "half") for _ in range(60)]
    handle(stream.event())
    chosen = [head.session_id for head in heads if scores(kit, head)]
    assert 15 < len(chosen) < 45
    assert chosen == [head.session_id for head in heads if Scoring(sample=0.5).takes(head.session_id, 1)]


def test_erasing_takes_the_reasons_and_leaves_the_numbers(kit: MemoryKit, stream: Stream) -> None:
    head = turn(kit)
    handle(stream.event())
    kit.erasure.erase(head, actor="u")
    [made] = kit.scores.of_session("acme", head.session_id)
    assert {score.reason for score in made.scores} == {""}
    assert [score.value for score in made.scores] == [1, 1]


def test_a_session_that_was_erased_meanwhile_is_not_scored(kit: MemoryKit, stream: Stream) -> None:
    head = turn(kit)
    event = stream.event()
    kit.erasure.erase(head, actor="u")
    assert handle(event) == []
    assert scores(kit, head) == {}


def test_metrics_say_which_agent_and_score_and_quote_nobody(
    kit: MemoryKit, stream: Stream, capsys: pytest.CaptureFixture[str]
) -> None:
    turn(kit, text="[[say something private]]")
    capsys.readouterr()
    handle(stream.event())
    printed = capsys.readouterr().out
    lines = [json.loads(line) for line in printed.splitlines() if "_aws" in line]
    assert {(line["agent"], line["evaluator"]) for line in lines} == {("judged", "always"), ("judged", "ended")}
    assert all(line["score"] == [1] and line["checks_failed"] == [0] for line in lines)
    assert "private" not in printed


# ---- a fall ----


def turns(kit: MemoryKit, stream: Stream, clock: ManualClock, *, hours: int, passes: Callable[[int], bool]) -> None:
    """Sixteen an hour."""
    for number in range(hours * 16):
        ALWAYS.passes = passes(number)
        turn(kit)
        handle(stream.event())
        if number % 16 == 15:
            clock.advance(3600)
    ALWAYS.passes = True


def test_a_fall_is_told_once_and_chance_is_not(kit: MemoryKit, stream: Stream, clock: ManualClock) -> None:
    alerts = RecordedAlerts()
    watch = ScoreWatch(kit.scores, kit.catalog, alerts, clock)
    turns(kit, stream, clock, hours=12, passes=lambda number: number % 10 != 0)
    watch.look()
    assert not alerts.alerts
    turns(kit, stream, clock, hours=3, passes=lambda number: number % 2 == 0)
    for _ in range(3):
        watch.look()
    [alert] = alerts.alerts
    assert alert.kind == "score_fell"
    assert alert.data["agent"] == "judged" and alert.data["score"] == "always"
    assert alert.data["was"] > 0.8 > alert.data["is"]


def test_too_few_turns_say_nothing(kit: MemoryKit, stream: Stream, clock: ManualClock) -> None:
    alerts = RecordedAlerts()
    turns(kit, stream, clock, hours=6, passes=lambda _: True)
    clock.advance(3 * 3600)
    for _ in range(LEAST_TURNS - 1):
        ALWAYS.passes = False
        turn(kit)
    ALWAYS.passes = True
    handle(stream.event())
    ScoreWatch(kit.scores, kit.catalog, alerts, clock).look()
    assert not alerts.alerts


def test_sums_are_those_of_the_hours_that_are_asked_for(kit: MemoryKit, stream: Stream, clock: ManualClock) -> None:
    for _ in range(3):
        turn(kit)
        handle(stream.event())
        clock.advance(3600)
    since = clock.now() - timedelta(hours=3)
    found = Scores(kit.table).sums("judged", since, clock.now() - timedelta(hours=1))
    assert sum(one.turns for one in found.values()) == 2
    [sums] = found.values()
    assert sums.mean("ended") == 1.0 and sums.mean("nothing") is None


def test_the_worst_come_first(kit: MemoryKit, stream: Stream) -> None:
    ALWAYS.passes = False
    bad = turn(kit)
    handle(stream.event())
    ALWAYS.passes = True
    turn(kit)
    handle(stream.event())
    assert [key.pk for key in kit.scores.worst_first("acme")] == [f"T#acme#S#{bad.session_id}"]
    assert not list(kit.scores.worst_first("other"))


def test_what_an_earlier_release_kept_of_an_odd_evaluator_can_be_read(kit: MemoryKit, stream: Stream) -> None:
    head = turn(kit)
    handle(stream.event())
    odd = {"scores": '[["always",0,false,"x"]]', "reasons": '[["a",1]]'}
    kit.table.update(Update(keys.assessment_key("acme", head.session_id, 1), set=odd))
    [score] = Caller(FrontDoor(kit)).get(f"/v1/sessions/{head.session_id}").ok()["scores"]
    assert (score["reason"], score["seq"]) == ("['a', 1]", None)


def test_lists_by_score_are_ones_own(kit: MemoryKit, stream: Stream) -> None:
    ALWAYS.passes = False
    bad = turn(kit)
    handle(stream.event())
    ALWAYS.passes = True
    turn(kit)
    handle(stream.event())

    def listed(user: str, role: str, below: str) -> Any:
        caller = Caller(FrontDoor(kit), user=user, role=role)
        return caller.get(f"/v1/sessions?scored_below={below}").json()

    assert [one["session_id"] for one in listed("ann", "user", "0.5")["sessions"]] == [bad.session_id]
    [worst] = [one["worst_score"] for one in listed("ann", "user", "0.5")["sessions"]]
    assert (worst["name"], worst["value"], worst["turn"], worst["version"]) == ("always", 0, 1, bad.version)
    assert listed("bob", "user", "0.5")["sessions"] == []
    assert [one["session_id"] for one in listed("bob", "admin", "1")["sessions"]] == [bad.session_id]
    assert listed("ann", "user", "0")["sessions"] == []
    assert listed("ann", "user", "2")["code"] == "invalid_request"
    session = Caller(FrontDoor(kit)).get(f"/v1/sessions/{bad.session_id}").json()
    assert [(score["name"], score["passed"], score["turn"]) for score in session["scores"]] == [
        ("always", False, 1),
        ("ended", True, 1),
    ]


def test_a_list_of_the_worst_passes_over_what_cannot_be_read_and_asks_for_many_at_once(
    kit: MemoryKit, stream: Stream
) -> None:
    ALWAYS.passes = False
    bad = [turn(kit) for _ in range(3)]
    handle(stream.event())
    ALWAYS.passes = True
    table = cast(MemoryTable, kit.table)
    table.update(Update(keys.head_key("acme", bad[1].session_id), set={"status": "later"}))
    asked: list[str] = []
    table.on_request = asked.append
    listed = Caller(FrontDoor(kit), user="bob").get("/v1/sessions?scored_below=0.5").json()["sessions"]
    assert (listed, asked.count("GetItem"), asked.count("BatchGetItem")) == ([], 0, 1)
    listed = Caller(FrontDoor(kit)).get("/v1/sessions?scored_below=0.5&limit=2").json()["sessions"]
    assert [one["session_id"] for one in listed] == [bad[0].session_id, bad[2].session_id]
