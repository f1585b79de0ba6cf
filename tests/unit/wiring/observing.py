"""What a part of a process has understood of a setting, each asked as those ask that use it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import os
import time
import types
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from fargate_worker import __main__ as worker_main
from fargate_worker import process as worker_process
from fargate_worker.machine import sized
from functions.api import handler as api
from functions.api.app import FrontDoor
from functions.api.asgi import application
from functions.api.http import Request
from functions.api.serve import FrontDoorServer
from functions.observe import handler as observe
from functions.sweep import handler as sweep
from functions.turn import handler as turn
from server.chores import Chores
from server.process import Parts
from server.process import Process as ServerProcess
from server.turns import InProcessTurns
from tests.support.asgi import called
from tests.support.heads import head
from tests.support.http import Response, answered, event
from tests.support.wiring import Client, Process
from turnkeeper.bootstrap import Kit
from turnkeeper.core.continuation import Continuation
from turnkeeper.core.errors import (
    ContentUnusable,
    InvalidRequest,
    MissingValue,
    SessionNotFound,
)
from turnkeeper.core.worker_size import WorkerSize
from turnkeeper.ports import Message
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.following import Hub
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.store import codec
from turnkeeper.runtime.store.counters import payer_of
from turnkeeper.sdk import ENGINE, SdkAgent
from turnkeeper.sdk.engine import SdkEngine
from turnkeeper.table import Item, Key
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_table import MemoryTable

WHO = Identity("acme", "ann", "user")
CONTINUATION = Continuation(tenant_id="acme", user_id="ann", session_id="ses_1", turn=1, seq=1)
MESSAGE = Message("a message", "a receipt", "{}", 1)
#: Whoever comes with an AWS signature comes as one of these.
PRINCIPALS = "arn:aws:iam::123456789012:user"


def table(process: Process) -> object:
    process.kit.table.get(Key("a", "b"))
    return process.aws["dynamodb"].calls[0]["TableName"]


def bucket(process: Process) -> object:
    process.kit.blobs.put("a", b"")
    return process.aws["s3"].calls[0]["Bucket"]


def queue_url(process: Process) -> object:
    process.kit.queue.send("{}", group="acme")
    return process.aws["sqs"].calls[0]["QueueUrl"]


def dead_letters(process: Process) -> object:
    process.kit.queue.reject(MESSAGE, error_code="not_json", detail="")
    return process.aws["sqs"].calls[0]["QueueUrl"]


def traces_queue(process: Process) -> object:
    process.kit.trace_queue.send("{}", group="acme")
    return process.aws["sqs"].calls[0]["QueueUrl"]


def words_queue(process: Process) -> object:
    if process.kit.words is None:
        return None
    process.kit.words.tell("{}", group="acme")
    return process.aws["sqs"].calls[0]["QueueUrl"]


def event_bus(process: Process) -> object:
    events = vars(process.kit.platform.aws)["events"] = Client(lambda _: {"FailedEntryCount": 0})
    if process.kit.bus is None:
        return None
    process.kit.bus.put("a.type", process.kit.clock.now(), "{}")
    return events.calls[0]["Entries"][0]["EventBusName"]


def hook_secret(process: Process) -> object:
    [secret] = process.kit.hook_secrets.of("acme")
    return process.secrets.calls[0]["SecretId"], secret[:6]


def reply_queue(process: Process) -> object:
    if "results" in process.kit.replies.names:
        process.kit.replies.send("results", "{}", group="acme", message_id="evt_1")
    return [call["QueueUrl"] for call in process.aws["sqs"].calls]


def webhook_networks(process: Process) -> object:
    return [opened for opened in ("http://127.0.0.1:9/", "http://10.0.0.1/") if allows(process, opened)]


def allows(process: Process, address: str) -> bool:
    try:
        process.kit.webhooks.check(address, ())
    except InvalidRequest:
        return False
    return True


def trace_contents(process: Process) -> object:
    return process.kit.tracer.contents


def trace_sent_to(process: Process) -> object:
    request = process.trace_request()
    return request.url, str(request.headers.get("Authorization", "")).split(" ")[0]


def trace_headers(process: Process) -> object:
    return process.trace_request().headers.get("api_key")


def trace_resource(process: Process) -> object:
    body = process.trace_request().body
    assert isinstance(body, bytes)
    sent = ExportTraceServiceRequest.FromString(gzip.decompress(body))
    [resource] = [each.resource for each in sent.resource_spans]
    return {pair.key: pair.value.string_value for pair in resource.attributes}["deployment.environment.name"]


def turn_function(process: Process) -> object:
    if process.kit.turns is None:
        return None
    process.kit.turns.start("acme", "ses_1")
    return process.aws["lambda_"].calls[0]["FunctionName"]


def woken_service(process: Process) -> object:
    """The service that a message wakes."""
    process.kit.queue.send("{}", group="acme")
    return [(call["cluster"], *call["services"]) for call in process.aws["ecs"].calls]


def most_tasks(process: Process) -> object:
    """How many tasks a long queue is given."""
    process.aws["ecs"].answer = lambda _: {"services": [{"desiredCount": 0}]}
    process.aws["sqs"].answer = lambda _: {"Attributes": {"ApproximateNumberOfMessages": "1600"}}
    process.kit.capacity.look()
    return process.aws["ecs"].calls[-1]["desiredCount"]


def alert_topic(process: Process) -> object:
    process.kit.alerts.alert("kind", "subject", {})
    return [call["TopicArn"] for call in process.aws["sns"].calls]


def signing_secret(process: Process) -> object:
    process.kit.tokens.sign(CONTINUATION)
    return process.secrets.calls[0]["SecretId"]


def model_key(process: Process) -> object:
    return process.model_request().headers["authorization"]


def model_address(process: Process) -> object:
    return str(process.model_request().url)


def model_provider(process: Process) -> object:
    request = process.model_request()
    return request.url.path, request.headers["authorization"].split()[0]


def tool_secrets(process: Process) -> object:
    """Which secret is read for the tools' ``crm``."""
    with contextlib.suppress(MissingValue):
        process.kit.tool_values.secret("crm")
    return [call["SecretId"] for call in process.secrets.calls]


