"""A turn that rests is asked for, told once, and says nothing of what was said where that is not allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.kit import WHO, MemoryKit
from tests.support.scripted import ScriptedModel, failure, reply, use
from tests.support.traces import check_no_contents, check_shape, named
from turnkeeper import Agent, tool
from turnkeeper.core import span_names as names
from turnkeeper.core.called import NO_TOOL
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.session import Head
from turnkeeper.core.spans import Trace
from turnkeeper.core.tracing import SpanContext, origin_of
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.tracing import NoTrace, head_of_request, request_of
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.script import say

SAID = "the violet umbrella"
SECRET = "hunter2-hunter2"


@tool(effect="read", secret_arguments=["password"])
def look(what: str, password: str) -> str:
    """Look."""
    return f"{what} is in the hall"


def kit(*answers: Any, **settings: Any) -> MemoryKit:
    agents = [Agent(name=name, model="claude-sonnet-5-5", system="s", tools=[look]) for name in ("open", "shut")]
    model = ScriptedModel(*answers) if answers else None
    return MemoryKit(agents, model=model, clock=ManualClock(), runner="none", **settings)


def played(made: MemoryKit, agent: str = "open", who: Identity = WHO) -> Head:
    return made.run(made.intake.create(who, NewSession(agent=agent, input=SAID, metadata={"note": SAID})))


def told(made: MemoryKit, head: Head) -> Trace:
    assert made.tracer.tell(request_of(head)) == "sent"
    return made.trace_receiver.traces[-1]


def test_what_asks_for_a_trace_holds_nothing_that_was_said() -> None:
    made = kit(reply(use("look", what=SAID, password=SECRET)), reply(say(SAID)))
    head = played(made)
    body = request_of(head)
    assert SAID not in body and SECRET not in body
    again = head_of_request(body)
    assert (again.turn.first_call, again.last_seq, again.account) == (1, head.last_seq, head.account)


def test_what_no_tool_is_called_is_told_as_no_tools_name() -> None:
    """The model may call one by whatever words it likes."""
    made = kit(reply(use(SAID, what="x")), reply(say("ok")))
    trace = told(made, played(made, "shut"))
    check_no_contents(trace.spans, SAID)
    assert [span.name for span in trace.spans if "tool" in span.name] == [f"execute_tool {NO_TOOL}"]


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"schema": "turnkeeper/trace@2"}', '{"schema":"turnkeeper/trace@1"}']
)
def test_what_asks_for_no_trace_is_refused(body: str) -> None:
    with pytest.raises(NoTrace):
        kit().tracer.tell(body)


def test_a_trace_is_sent_once_and_again_where_that_could_not_be_noted() -> None:
    made = kit()
    head = played(made)
    first = told(made, head)
    assert made.tracer.tell(request_of(head)) == "sent_before"
    other = kit()
    other.trace_receiver.away = Unavailable("busy")
    head = played(other)
    with pytest.raises(Unavailable):
        other.tracer.tell(request_of(head))
    other.trace_receiver.away = None
    assert told(other, head).root.name == first.root.name


def test_an_erased_session_has_no_trace() -> None:
    made = kit()
    head = played(made)
    made.erasure.erase(head, actor="u")
    assert made.tracer.tell(request_of(head)) == "erased"
    assert made.trace_receiver.traces == []


def test_the_trace_is_that_of_the_turn_that_rested_though_the_session_went_on() -> None:
    made = kit()
    head = played(made)
    made.run(made.intake.post(head, "and the next", who=WHO))
    trace = told(made, head)
    assert trace.root.attributes[names.TURN] == 1
    assert len(named(trace.spans, names.CHAT)) == head.account.calls < made.head(head.session_id).account.calls


def test_it_is_below_whoever_asked() -> None:
    asked = SpanContext("a" * 32, "b" * 16)
    made = kit()
    trace = told(made, played(made, who=Identity("acme", "ann", "user", origin_of(asked.traceparent, "req-1"))))
    assert (trace.trace_id, trace.root.parent_id, trace.from_outside) == (asked.trace_id, asked.span_id, True)
    assert trace.root.attributes[names.REQUEST] == "req-1"


def test_what_stands_in_it() -> None:
    made = kit(failure(529), reply(use("look", what=SAID, password=SECRET)), reply(say(SAID)))
    head = played(made)
    made.scorer.score(head)
    trace = told(made, head)
    root = check_shape(trace.spans)
    check_no_contents(trace.spans, SAID, SECRET)
    assert root.attributes[names.AGENT_NAME] == "open"
    assert root.attributes[names.AGENT_VERSION] == head.version
    assert root.attributes[names.COST] == head.account.cost_nanousd > 0
    assert root.attributes[names.CAP_SCOPE] == "task"
    assert root.attributes[names.CAP_HEADROOM] == 2 * 10**9 - head.account.cost_nanousd
    failed, *answered = named(trace.spans, names.CHAT)
    assert (failed.attributes[names.ERROR_TYPE], failed.error) == ("529", "529")
    assert [span.error for span in answered] == [None, None]
    [ran] = named(trace.spans, names.EXECUTE_TOOL)
    assert (ran.name, ran.attributes[names.TOOL_OUTCOME]) == ("execute_tool look", "ok")
    [queued], [runner] = named(trace.spans, names.QUEUE), named(trace.spans, names.RUNNER)
    assert queued.end_ns == runner.start_ns
    assert {event.name for event in root.events} == {names.EVALUATION}
    assert all(names.EXPLANATION not in event.attributes for event in root.events)


@pytest.mark.parametrize(
    ("contents", "agent", "shown"),
    [("", "open", False), ("open", "shut", False), ("open", "open", True), ("*", "shut", True)],
)
def test_contents_only_where_they_are_allowed_and_without_secrets(contents: str, agent: str, shown: bool) -> None:
    made = kit(
        reply(use("look", what=SAID, password=SECRET)), reply(say(f"it is there, token=sk-ant-{'a' * 30}")),
        trace_contents=contents,
    )  # fmt: skip
    trace = told(made, played(made, agent))
    text = repr(trace)
    assert SECRET not in text and "sk-ant-" not in text
    assert (SAID in text) == shown
    if shown:
        [ran] = named(trace.spans, names.EXECUTE_TOOL)
        assert json.loads(str(ran.attributes[names.ARGUMENTS]))["what"] == SAID
        assert json.loads(str(ran.attributes[names.RESULT])) == [{"type": "text", "content": f"{SAID} is in the hall"}]
        [said] = json.loads(str(trace.root.attributes[names.INPUT_MESSAGES]))
        assert said == {"role": "user", "parts": [{"type": "text", "content": SAID}]}


def test_contents_are_bounded() -> None:
    made = kit(reply(*[say("long " * 30_000)] * 3), trace_contents="*")
    trace = told(made, played(made))
    texts = [value for span in trace.spans for value in span.attributes.values() if isinstance(value, str)]
    assert all(len(text.encode()) <= 16_000 for text in texts)


def test_a_tool_is_told_its_span_and_spans_of_its_own_are_below_it() -> None:
    from opentelemetry import trace as otel

    seen: list[Any] = []

    @tool(effect="read")
    def trace_me(ctx: Any) -> str:
        """Where am I?"""
        current = otel.get_current_span().get_span_context()
        seen.append((ctx.traceparent, f"{current.trace_id:032x}", f"{current.span_id:016x}"))
        return "here"

    agent = Agent(name="placed", model="claude-sonnet-5-5", system="s", tools=[trace_me])
    made = MemoryKit([agent], model=ScriptedModel(reply(use("trace_me")), reply(say("ok"))), runner="none")
    trace = told(made, played(made, "placed"))
    [(traceparent, trace_id, span_id)] = seen
    [ran] = named(trace.spans, names.EXECUTE_TOOL)
    assert (trace_id, span_id) == (trace.trace_id, ran.span_id)
    assert traceparent == f"00-{trace_id}-{span_id}-01"
    assert not otel.get_current_span().get_span_context().is_valid
