"""The parts of the demo. Each does one thing for real, through the API or the queue, and says what has to be true."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from turnkeeper_local.cli.api import RESTING, Api, Problem
from turnkeeper_local.cli.demo.checks import faults, read_tokens
from turnkeeper_local.cli.demo.script import Script
from turnkeeper_local.cli.jobs import one_job
from turnkeeper_local.cli.operator import Operator
from turnkeeper_local.cli.text import usd

Document = dict[str, Any]

TENANT, USER = "local", "dev"
CAPPED_TENANT = "capped"
SDK_AGENT = "coder"
_TURN_SECONDS = 120.0
_POLL_SECONDS = 0.3


class CheckFailed(Exception):
    """Something that has to be true is not."""


@dataclass
class Part:
    title: str
    play: Callable[[Stage], None]
    seconds: float = 0.0
    checks: list[str] = field(default_factory=list)
    failure: str | None = None

    def document(self) -> Document:
        return {
            "title": self.title,
            "ok": self.failure is None and bool(self.checks),
            "seconds": round(self.seconds, 2),
            "checks": self.checks,
            "failure": self.failure,
        }


@dataclass
class Stage:
    """What the parts work with, and what they leave for each other."""

    script: Script
    api: Api
    capped_api: Api
    operator: Operator
    #: Told of each thing that was found to be true.
    on_check: Callable[[str], None]
    #: Shown of each transcript, as it happens.
    on_event: Callable[[Document], None]
    #: Sessions by the name of what they were for, in the order in which they began.
    sessions: dict[str, str] = field(default_factory=dict)

    def expect(self, holds: object, what: str, otherwise: object = None) -> None:
        if not holds:
            raise CheckFailed(what if otherwise is None else f"{what}; but: {otherwise}")
        self.on_check(what)

    def follow(self, session_id: str, *, after: int = 0) -> None:
        for event in self.api.follow(session_id, after=after, until=time.monotonic() + _TURN_SECONDS):
            self.on_event(event)

    def session(self, name: str) -> Document:
        return self.api.session(self.sessions[name])


def all_parts(*, with_sdk: bool) -> list[Part]:
    """``with_sdk``: the worker of this kit has the Claude Agent SDK."""
    program = [Part("An agent on the Claude Agent SDK: its program in the worker, under the kit", sdk_agent)]
    return [
        Part("A turn through the API, with tools, on Lambda", first_turn),
        Part("A long task that starts on Lambda, moves mid-task, and finishes on the worker", long_task),
        Part("A job from the queue, delivered twice and done once, by the worker", job),
        Part("The conversation goes on, on Lambda again, with all that was said", goes_on),
        Part("A money cap that stops a turn before it costs anything, and lets it go on once raised", cap),
        *(program if with_sdk else ()),
        Part("What was written down: audit chains, transcripts, sums", books),
    ]


def first_turn(stage: Stage) -> None:
    script = stage.script
    turn = stage.api.start(script.first_agent, script.first, wait=20, placement=script.first_placement)
    turn = stage.api.finish(turn, within_seconds=_TURN_SECONDS)
    stage.sessions["first"] = turn["session_id"]
    events = _shown(stage, turn["session_id"])
    stage.expect(turn["status"] == "idle", f"200: {turn['output_text']!r}", (turn["status"], turn["stop"]))
    results = [result for event in events for result in event.get("results", ())]
    tools = ", ".join(dict.fromkeys(result["tool"] for result in results))
    stage.expect(results and all(result["outcome"] == "ok" for result in results), f"tools ran: {tools}", results)
    stage.expect(stage.session("first")["runner"] == "lambda", "it ran on Lambda")
    stage.expect(float(turn["cost_usd"]) > 0, f"{turn['steps']} steps cost {usd(turn['cost_usd'])}")


def long_task(stage: Stage) -> None:
    script = stage.script
    turn = stage.api.start(script.long_agent, script.long, wait=1)
    session_id = stage.sessions["long"] = turn["session_id"]
    token = turn["continuation_token"]
    stage.expect(turn["status"] == "running" and token, "202 after a second, with a continuation token", turn)
    stage.expect(_first_runner(stage, session_id) == "lambda", "it started on Lambda")
    stage.follow(session_id)

    turn = stage.api.finish(stage.api.go_on(token, wait=20), within_seconds=_TURN_SECONDS)
    session, events = stage.session("long"), stage.api.all_events(session_id)
    moved = [event["seq"] for event in events if event["type"] == "status" and event["status"] == "queued"]
    stage.expect(moved, f"{script.turn_seconds} s were not enough: handed off mid-task", events[-1])
    answers = [event["seq"] for event in events if event["type"] == "assistant"]
    before, after = sum(seq < moved[0] for seq in answers), sum(seq > moved[0] for seq in answers)
    stage.expect(before and after, f"{before} steps before the handoff, {after} behind it", answers)
    stage.expect(session["runner"] == "fargate", "the worker finished it", session["runner"])
    stage.expect(
        turn["status"] in {"idle", "completed"}, f"the token led to the answer: {turn['status']}", turn["stop"]
    )


def job(stage: Stage) -> None:
    job = {"agent": stage.script.job_agent, "input": stage.script.job, "tenant_id": TENANT, "user_id": USER}
    submission = one_job({**job, "role": "admin"})
    for _ in range(2):
        stage.operator.submit(submission.body, tenant_id=TENANT)
    stage.sessions["job"] = submission.session_id
    _wait(stage, submission.session_id)
    stage.follow(submission.session_id)
    session, events = stage.session("job"), stage.api.all_events(submission.session_id)
    stage.expect(True, f"its id was known when it was sent: {submission.session_id}")
    stop = session["stop"] or {}
    summary = (stop.get("detail") or {}).get("summary", "")
    says_so = f"it said itself that it is done: {summary}"
    stage.expect(session["status"] == "completed", says_so, (session["status"], stop))
    stage.expect(session["runner"] == "fargate", "the worker did it", session["runner"])
    inputs = [event for event in events if event["type"] == "user" and not event.get("by_kit")]
    stage.expect(len(inputs) == 1, "the second delivery started nothing", inputs)
    rows = [result for event in events for result in event.get("results", ()) if result["tool"] == "sql_query"]
    stage.expect(rows and rows[0]["outcome"] == "ok", "it queried the airports of the world with SQL", rows)


def goes_on(stage: Stage) -> None:
    name = stage.script.goes_on_with
    session_id = stage.sessions[name]
    before = stage.api.all_events(session_id)
    turn = stage.api.say(session_id, stage.script.next, wait=20)
    turn = stage.api.finish(turn, within_seconds=_TURN_SECONDS)
    session, events = stage.session(name), _shown(stage, session_id, after=before[-1]["seq"])
    stage.expect(turn["status"] == "idle", f"200: {turn['output_text']!r}", (turn["status"], turn["stop"]))
    stage.expect(session["runner"] == "lambda", "it ran on Lambda", session["runner"])
    sent_before = [read_tokens(event) for event in before if event["type"] == "assistant"][-1]
    sent_now = next(read_tokens(event) for event in events if event["type"] == "assistant")
    sentence = f"the model was sent {sent_now:,} tokens, and {sent_before:,} the time before: all of the history"
    stage.expect(sent_now > sent_before, sentence)


def cap(stage: Stage) -> None:
    stage.operator.set_tenant(CAPPED_TENANT, caps={"task": 100_000})
    try:
        turn = stage.capped_api.start(stage.script.first_agent, stage.script.capped, wait=20)
    except Problem as problem:
        refused = problem.document
        stage.expect(problem.status == 402, f"402 {problem.code}: {problem.detail}", refused)
    else:
        raise CheckFailed(f"a task over its cap was not refused: {turn['status']} {turn['stop']}")
    stage.expect(
        (refused["scope"], refused["limit_usd"], refused["contended"]) == ("task", "0.000100", False),
        f"the scope is the task's, its limit {usd(refused['limit_usd'])}, needed {usd(refused['needed_usd'])}",
        refused,
    )
    stage.expect(float(refused["spent_usd"]) == 0, "nothing was spent")
    stage.operator.set_tenant(CAPPED_TENANT, caps={"task": 1_000_000_000})
    turn = stage.capped_api.go_on(refused["continuation_token"], wait=20)
    turn = stage.capped_api.finish(turn, within_seconds=_TURN_SECONDS)
    stage.sessions["capped"] = turn["session_id"]
    for event in stage.capped_api.all_events(turn["session_id"]):
        stage.on_event(event)
    stage.expect(
        turn["status"] == "idle", f"`tenant set --cap task=1.00`, and on: {turn['output_text']!r}", turn["stop"]
    )


def sdk_agent(stage: Stage) -> None:
    turn = stage.api.start(SDK_AGENT, stage.script.program, wait=20)
    turn = stage.api.finish(turn, within_seconds=_TURN_SECONDS)
    stage.sessions["program"] = turn["session_id"]
    events = _shown(stage, turn["session_id"])
    stage.expect(turn["status"] == "idle", f"200: {turn['output_text']!r}", (turn["status"], turn["stop"]))
    results = [result for event in events for result in event.get("results", ())]
    proposed = [each for each in results if (each["tool"], each["outcome"]) == ("propose_patch", "ok")]
    stage.expect(proposed, "a patch was proposed, by a tool of the kit", results)
    session = stage.session("program")
    stage.expect(session["runner"] == "fargate", "the program ran in the worker", session["runner"])
    stage.expect(float(turn["cost_usd"]) > 0, f"its calls went through the gateway: {usd(turn['cost_usd'])}")


def books(stage: Stage) -> None:
    chains = [chain for tenant in (TENANT, CAPPED_TENANT) for chain in stage.operator.audit_office().verify_all(tenant)]
    records = sum(len(chain.records) for chain in chains)
    broken = [f"{chain.session_id}: {problem}" for chain in chains for problem in chain.problems]
    checked = {chain.session_id for chain in chains}
    stage.expect(set(stage.sessions.values()) <= checked, f"{len(chains)} audit chains found", checked)
    stage.expect(not broken and records, f"their {records} records are intact", broken)
    wrong: list[str] = []
    entries = 0
    for api, session_id in _all_sessions(stage):
        session, events = api.session(session_id), api.all_events(session_id)
        entries += len(events)
        wrong += [f"{session_id}: {fault}" for fault in faults(session, events)]
    stage.expect(not wrong and entries, f"{entries} entries: no gap, every tool call answered once, sums right", wrong)


# ---- help ----


def _all_sessions(stage: Stage) -> Iterator[tuple[Api, str]]:
    for name, session_id in stage.sessions.items():
        yield (stage.capped_api if name == "capped" else stage.api), session_id


def _shown(stage: Stage, session_id: str, *, after: int = 0) -> list[Document]:
    events = [event for event in stage.api.all_events(session_id) if event["seq"] > after]
    for event in events:
        stage.on_event(event)
    return events


def _first_runner(stage: Stage, session_id: str) -> str | None:
    """Who took it up first."""
    deadline = time.monotonic() + _TURN_SECONDS
    while time.monotonic() < deadline:
        session = stage.api.session(session_id)
        if session["runner"] or session["status"] in RESTING:
            return session["runner"] and str(session["runner"])
        time.sleep(_POLL_SECONDS)
    return None


def _wait(stage: Stage, session_id: str) -> None:
    """Until the worker has taken the job in."""
    deadline = time.monotonic() + _TURN_SECONDS
    while True:
        try:
            stage.api.session(session_id)
            return
        except Problem as problem:
            if problem.status != 404 or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_SECONDS)