def tool_settings(process: Process) -> object:
    try:
        return process.kit.tool_values.setting("crm_url")
    except MissingValue:
        return None


def turn_seconds(process: Process) -> object:
    """What the turn Lambda gives a turn, with 15 minutes ahead of it."""
    engine = mock.Mock()
    engine.run.return_value = head()
    vars(process.kit)["engine"] = engine
    turn.TurnRunner(process.kit).run({"tenant_id": "acme", "session_id": "ses_1"}, 900.0)
    [allowance] = [call.args[2] for call in engine.run.call_args_list]
    return allowance.turn_seconds


def worker_options(process: Process) -> Any:
    return worker_process.worker_of(wired_engine(process)).options


def wired_engine(process: Process) -> Kit:
    vars(process.kit)["engine"] = mock.Mock()
    return process.kit


def lease_seconds(process: Process) -> object:
    """How long a claim holds, the lease that the worker knows of, and when an erased session is looked at again."""
    memory, kit = process.in_memory(), process.kit
    kit.clock = ManualClock()
    head = kit.intake.create(WHO, NewSession(agent="desk", input="hello", metadata={}))
    head = kit.sessions.claim(head.tenant_id, head.session_id, "owner", "fargate")
    held = head.lease.expires_at / 1000 - kit.clock.now().timestamp()
    kit.erasure.erase(head, actor="ann")
    [item] = heads_in(memory)
    again = datetime.fromisoformat(item["due_at"]) - kit.clock.now()
    return held, worker_options(process).lease_seconds, again.total_seconds()


def placed(process: Process) -> object:
    """How often a worker that has a slot free is asked for an ``auto`` turn, the turn Lambda, and, by a worker whose
    slots are taken, another one."""
    process.in_memory()
    kit = process.kit
    kit.clock = ManualClock()
    kit.workers.tell("a worker", 1)
    kit.placing.send(kit.intake.create(WHO, NewSession("desk", "hello", {}, "auto")))
    worker = worker_process.worker_of(wired_engine(process))
    worker.stop()
    worker.announcing.look()
    return tuple(len(process.aws[name].calls) for name in ("sqs", "lambda_", "ecs"))


def default_wait(process: Process) -> object:
    """How long a turn that nobody runs is waited for."""
    process.in_memory()
    process.kit.clock = clock = ManualClock()
    created(process, {"jwt": {"claims": {}}}, {}, placement="interactive")
    return round(clock.monotonic(), 3)


def writes_compactly(process: Process) -> object:
    """Whether a session's head is packed, until the session is erased, and its user's month begun with its days."""
    memory, kit = process.in_memory(), process.kit
    head = kit.intake.create(WHO, NewSession(agent="desk", input="hello", metadata={}))
    [begun] = ["packed" in item for item in heads_in(memory)]
    kit.erasure.erase(head, actor="ann")
    [ended] = ["packed" in item for item in heads_in(memory)]
    assert begun is ended is kit.treasury.forms.joined(payer_of(head), {"user_monthly": "2026-11"})
    return begun


