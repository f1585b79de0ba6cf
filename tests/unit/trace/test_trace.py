"""What is asked for comes out of the queue as a trace; what fails comes back later, and holds up nothing."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from functions.score import handler as score
from functions.trace import handler as module
from tests.support.kit import WHO, MemoryKit
from tests.support.otlp import receiver
from tests.unit.observe.conftest import Stream
from turnkeeper import Agent, Scoring
from turnkeeper.adapters.otlp import OtlpReceiver
from turnkeeper.core.errors import Unavailable
from turnkeeper.runtime import tracing
from turnkeeper.runtime.intake import NewSession
from turnkeeper.testing.clock import ManualClock

ENDPOINT = "http://127.0.0.1:4318"


class Poisoned:
    def score(self, trajectory: Any) -> Any:
        raise ValueError("not this one")


AGENTS = [
    Agent(name="broken", model="claude-sonnet-5-5", system="s", scoring=Scoring(evaluators=[Poisoned()])),
    Agent(name="unscored", model="claude-sonnet-5-5", system="s", scoring=Scoring(evaluators=[])),
]


@pytest.fixture
def kit(monkeypatch: pytest.MonkeyPatch) -> MemoryKit:
    kit = MemoryKit(AGENTS, clock=ManualClock(), runner="none", otlp_endpoint=ENDPOINT)
    monkeypatch.setattr(module, "_kit", lambda: kit)
    monkeypatch.setattr(score, "_kit", lambda: kit)
    return kit


def records(*bodies: str, receives: int = 1) -> dict[str, Any]:
    return {
        "Records": [
            {
                "messageId": str(n),
                "receiptHandle": f"receipt-{n}",
                "body": body,
                "attributes": {"ApproximateReceiveCount": str(receives)},
            }
            for n, body in enumerate(bodies)
        ]
    }


def play(kit: MemoryKit, *agents: str) -> None:
    for agent in agents:
        kit.run(kit.intake.create(WHO, NewSession(agent=agent, input="hello", metadata={})))


def metrics(capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    return {name: sum(line[name]) for line in lines for name in line if name.startswith("traces_")}


def test_every_turn_that_ends_is_asked_for_once_scored_or_not(kit: MemoryKit) -> None:
    stream = Stream(kit)
    play(kit, "plain", "broken", "unscored")
    score.handler(stream.event(), None)
    agents = [json.loads(body)["head"]["agent"] for body in kit.trace_queue.bodies]
    assert agents == ["plain", "broken", "unscored"]


def test_nothing_is_asked_for_where_nobody_wants_traces(kit: MemoryKit) -> None:
    vars(kit)["settings"] = kit.settings.model_copy(update={"otlp_endpoint": None})
    stream = Stream(kit)
    play(kit, "plain")
    score.handler(stream.event(), None)
    assert kit.trace_queue.bodies == []


def test_each_message_is_told_and_counted(kit: MemoryKit, capsys: pytest.CaptureFixture[str]) -> None:
    stream = Stream(kit)
    play(kit, "plain", "plain")
    score.handler(stream.event(), None)
    capsys.readouterr()
    bodies = kit.trace_queue.bodies
    assert module.handler(records(*bodies, bodies[0]), None) == {"batchItemFailures": []}
    assert len(kit.trace_receiver.traces) == 2
    assert metrics(capsys) == {"traces_exported": 2}


def test_what_was_refused_in_part_is_told_and_not_sent_again(
    kit: MemoryKit, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stream = Stream(kit)
    play(kit, "plain")
    score.handler(stream.event(), None)
    capsys.readouterr()
    kit.trace_receiver.refuses = 2
    for _ in range(2):
        assert module.handler(records(*kit.trace_queue.bodies), None) == {"batchItemFailures": []}
    assert len(kit.trace_receiver.traces) == 1
    assert metrics(capsys) == {"traces_failed": 1}
    assert "2 spans were refused" in caplog.text


def test_a_receiver_that_answers_by_a_byte_now_and_then_is_waited_for_so_long(
    kit: MemoryKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "SEND_SECONDS", 0.3)
    stream = Stream(kit)
    play(kit, "plain", "plain")
    score.handler(stream.event(), None)
    with receiver() as to:
        to.refuses, to.dribbles = 1, 0.1
        vars(kit)["trace_receiver"] = OtlpReceiver(to.url, {}, timeout_seconds=0.2)
        began = time.monotonic()
        failed = module.handler(records(*kit.trace_queue.bodies), None)["batchItemFailures"]
        assert (len(failed), time.monotonic() - began < 0.9) == (2, True)
        assert len(to.requests) == 1, "nothing more is sent before it has come back"
        to.dribbles = 0.0
        until = time.monotonic() + 10
        while module.handler(records(*kit.trace_queue.bodies), None)["batchItemFailures"]:
            assert time.monotonic() < until
            time.sleep(0.05)


def test_what_fails_comes_back_later_and_the_rest_goes_on(kit: MemoryKit, capsys: pytest.CaptureFixture[str]) -> None:
    stream = Stream(kit)
    play(kit, "plain")
    score.handler(stream.event(), None)
    capsys.readouterr()
    [body] = kit.trace_queue.bodies
    assert module.handler(records("no JSON", body), None) == {"batchItemFailures": [{"itemIdentifier": "0"}]}
    assert len(kit.trace_receiver.traces) == 1
    assert metrics(capsys) == {"traces_exported": 1, "traces_failed": 1}
    kit.trace_receiver.away = Unavailable("out for lunch")
    play(kit, "plain")
    score.handler(stream.event(), None)
    again = module.handler(records(kit.trace_queue.bodies[-1], receives=3), None)
    assert again == {"batchItemFailures": [{"itemIdentifier": "0"}]}
    assert kit.trace_queue.put_back == [("receipt-0", 1), ("receipt-0", 3)]
