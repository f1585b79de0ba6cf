"""Traces as a receiver gets them: one of each turn, whole, whatever died while it ran; and nothing of what was said."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.outside import Caller, Document, Stack, call, eventually, good, lines, running_stack, tools
from tests.e2e.test_crashes import all_rest, dying, submit, work
from tests.support.otlp import ReceivedSpan, Receiver, receiver
from tests.support.traces import check_no_contents, check_shape, named, sums

pytestmark = pytest.mark.stack

CALLER_TRACE, CALLER_SPAN = uuid.uuid4().hex, uuid.uuid4().hex[:16]


@pytest.fixture(scope="module")
def collector() -> Iterator[Receiver]:
    """One that is busy at first, and refuses a trace once: that one comes back by the queue, half a minute later."""
    with receiver() as found:
        found.refusals += [503, 400]
        yield found


@pytest.fixture(scope="module")
def traced(collector: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running_stack(
        tmp_path_factory.mktemp("traced"),
        TURNKEEPER_TURN_SECONDS="6",
        TURNKEEPER_LEASE_SECONDS="5",
        TURNKEEPER_OTLP_ENDPOINT=collector.url,
    ) as stack:
        yield stack


def test_every_turn_of_a_mixed_run_has_one_whole_trace(traced: Stack, collector: Receiver, tmp_path: Path) -> None:
    caller = traced.caller()
    paid, stamped, seen = tmp_path / "paid", tmp_path / "stamped", tmp_path / "seen"
    answered = caller.http.post(
        "/v1/sessions",
        json={"agent": "handy", "input": "tell me of the violet umbrella"},
        headers={"Prefer": "wait=20", "traceparent": f"00-{CALLER_TRACE}-{CALLER_SPAN}-01"},
    )
    plain = caller.finish(answered)
    assert answered.headers["x-trace-id"] == CALLER_TRACE
    caller.finish(caller.say(plain["session_id"], "and of the green one"))
    submit(traced, caller, [work(n, 3, paid, stamped) for n in range(5)])
    slow = tools(call("pay", file=str(paid), what="once", seconds=6), call("stamp", file=str(stamped), what="x"))
    submit(traced, caller, [f"{slow} {tools(call('end_task', status='completed', summary='s'))}"])
    steps = [tools(call("wait", seconds=1.2 + n / 100, file=str(seen))) for n in range(6)]
    moving = caller.start("handy", f"{' '.join(steps)} [[say all six]]", wait=1)
    eventually(lambda: any("once" in line for line in lines(paid)), "the long payment was begun")
    os.kill(traced.worker_pid(), signal.SIGKILL)
    with dying(traced.worker_pid, signal.SIGKILL, signal.SIGTERM, every_seconds=(2, 5), seed=7) as killed:
        eventually(lambda: len(killed) >= 3, "workers died")
    caller.finish(moving)
    eventually(lambda: all_rest(caller, 8), "every session rests")

    sessions = [caller.session(one["session_id"]) for one in good(caller.get("/v1/sessions", limit=100))["sessions"]]
    turns = {(one["session_id"], n) for one in sessions for n in range(1, 3 if one is _of(sessions, plain) else 2)}
    eventually(lambda: len(collector.traces()) >= len(turns), "all traces came")
    traces = {_turn(spans): spans for spans in collector.traces().values()}
    assert traces.keys() == turns
    assert len(collector.traces()) == len(turns), "one trace a turn"
    for session in sessions:
        mine = [spans for (session_id, _), spans in sorted(traces.items()) if session_id == session["session_id"]]
        _check(session, mine)
    assert named(traces[plain["session_id"], 1], "invoke_agent")[0].parent_id == CALLER_SPAN
    assert sessions and _of(sessions, plain)["trace_id"] == next(iter(traces[plain["session_id"], 2])).trace_id
    _check_marks([span for spans in traces.values() for span in spans])
    assert not collector.refusals, "the one that was busy was asked again"


def _of(sessions: Sequence[Document], turn: Document) -> Document:
    return next(one for one in sessions if one["session_id"] == turn["session_id"])


def _turn(spans: Sequence[ReceivedSpan]) -> tuple[str, int]:
    root = check_shape(spans, outside=CALLER_SPAN)
    return root.attributes["gen_ai.conversation.id"], root.attributes["turnkeeper.turn"]


def _check(session: Document, traces: Sequence[Sequence[ReceivedSpan]]) -> None:
    """All traces of a session, against what the API says of it."""
    spans = [span for trace in traces for span in trace]
    found, usage = sums(spans), session["usage"]
    cached = usage["cache_read_input_tokens"] + usage["cache_creation_input_tokens"]
    assert found["gen_ai.usage.input_tokens"] == usage["input_tokens"] + cached
    assert found["gen_ai.usage.output_tokens"] == usage["output_tokens"]
    assert Decimal(found["turnkeeper.cost_nanousd"]) == Decimal(session["cost_usd"]) * 10**9
    check_no_contents(spans, "umbrella", "green one", "all six")
    for trace in traces:
        [root] = named(trace, "invoke_agent")
        assert root.name == f"invoke_agent {session['agent']}"
        assert root.attributes["turnkeeper.stop.reason"] == session["stop"]["reason"]
        assert root.attributes["turnkeeper.cap.headroom_nanousd"] > 0
        assert [name for name, _, _ in root.events] and {name for name, _, _ in root.events} == {
            "gen_ai.evaluation.result"
        }
        ids = {span.span_id for span in trace}
        assert {id for span in trace for _, id in span.links} <= ids
        assert named(trace, "turnkeeper.queue")
        assert {span.attributes["turnkeeper.runner.id"] for span in named(trace, "chat")} <= {
            span.attributes["turnkeeper.runner.id"] for span in named(trace, "turnkeeper.runner")
        }


def _check_marks(spans: Sequence[ReceivedSpan]) -> None:
    """What a mixed run has to show: runners that were lost, handoffs, tools whose outcome nobody knows."""
    assert named(spans, "turnkeeper.handoff")
    lost = named(spans, "turnkeeper.runner_lost")
    assert lost
    assert all(span.end_ns > span.start_ns for span in lost)
    outcomes = {span.attributes["turnkeeper.tool.outcome"] for span in named(spans, "execute_tool")}
    assert {"ok", "unknown"} <= outcomes
    assert {span.attributes["gen_ai.provider.name"] for span in named(spans, "chat")} == {"anthropic"}


def test_a_turn_that_goes_on_stays_in_its_trace(traced: Stack, collector: Receiver) -> None:
    caller: Caller = traced.caller()
    text = "".join(tools(call("look", what=str(n))) for n in range(9))
    turn = caller.turn("brief", text)
    assert turn["stop"]["reason"] == "iteration_limit"
    options = ("--tenant", caller.tenant, "--user", caller.user, "--max-iterations", "20")
    traced.cli("resume", turn["session_id"], *options, exit_code=None)
    caller.rested(turn["session_id"])

    def whole() -> list[ReceivedSpan]:
        spans = collector.traces().get(caller.session(turn["session_id"])["trace_id"], [])
        return spans if len(named(spans, "invoke_agent")) == 2 else []

    first, second = named(eventually(whole, "both parts came"), "invoke_agent")
    assert first.parent_id is None
    assert second.parent_id == first.span_id
    assert second.attributes["turnkeeper.resumed"] is True
    assert second.start_ns >= first.end_ns