def worker_concurrency(process: Process) -> object:
    connections = process.kit.platform.aws.max_pool_connections
    return worker_options(process).concurrency, connections, process.kit.capacity.slots


def worker_processes(process: Process) -> object:
    """Of a worker on a machine for two, and its slots; where `make sdk` was not run."""
    with (
        mock.patch("fargate_worker.machine.size_of_this", lambda _: WorkerSize(processes=2, sessions=80)),
        mock.patch("importlib.util.find_spec", lambda _: None),
    ):
        settings = sized(process.kit.settings)
    return settings.worker_processes, settings.worker_concurrency


def stop_seconds(process: Process) -> object:
    return worker_options(process).stop_seconds


def front_door_turns(process: Process) -> object:
    """How many turns a front door runs itself; ``None``: it asks for them on the queue."""
    process.in_memory()
    with mock.patch("functions.process.share"), mock.patch("server.process.FrontDoor"):
        ServerProcess(process.kit, Parts(front_door=True))
    turns = process.kit.turns
    return turns.slots if isinstance(turns, InProcessTurns) else None


def sweep_seconds(process: Process) -> object:
    """Between two sweeps of the chores."""
    process.in_memory()
    clock = process.kit.clock = ManualClock()
    chores = Chores(process.kit, [], name="tests", spawn=lambda _name, _body: None)
    at: list[float] = []
    with (
        mock.patch("server.chores.sweep", lambda *_, **__: at.append(clock.monotonic())),
        mock.patch("server.chores.watch_scores"),
    ):
        while len(at) < 2:
            chores._keep()
            chores.look()
            clock.advance(1)
    return at[1] - at[0]


def health_server(argument: str) -> Callable[[Process], object]:
    def ask(process: Process) -> object:
        with worker_that_stops_at_once() as server, started(process):
            worker_main.main()
        return server.call_args.kwargs[argument]

    return ask


def guards_contents(process: Process) -> object:
    """Whether an address that an input names is looked at, or left to the model API."""
    process.in_memory()
    block = {"type": "image", "source": {"type": "url", "url": "https://127.0.0.1/a.png"}}
    try:
        process.kit.intake.create(WHO, NewSession(agent="desk", input=[block], metadata={}))
    except ContentUnusable:
        return True
    return False


def agents(process: Process) -> object:
    return set(process.kit.catalog.agents)


def root(process: Process) -> object:
    return process.kit.policy.default_plan, set(process.kit.catalog.agents)


def caller(process: Process) -> object:
    """Whom the front door takes this caller for, or the status of its refusal."""
    memory = process.in_memory()
    claims = {"tenant_id": "claimed", "sub": "claimant", "role": "clerk", "org": "firm", "mail": "m@x", "rank": "chief"}
    answer = created(process, {"jwt": {"claims": claims}, "iam": {"userArn": f"{PRINCIPALS}/backend"}})
    if answer.status != 202:
        return answer.status
    [head] = map(codec.head_of, heads_in(memory))
    return head.tenant_id, head.user_id, head.role


def trusted(process: Process) -> object:
    """Which of the principals A, B and C are let in."""
    process.in_memory()
    statuses = {name: created(process, {"iam": {"userArn": f"{PRINCIPALS}/{name}"}}).status for name in "ABC"}
    assert set(statuses.values()) <= {202, 403}
    return {name for name, status in statuses.items() if status == 202}


def created(
    process: Process,
    authorizer: Mapping[str, Any],
    more: Mapping[str, str] = types.MappingProxyType({"prefer": "wait=0"}),
    **asked: str,
) -> Response:
    """The answer to a call that creates a session, of a caller who is named in the headers as well."""
    headers = {"x-tenant-id": "named", "x-user-id": "name", **more}
    body = json.dumps({"agent": "desk", "input": "hello", **asked})
    made = event("POST", "/v1/sessions", headers=headers, body=body, authorizer=authorizer)
    return answered(FrontDoor(process.kit), made)


def gateway_server(argument: str) -> Callable[[Process], object]:
    def ask(process: Process) -> object:
        with mock.patch("turnkeeper.gateway.server.GatewayServer") as server:
            worker_process.gateway_of(process.kit)
        return server.call_args.kwargs[argument] if server.called else None

    return ask


