"""Each line of a turn says which, whatever thread writes it, and none quotes what was said in it."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from fargate_worker.worker import Options
from functions.api.app import FrontDoor
from functions.observe.records import each
from functions.score import handler as scorer
from functions.turn.handler import TurnRunner
from tests.support.http import Caller
from tests.support.kit import MODEL, MemoryKit
from tests.support.repository import REPOSITORY
from tests.support.scripted import begin, reply, say, scripted_kit, use
from tests.unit.observe.conftest import Stream
from tests.unit.worker.conftest import worker_of
from turnkeeper import Agent, Scoring, ToolContext, ToolError, tool
from turnkeeper.core.errors import ProviderError
from turnkeeper.core.trajectory import Trajectory
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime import turn as turns
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.intake import Intake
from turnkeeper.telemetry.fields import OF_A_TURN

WORDS = "Frau Mustermann owes the Rosenhof 4711 EUR"
SECRET = "ghp_" + "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8"
SAID = f"{WORDS} {SECRET}"

INSIGHTS = {"fields", "filter", "sort", "stats", "limit", "by", "as", "in", "and", "asc", "desc"}

log = logging.getLogger("turnkeeper_agents.lab")
later = threading.Event()
wrote = threading.Event()


@tool
def chatty(ctx: ToolContext, mark: str) -> str:
    """Write lines wherever a tool can."""
    ctx.logger.info("%s by ctx", mark)
    log.info("%s by module", mark)
    own = threading.Thread(target=lambda: ctx.logger.info("%s by own thread", mark))
    own.start()
    own.join()
    return "done"


@tool(timeout_seconds=0.2)
def late(ctx: ToolContext) -> str:
    """Write a line when nobody waits any more."""
    later.wait(20)
    log.info("late by module")
    wrote.set()
    return "done"


@tool
def fails(how: str, text: str) -> str:
    """Fail."""
    raise {"tool": ToolError, "value": ValueError, "os": ConnectionError}[how](text)


def thinks(mark: str, *content: Any) -> Callable[[ModelRequest], ModelReply]:
    def answer(_: ModelRequest) -> ModelReply:
        logging.getLogger("turnkeeper.lab").info("%s by model", mark)
        return reply(*content)

    return answer


def lines_of(logged: io.StringIO) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    logged.seek(0)
    logged.truncate()
    return lines


# ---- which turn ----


def in_the_function(kit: MemoryKit, session_id: str) -> None:
    assert TurnRunner(kit).run({"tenant_id": "acme", "session_id": session_id}, 800.0)["outcome"] == "ran"


def at_the_worker(kit: MemoryKit, session_id: str) -> None:
    kit.dispatch.send(kit.head(session_id))
    threads: list[threading.Thread] = []

    def spawn(_: str, body: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=body))
        threads[-1].start()

    worker = worker_of(kit, Options(name="w"), spawn)
    worker.receive()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("run", [in_the_function, at_the_worker])
def test_every_line_of_a_turn_says_which(run: Any, logged: io.StringIO) -> None:
    later.clear()
    wrote.clear()
    kit = scripted_kit(
        thinks("0", use("chatty", mark="1"), use("late"), use("chatty", mark="1 too")),
        thinks("1", use("chatty", mark="2")),
        thinks("2", use("fails", how="value", text="x")),
        thinks("3", say("done")),
        agents=[
            Agent(name="lab", model=MODEL, system="s", tools=[chatty, late, fails], placement="background"),
        ],
    )
    ann = Caller(FrontDoor(kit))
    answer = ann.post("/v1/sessions", {"agent": "lab", "input": "go"}, wait=0)
    session_id, trace_id = answer.ok(202)["session_id"], answer.headers["x-trace-id"]
    [answered] = [line for line in lines_of(logged) if line["message"] == "answered"]
    assert {answered["request_id"], answered["trace_id"]} == {"a-request", trace_id}
    run(kit, session_id)
    later.set()
    assert wrote.wait(20)
    lines = lines_of(logged)
    head = kit.head(session_id)
    assert head.resting
    named = {
        "tenant_id": "acme",
        "session_id": session_id,
        "turn": 1,
        "agent": "lab",
        "version": head.version,
        "trace_id": trace_id,
        "request_id": "a-request",
    }
    assert {*named, "step"} == set(OF_A_TURN)
    for line in lines:
        assert {name: line.get(name) for name in named} == named, line
    steps = {line["message"]: line["step"] for line in lines if " by " in line["message"]}
    assert steps == {
        **{f"{step} by model": step for step in range(4)},
        **{f"{mark} by {whom}": 1 for mark in ("1", "1 too") for whom in ("ctx", "module", "own thread")},
        **{f"2 by {whom}": 2 for whom in ("ctx", "module", "own thread")},
        "late by module": 1,
    }
    [failed] = [line for line in lines if line["message"].startswith("tool fails raised ValueError at")]
    assert failed["step"] == 3
    assert "test_log_lines.py" in failed["message"], "where it was is told"


def test_the_queries_of_the_docs_name_fields_that_lines_have(logged: io.StringIO) -> None:
    kit = scripted_kit(tools=[])
    answer = Caller(FrontDoor(kit)).post("/v1/sessions", {"agent": "scripted", "input": "go"}, wait=0)
    in_the_function(kit, answer.ok(202)["session_id"])
    lines = lines_of(logged)
    # What Powertools adds from a function's environment, and Logs Insights by itself.
    fields = {"service", "@timestamp"} | {name for line in lines for name in line}
    queries = re.findall(r"```text\n(.*?)```", (REPOSITORY / "docs/operations/logs.md").read_text(), re.DOTALL)
    assert len(queries) == 3
    for query in queries:
        words = set(re.findall(r"(?<![\w@])@?[a-z_]+\b(?!\()", re.sub(r'"[^"]*"', "", query)))
        aliases = set(re.findall(r" as (\w+)", query))
        assert words - aliases - INSIGHTS <= fields


def test_two_sessions_side_by_side_are_not_mixed_up(logged: io.StringIO) -> None:
    both = threading.Barrier(2, timeout=20)

    @tool
    def meet(ctx: ToolContext) -> str:
        """Meet."""
        both.wait()
        log.info("met as %s", ctx.session_id)
        return "met"

    kit = scripted_kit(reply(use("meet")), reply(use("meet")), tools=[meet])
    heads = [begin(kit), begin(kit)]
    threads = [threading.Thread(target=kit.run, args=(head,)) for head in heads]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    met = [line for line in lines_of(logged) if line["message"].startswith("met as")]
    assert {line["message"] for line in met} == {f"met as {line['session_id']}" for line in met}
    assert len({line["trace_id"] for line in met}) == 2


# ---- and nothing of what was said ----


class Quotes:
    def score(self, trajectory: Trajectory) -> list[Any]:
        raise ValueError(SAID)


def raises(*_: Any, **__: Any) -> Any:
    raise ValueError(SAID)


def prompt(_: Any) -> str:
    raise ValueError(SAID)


def quiet(*answers: Any, agent: str = "lab", **options: Any) -> Callable[[pytest.MonkeyPatch], MemoryKit]:
    def scene(_: pytest.MonkeyPatch) -> MemoryKit:
        kit = kit_of(*answers)
        kit.run(begin(kit, agent, SAID, **options))
        return kit

    return scene


def kit_of(*answers: Any) -> MemoryKit:
    agents = [
        Agent(name="lab", model=MODEL, system=SAID, tools=[chatty, fails], scoring=Scoring(evaluators=[Quotes()])),
        Agent(name="prompted", model=MODEL, system=prompt),
    ]
    return scripted_kit(*answers, agents=agents)


def provider_quotes(_: ModelRequest) -> ModelReply:
    raise ProviderError(f"invalid: {SAID}", retryable=False, certainty="unbilled", status_code=400)


def engine_quotes(patch: pytest.MonkeyPatch) -> MemoryKit:
    def broken(*_: Any, **__: Any) -> Any:
        error = KeyError(SAID)
        error.add_note(SAID)
        raise ValueError({"content": SAID}) from error

    patch.setattr(turns.decide, "judge_reply", broken)
    return quiet()(patch)


def end_quotes(patch: pytest.MonkeyPatch) -> MemoryKit:
    patch.setattr(Auditor, "tool_call", raises)
    return quiet(reply(use("fails", how="tool", text=SAID)))(patch)


def runner_is_lost(patch: pytest.MonkeyPatch) -> MemoryKit:
    kit = kit_of()
    head = begin(kit, "lab", SAID)
    kit.sessions.claim("acme", head.session_id, "gone", "fargate")
    kit.clock.sleep(500)
    with patch.context() as inside:
        inside.setattr(kit.sessions, "send_again", raises)
        assert kit.sweep.run(lambda: 10.0).failed == 1
    return kit


def jobs_quote(patch: pytest.MonkeyPatch) -> MemoryKit:
    kit = kit_of()
    body = {"schema": "turnkeeper.job/v1", "job_id": "j", "tenant_id": "acme", "user_id": "u", "agent": "lab"}
    for more in ({"agent": SAID}, {"role": SAID}, {"extra": SAID}, {"metadata": SAID}, {"metadata": {"a": "\ud800"}}):
        kit.queue.send(json.dumps({**body, "input": SAID, **more}), group="acme")
    kit.queue.send(SAID, group="acme")
    worker = worker_of(kit, Options(name="w"), lambda _, body: body())
    worker.receive()
    assert kit.queue.dead_letters
    return kit


def front_door_quotes(patch: pytest.MonkeyPatch) -> MemoryKit:
    kit = kit_of()
    ann = Caller(FrontDoor(kit))
    ann.post("/v1/sessions", {"agent": "lab", "input": SAID, "unknown": SAID})
    patch.setattr(Intake, "create", raises)
    ann.post("/v1/sessions", {"agent": "lab", "input": SAID}).problem(500, "internal_error")
    return kit


SCENES: dict[str, Callable[[pytest.MonkeyPatch], MemoryKit]] = {
    "an answer": quiet(reply(say(SAID))),
    **{
        f"a tool, {how}": quiet(reply(use("fails", how=how, text=SAID)), reply(say(SAID)))
        for how in ("tool", "value", "os", "nothing that there is")
    },
    "a call outside the grant": quiet(reply(use("Mustermann", text=SAID))),
    "the model API": quiet(provider_quotes),
    "a prompt": quiet(agent="prompted"),
    "the engine": engine_quotes,
    "the end of a turn": end_quotes,
    "the sweep": runner_is_lost,
    "jobs": jobs_quote,
    "the front door": front_door_quotes,
}


@pytest.mark.parametrize("scene", SCENES)
def test_no_line_quotes_what_was_said(scene: str, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[Stream] = []
    created = MemoryKit.__init__

    def watched(self: MemoryKit, *args: Any, **more: Any) -> None:
        created(self, *args, **more)
        changes.append(Stream(self))

    monkeypatch.setattr(MemoryKit, "__init__", watched)
    with monkeypatch.context() as patch:
        kit = SCENES[scene](patch)
    monkeypatch.setattr(scorer, "_kit", lambda: kit)
    event = changes[0].event()
    scorer.handler(event, None)

    def unreadable(record: Any) -> None:
        raise ValueError(str(record) + SAID)

    each({"Records": event["Records"][:1]}, unreadable)
    written = logged.getvalue()
    assert all(isinstance(json.loads(line), dict) for line in written.splitlines())
    assert "Mustermann" not in written
    assert "4711" not in written
    assert SECRET not in written
