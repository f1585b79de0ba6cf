"""The kit in memory: what ``turnkeeper.bootstrap`` wires, on adapters that need nothing.

    kit = MemoryKit()
    head = kit.intake.create(WHO, NewSession(agent="plain", input="[[say hello]]", metadata={}))
    kit.run(head)

The model is the stand-in of the local kit, called in process, so its directives work. Whatever asks
for the turn Lambda gets a runner in a thread (``runner="threads"``), at once on the caller's own thread
(``"inline"``), or none at all (``"none"``: the test says when, with :meth:`MemoryKit.run`). What lands on the queue
stays there until :meth:`MemoryKit.work` plays the worker.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tests.support.repository import REPOSITORY
from turnkeeper.adapters.anthropic_errors import status_error
from turnkeeper.adapters.anthropic_stream import PartialMessage
from turnkeeper.adapters.system import SystemClock, SystemIds
from turnkeeper.adapters.tokens import SignedTokens
from turnkeeper.bootstrap import Kit
from turnkeeper.core.agent import Agent, Limits
from turnkeeper.core.errors import LeaseLost, ProviderError, SessionBusy, SessionEnded, SessionNotFound
from turnkeeper.core.kit_tools import update_plan
from turnkeeper.core.policy import Policy, policy_of
from turnkeeper.core.session import Entry, Head
from turnkeeper.core.tools import Tool, ToolContext, ToolError, tool
from turnkeeper.ports import Clock, Ids, InjectionDetector, Model, ModelReply, ModelRequest
from turnkeeper.runtime.catalog import Broken, Catalog
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.jobs import Continue, parse, session_id_of_job
from turnkeeper.runtime.world import Allowance
from turnkeeper.settings import Settings
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_queue import MemoryQueue
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper.testing.memory_web import MemoryWeb
from turnkeeper.testing.recorders import RecordedAlerts, RecordedTurns
from turnkeeper_local.standin.errors import ApiError, new_request_id
from turnkeeper_local.standin.model import StandIn
from turnkeeper_local.standin.sse import events
from turnkeeper_local.standin.validate import parse_body

WHO = Identity(tenant_id="acme", user_id="ann", role="user")
MODEL = "claude-sonnet-5-5"

POLICY: Mapping[str, Any] = {
    "default_plan": "standard",
    "default_role": "user",
    "plans": {
        "standard": {
            "task_usd": "2.00",
            "user_daily_usd": "20.00",
            "user_monthly_usd": "200.00",
            "tenant_monthly_usd": "1000.00",
        },
        "short": {
            "task_usd": "2.00",
            "user_daily_usd": "20.00",
            "user_monthly_usd": "unlimited",
            "tenant_monthly_usd": "unlimited",
            "limits": {"max_iterations": 3},
        },
    },
    "roles": {
        "user": {"scopes": ["notes:read"]},
        "writer": {"scopes": ["notes:read", "notes:write"]},
        "admin": {"scopes": ["notes:read", "notes:write"], "admin": True},
    },
}

Runner = Literal["threads", "inline", "none"]


class StandInModel:
    """A :class:`turnkeeper.ports.Model`: the stand-in without HTTP. ``requests`` is what it was sent."""

    def __init__(self, clock: Clock, standin: StandIn | None = None) -> None:
        self.standin = standin or StandIn()
        self.requests: list[ModelRequest] = []
        self._clock = clock

    def call(self, request: ModelRequest, *, timeout_seconds: float) -> ModelReply:
        self.requests.append(request)
        request_id = new_request_id()
        try:
            delivery = self.standin.answer(_body(request, max_tokens=request.max_tokens, stream=True))
        except ApiError as error:
            headers = error.headers(request_id)
            raise status_error(
                error.status, error.body(request_id), headers, certainty="unbilled", now=self._clock.now()
            ) from error
        takes = delivery.sleep_seconds + delivery.trickle_seconds
        self._clock.sleep(min(takes, timeout_seconds))
        if delivery.cut or takes > timeout_seconds:
            usage = delivery.reply.usage()
            raise ProviderError("the stream broke", retryable=True, certainty="unknown", usage=usage)
        answer = PartialMessage()
        for event in events(delivery.reply):
            answer.feed(event)
        return answer.reply(request_id)

    def count_tokens(self, request: ModelRequest) -> int:
        return self.standin.count_tokens({name: value for name, value in _body(request).items() if name != "metadata"})


def _body(request: ModelRequest, **more: Any) -> Mapping[str, Any]:
    """As the adapter writes it and the stand-in's server reads it: what is no JSON gets no further."""
    body = {**request.options, "model": request.model, "messages": request.messages, **more}
    if request.system:
        body["system"] = request.system
    if tools := [*request.tools, *request.options.get("tools", ())]:
        body["tools"] = tools
    return parse_body(json.dumps(body).encode())


