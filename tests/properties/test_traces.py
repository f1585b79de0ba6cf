"""Whatever a session went through, each of its turns is one whole trace that adds up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.traces import check_stretches, named
from turnkeeper import Agent, Limits, ToolError, tool
from turnkeeper.core import span_names as names
from turnkeeper.core.spans import nanoseconds
from turnkeeper.core.turn_trace import Rested, trace_of
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.runs import Run
from turnkeeper.testing.script import answer, call, cut, fail
from turnkeeper.testing.workbench import Workbench


def bench() -> Workbench:
    clock: list[ManualClock] = []

    @tool(effect="read")
    def look(seconds: int, fails: bool) -> str:
        """Look."""
        clock[0].advance(seconds)
        if fails:
            raise ToolError("not there")
        return "there"

    @tool(effect="once")
    def pay(seconds: int) -> str:
        """Pay."""
        clock[0].advance(seconds)
        return "paid"

    limits = Limits(max_iterations=40, repetition_strikes=50, error_streak=50)
    here = Agent(name="here", model="claude-sonnet-5-5", system="s", tools=[look, pay], limits=limits)
    agents = [here, replace(here, name="there", placement="background")]
    policy = {**_POLICY, "roles": {"user": {"scopes": []}}}
    made = Workbench(Catalog({agent.name: agent for agent in agents}), policy)
    clock.append(made.clock)
    return made


_MONEY = dict.fromkeys(("task_usd", "user_daily_usd", "user_monthly_usd", "tenant_monthly_usd"), "100.00")
_POLICY: dict[str, Any] = {"default_plan": "p", "default_role": "user", "plans": {"p": _MONEY}}

seconds = st.integers(0, 400)
looks = st.builds(lambda at, fails: call("look", seconds=at, fails=fails), seconds, st.booleans())
pays = st.builds(lambda at: call("pay", seconds=at), seconds)
nobodys = st.builds(lambda: call("erase_everything"))
steps = st.lists(looks | pays | nobodys, min_size=1, max_size=3).map(lambda calls: answer(*calls, input_tokens=300))
#: The last of these stops the turn at once.
failures = st.sampled_from([429, 500, 529, None, 403]).map(fail) | st.builds(cut)
#: What the model answers, and the write after which the runner dies.
turns = st.tuples(st.lists(steps | failures, max_size=7), st.none() | st.integers(1, 8))


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["here", "there"]), st.lists(turns, min_size=1, max_size=3))
def test_every_turn_is_one_whole_trace(agent: str, played: list[Any]) -> None:
    made, ends = bench(), []
    run: Run | None = None
    for answers, dies_after in played:
        if dies_after is not None:
            made.crash_at(made.writes + dies_after)
        script = [*answers, answer("done")]
        run = made.run(agent, "go", model=script) if run is None else run.say("go on", model=script)
        ends.append(run.head)
        while run.status == "stopped":
            ends.append(run.resume().head)
    assert run is not None
    entries, calls = run.entries, run.ledger()
    check_stretches(ends, entries, calls)
    traces = [trace_of(Rested(head=end, entries=entries, calls=calls)) for end in ends]
    spans = [span for trace in traces for span in trace.spans]
    assert len({trace.trace_id for trace in traces}) == len(played), "one trace a turn"
    assert len(named(spans, names.CHAT)) == len(calls)
    lost = [entry for entry in entries if entry.type == "runner_lost"]
    assert len(named(spans, names.RUNNER_LOST)) == len(lost)
    runs = [entry.run for entry in entries if entry.run is not None]
    parts = {(span.attributes[names.RUNNER_ID], span.start_ns) for span in named(spans, names.RUNNER)}
    assert {(each.id, nanoseconds(each.claimed_at)) for each in runs} <= parts