def sdk_engine(ask: Callable[[SdkEngine], object]) -> Callable[[Process], object]:
    """Of the engine for agents on the Claude Agent SDK, where there is one and it is installed."""

    def engine(process: Process) -> object:
        process.in_memory()
        kit = vars(process.kit)
        options = SimpleNamespace(model="claude-sonnet-5-5", system_prompt="Code.")
        kit["catalog"], kit["gateway"] = Catalog({"coder": SdkAgent(name="coder", options=options)}), mock.Mock()
        with (
            mock.patch("turnkeeper.bootstrap.importlib.util.find_spec", return_value=object()),
            mock.patch("os.geteuid", return_value=0),
        ):
            engine = process.kit.engines[ENGINE]
        assert isinstance(engine, SdkEngine)
        return ask(engine)

    return engine


def heads_in(memory: MemoryTable) -> list[Item]:
    return [item for item in memory.snapshot() if item["sk"] == "HEAD"]


def log_levels(process: Process) -> object:
    """The levels that the processes log at, each in its own code and in the package."""
    starts: Mapping[str, Callable[[], object]] = {
        "functions.api": api.front_door.__wrapped__,
        "functions.turn": turn.turn_runner.__wrapped__,
        "functions.observe": observe._kit.__wrapped__,
        "functions.sweep": sweep._kit.__wrapped__,
        "fargate_worker": worker_main.main,
    }
    levels: set[str] = set()
    for name, start in starts.items():
        with worker_that_stops_at_once(), started(process):
            start()
            levels |= {
                logging.getLevelName(logging.getLogger(part).getEffectiveLevel()) for part in (name, "turnkeeper")
            }
    return levels


# ---- processes, without their ends ----


@contextlib.contextmanager
def started(process: Process) -> Iterator[None]:
    """A process that starts now reads this environment. What it does to the log is undone."""
    names = ["", "turnkeeper", "turnkeeper_agents", "functions", "fargate_worker", "server"]
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, list(logger.handlers)) for logger in loggers]
    try:
        with mock.patch.dict(os.environ, process.environment):
            yield
    finally:
        for logger, (level, handlers) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.handlers[:] = handlers


@contextlib.contextmanager
def worker_that_stops_at_once() -> Iterator[mock.Mock]:
    """The worker's process takes no messages; what its health server is made with."""
    with (
        mock.patch.object(worker_main, "Signals", lambda: SimpleNamespace(stop=True)),
        mock.patch.dict(os.environ, {"TURNKEEPER_WORKER_PROCESSES": "1"}),
        mock.patch.object(worker_process, "worker_of"),
        mock.patch.object(worker_process, "HealthServer") as server,
    ):
        server.return_value.port = 0
        yield server


def server(ask: Callable[[mock.Mock, FrontDoorServer], object]) -> Callable[[Process], object]:
    """Of the front door as a server; where it listens is only asked for."""

    def made(process: Process) -> object:
        process.in_memory()
        with mock.patch("functions.api.serve._listener") as listener:
            listener.return_value.getsockname.return_value = ("", 0)
            return ask(listener, FrontDoorServer(process.kit))

    return made


def issuer(argument: int) -> Callable[[Process], object]:
    def ask(process: Process) -> object:
        process.in_memory()
        with mock.patch("functions.api.asgi.Issuer") as made:
            application(process.kit)
        return made.call_args.args[argument]

    return ask


def told_by_server(process: Process, method: str, target: str, **headers: str) -> Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(*asyncio.run(called(application(process.kit), method, target, sent, b"")))


def let_in_from(process: Process) -> object:
    process.in_memory()
    asks = {"origin": "https://a.example", "access_control_request_method": "POST"}
    return told_by_server(process, "OPTIONS", "/v1/sessions", **asks).headers.get("access-control-allow-origin")


def stream_ends_in(process: Process) -> object:
    process.in_memory()
    asked: list[Request] = []

    async def stream(_kit: Kit, _hub: Hub, request: Request) -> None:
        asked.append(request)
        raise SessionNotFound("there is none")

    with mock.patch("functions.api.asgi.stream", stream):
        told_by_server(process, "GET", "/v1/sessions/ses_00000000000000000000000000/stream").problem(
            404, "session_not_found"
        )
    return round(asked[0].ends_at - time.monotonic(), -1)


def streams_at_once(process: Process) -> object:
    process.in_memory()
    with mock.patch("functions.api.asgi.OpenStreams") as opened:
        application(process.kit)
    return opened.call_args.args[0]


def signed_through_adapter(process: Process) -> object:
    process.in_memory()
    context = json.dumps({"authorizer": {"iam": {"userArn": f"{PRINCIPALS}/A"}}})
    who = {"x_tenant_id": "acme", "x_user_id": "ann", "x_amzn_request_context": context}
    return told_by_server(process, "GET", "/v1/agents", **who).status