class MemoryKit(Kit):
    """A :class:`turnkeeper.bootstrap.Kit` in memory. ``notes`` holds what the ``write_note`` tool of the agents below
    has written."""

    def __init__(
        self,
        agents: Iterable[Agent] = (),
        *,
        policy: Mapping[str, Any] | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        model: Model | None = None,
        detector: InjectionDetector | None = None,
        runner: Runner = "threads",
        allowance: Allowance | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(
            Settings.model_validate({"table": "memory", "root": REPOSITORY, "identity": "local"} | settings)
        )
        self.clock = clock or SystemClock()
        self.ids = ids or SystemIds()
        self.runner: Runner = runner
        #: What the turn Lambda's stand-in gives a turn.
        self.allowance = allowance or Allowance(runner="lambda", turn_seconds=840, hard_seconds=890)
        self.signing_keys = ["a signing key of the tests"]
        self.notes: list[str] = []
        self._given_agents = tuple(agents)
        self._given_policy = policy_of(policy or POLICY)
        self._given_model = model
        self._given_detector = detector
        self._threads: list[threading.Thread] = []

    # ---- what is wired otherwise ----

    @cached_property
    def policy(self) -> Policy:
        return self._given_policy

    @cached_property
    def catalog(self) -> Catalog:
        agents = {agent.name: agent for agent in (*agents_with(self.notes), *self._given_agents)}
        why = "ImportError: no module named left_pad"
        return Catalog(agents, {"broken": Broken(Path("broken"), why, Path("broken/agent.py"), 1, why)})

    @cached_property
    def table(self) -> MemoryTable:
        return MemoryTable()

    @cached_property
    def blobs(self) -> MemoryBlobs:
        return MemoryBlobs()

    @cached_property
    def queue(self) -> MemoryQueue:
        return MemoryQueue(self.clock)

    @cached_property
    def turns(self) -> RecordedTurns:
        return RecordedTurns(on_start=self._start)

    @cached_property
    def alerts(self) -> RecordedAlerts:
        return RecordedAlerts()

    @cached_property
    def tokens(self) -> SignedTokens:
        return SignedTokens(lambda: self.signing_keys)

    @cached_property
    def web(self) -> MemoryWeb:
        return MemoryWeb()

    @cached_property
    def model(self) -> Model:
        return self._given_model or StandInModel(self.clock)

    @cached_property
    def detector(self) -> InjectionDetector:
        return self._given_detector or super().detector

    # ---- runners ----

    def run(self, head: Head, allowance: Allowance | None = None) -> Head:
        """Play the turn Lambda (or the runner of ``allowance``) once, on this thread."""
        return self.engine.run(head.tenant_id, head.session_id, allowance or self.allowance)

    def work(self, *, allowance: Allowance | None = None, most: int = 100) -> int:
        """Play the worker until the queue shows nothing: how many messages were done. Messages that wait for their
        time, or that another runner's lease holds up, stay."""
        done = 0
        while done < most and (messages := self.queue.receive(most=1, wait_seconds=0, visibility_seconds=30)):
            [message] = messages
            owner = self._session_of(message.body)
            with contextlib.suppress(SessionEnded):
                self.engine.run(*owner, allowance or Allowance(runner="fargate"))
            self.queue.delete(message)
            done += 1
        return done

    def join(self, seconds: float = 10.0) -> None:
        """Wait until no turn runs in a thread any more."""
        until = time.monotonic() + seconds
        for thread in list(self._threads):
            thread.join(max(0.0, until - time.monotonic()))
            assert not thread.is_alive(), "a turn still runs"

    # ---- for tests to look at ----

    def head(self, session_id: str, tenant_id: str = WHO.tenant_id) -> Head:
        return self.sessions.head(tenant_id, session_id)

    def entries(self, session_id: str, tenant_id: str = WHO.tenant_id) -> tuple[Entry, ...]:
        return self.sessions.load(tenant_id, session_id).entries

    def wait_for(self, session_id: str, holds: Callable[[Head], bool], seconds: float = 10.0) -> Head:
        """The head once ``holds`` says so."""
        until = time.monotonic() + seconds
        while not holds(head := self.head(session_id)):
            assert time.monotonic() < until, f"still {head.status}"
            time.sleep(0.01)
        return head

    # ---- inside ----

    def _start(self, tenant_id: str, session_id: str) -> None:
        if self.runner == "threads":
            thread = threading.Thread(target=self._run_quietly, args=(tenant_id, session_id), daemon=True)
            self._threads.append(thread)
            thread.start()
        elif self.runner == "inline":
            self._run_quietly(tenant_id, session_id)

    def _run_quietly(self, tenant_id: str, session_id: str) -> None:
        with contextlib.suppress(SessionBusy, SessionEnded, SessionNotFound, LeaseLost):
            self.engine.run(tenant_id, session_id, self.allowance)

    def _session_of(self, body: str) -> tuple[str, str]:
        message = parse(body)
        if isinstance(message, Continue):
            continuation = self.tokens.verify(message.continuation_token)
            return continuation.tenant_id, continuation.session_id
        session_id = session_id_of_job(message.tenant_id, message.job_id)
        who = Identity(message.tenant_id, message.user_id, message.role or self.policy.default_role)
        request = NewSession(message.agent, message.input, message.metadata, "background")
        with contextlib.suppress(SessionBusy):
            self.intake.create(who, request, session_id=session_id)
        return message.tenant_id, session_id


# ---- agents ----


def agents_with(notes: list[str]) -> tuple[Agent, ...]:
    """``plain`` only talks; ``helper`` has tools of every effect; ``tasker`` has to call end_task; ``slow`` belongs on
    the worker; ``unpriced`` has a model that nobody can price. There is one that is ``broken`` as well."""
    tools = (add, read_note, fail, update_plan, _write_note(notes))
    return (
        Agent(name="plain", model=MODEL, system="You talk."),
        Agent(name="helper", model=MODEL, system="You help.", tools=tools),
        Agent(name="tasker", model=MODEL, system="You work.", tools=tools, done="end_task"),
        Agent(name="slow", model=MODEL, system="You take your time.", tools=tools, placement="background"),
        Agent(name="quick", model=MODEL, system="You hurry.", tools=tools, placement="interactive"),
        Agent(name="brief", model=MODEL, system="You stop early.", tools=tools, limits=Limits(max_iterations=2)),
        Agent(name="unpriced", model="nobody-knows-this-model-1", system="You are free."),
    )


@tool(effect="read")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool(effect="read", scopes={"notes:read"})
def read_note(title: str) -> str:
    """Read a note."""
    return f"The note {title}."


@tool(effect="read")
def fail(why: str) -> str:
    """Fail."""
    raise ToolError(why)


def _write_note(notes: list[str]) -> Tool:
    @tool(effect="once", scopes={"notes:write"}, secret_arguments={"password"})
    def write_note(ctx: ToolContext, text: str, password: str = "") -> str:
        """Write a note."""
        notes.append(f"{ctx.session_id}: {text}")
        return "written"

    return write_note
