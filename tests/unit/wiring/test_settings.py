"""Every setting arrives at the parts that it is for.

Each has a row below: values as they stand in the environment, and what the parts that it concerns make of each. So a
setting that nobody reads, or that is handed to the wrong part, fails here; and so does a new one without a row.
"""

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
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
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
from tests.support import wiring_sql
from tests.support.asgi import called
from tests.support.heads import head
from tests.support.http import Response, answered, event
from tests.support.wiring import POLICY, Client, Folder, Process
from turnkeeper.bootstrap import Kit
from turnkeeper.core.continuation import Continuation
from turnkeeper.core.errors import (
    ContentUnusable,
    InvalidRequest,
    MissingValue,
    SessionNotFound,
    Unauthenticated,
    Unavailable,
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
from turnkeeper.settings import PREFIX, Settings
from turnkeeper.table import Item, Key
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper.wiring.aws import SIGNING_KEY_SECONDS
from turnkeeper.wiring.needs import MissingSetting

WHO = Identity("acme", "ann", "user")
CONTINUATION = Continuation(tenant_id="acme", user_id="ann", session_id="ses_1", turn=1, seq=1)
MESSAGE = Message("a message", "a receipt", "{}", 1)
RECEIVER = {"otlp_endpoint": "http://a.example:4318"}
CLOUDWATCH = "https://xray.eu-central-1.amazonaws.com/v1/traces"
PRINCIPALS = "arn:aws:iam::123456789012:user"


@dataclass(frozen=True)
class Row:
    #: What the parts that the setting is for have understood of it.
    ask: Callable[[Process], object]
    #: A value in the environment, and what is to be understood of it. An empty value counts as absent.
    values: Mapping[str, object]
    #: Settings that are needed beside it.
    beside: Mapping[str, str] = field(default_factory=dict)


# ---- what the parts have understood ----


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
    """Of a worker on a machine for two, and its slots."""
    with mock.patch("fargate_worker.machine.size_of_this", lambda: WorkerSize(processes=2, sessions=80)):
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


# ---- the rows ----

JWT = {"identity": "jwt"}

ROWS: Mapping[str, Row] = {
    "table": Row(table, {"one": "one", "two": "two"}),
    "bucket": Row(bucket, {"one": "one", "two": "two"}),
    "queue_url": Row(queue_url, {"https://one": "https://one", "https://two": "https://two"}),
    "dlq_url": Row(dead_letters, {"https://one": "https://one", "https://two": "https://two"}),
    "traces_queue_url": Row(traces_queue, {"https://one.example": "https://one.example", "b": "b"}),
    "words_queue_url": Row(words_queue, {"https://one": "https://one", "": None}),
    "event_bus": Row(event_bus, {"one": "one", "two": "two", "": None}),
    "hook_secret_id": Row(hook_secret, {"one": ("one", "whsec_"), "two": ("two", "whsec_")}),
    "reply_queues": Row(
        reply_queue, {'{{"results": "https://one"}}': ["https://one"], '{{"other": "https://two"}}': [], "": []}
    ),
    "webhook_networks": Row(
        webhook_networks,
        {
            "127.0.0.0/8": ["http://127.0.0.1:9/"],
            "127.0.0.0/8, 10.0.0.0/8": ["http://127.0.0.1:9/", "http://10.0.0.1/"],
            "": [],
        },
    ),
    "trace_contents": Row(trace_contents, {"one, two": ("one", "two"), "*": ("*",), "": ()}, RECEIVER),
    "otlp_endpoint": Row(
        trace_sent_to,
        {
            "http://a.example:4318": ("http://a.example:4318/v1/traces", ""),
            CLOUDWATCH: (CLOUDWATCH, "AWS4-HMAC-SHA256"),
        },
    ),
    "otlp_secret_id": Row(trace_headers, {"one": "key of one", "two": "key of two", "": None}, RECEIVER),
    "deployment": Row(trace_resource, {"Prod": "Prod", "": "local"}, RECEIVER),
    "turn_function": Row(turn_function, {"one:live": "one:live", "two": "two", "": None}),
    "signing_secret_id": Row(signing_secret, {"one": "one", "two": "two"}),
    "model_secret_id": Row(
        model_key, {"one": "Bearer key of one", "two": "Bearer key of two", "": "Bearer a key of the environment"}
    ),
    "model_provider": Row(
        model_provider,
        {
            "": ("/v1/messages", "Bearer"),
            "anthropic": ("/v1/messages", "Bearer"),
            "bedrock": ("/model/global.anthropic.claude-sonnet-5-5/invoke-with-response-stream", "AWS4-HMAC-SHA256"),
        },
    ),
    "model_url": Row(
        model_address,
        {
            "https://one.example": "https://one.example/v1/messages",
            "https://two.example/api": "https://two.example/api/v1/messages",
            "": "https://api.anthropic.com/v1/messages",
        },
    ),
    "alert_topic_arn": Row(alert_topic, {"arn:one": ["arn:one"], "arn:two": ["arn:two"], "": []}),
    "turn_seconds": Row(turn_seconds, {"5": 5.0, "600": 600.0}),
    "lease_seconds": Row(lease_seconds, {"7": (7.0, 7.0, 74.0), "70": (70.0, 70.0, 200.0)}),
    "auto_placement": Row(
        placed,
        {"latency": (0, 1, 0), "economy": (1, 1, 1), "": (0, 1, 0)},
        {"turn_function": "turns", "worker_service": "here/worker"},
    ),
    "default_wait_seconds": Row(
        default_wait, {"0": 0.0, "7": 7.0, "": 20.0}, {"turn_function": "turns", "identity": "local"}
    ),
    "compact_writes": Row(writes_compactly, {"": True, "true": True, "false": False}),
    "worker_concurrency": Row(worker_concurrency, {"3": (3, 16, 3), "30": (30, 70, 30)}),
    "worker_processes": Row(worker_processes, {"3": (3, 80), "1": (1, 80), "": (2, 80)}),
    "worker_service": Row(
        woken_service, {"here/worker": [("here", "worker")], "there/other": [("there", "other")], "": []}
    ),
    "worker_max_tasks": Row(most_tasks, {"3": 3, "30": 30, "": 10}, {"worker_service": "here/worker"}),
    "front_door_turns": Row(front_door_turns, {"3": 3, "0": None, "": 16}),
    "sweep_seconds": Row(sweep_seconds, {"7": 7.0, "": 60.0}),
    "stop_seconds": Row(stop_seconds, {"7": 7.0, "70": 70.0}),
    "health_port": Row(health_server("port"), {"1": 1, "2": 2}),
    "health_host": Row(health_server("host"), {"0.0.0.0": "0.0.0.0", "": "127.0.0.1"}),
    "agent_sdk_slots": Row(sdk_engine(lambda engine: engine.slots), {"2": 2, "": 1}),
    "agent_sdk_folder": Row(
        sdk_engine(lambda engine: str(engine.means.folder)),
        {"/data/agents": "/data/agents", "": "/tmp/turnkeeper-agents"},
    ),
    "agent_sdk_user": Row(
        sdk_engine(lambda engine: (engine.means.account, engine.slots)), {"7000": ((7000, 7000), 4), "": (None, 1)}
    ),
    "gateway_port": Row(gateway_server("port"), {"7": 7, "0": 0, "": None}),
    "gateway_host": Row(gateway_server("host"), {"0.0.0.0": "0.0.0.0", "": "127.0.0.1"}, {"gateway_port": "0"}),
    "gateway_wait_seconds": Row(lambda process: process.kit.gateway.till.wait_seconds, {"5": 5.0, "": 30.0}),
    "fetch_contents": Row(guards_contents, {"": True, "true": True, "false": False}),
    "tool_secrets": Row(
        tool_secrets, {'{{"crm": "one"}}': ["one"], '{{"crm": "two", "db": "three"}}': ["two"], "": []}
    ),
    "tool_settings": Row(tool_settings, {'{{"crm_url": "one"}}': "one", "{{}}": None, "": None}),
    "agents": Row(
        agents,
        {"{root}/more:{root}/yet-more": {"desk", "lab", "shop"}, "{root}/more": {"desk", "lab"}, "": {"desk"}},
    ),
    "root": Row(root, {"{root}": ("free", {"desk"}), "{root}/elsewhere": ("paid", {"till"})}),
    "identity": Row(
        caller, {"jwt": ("claimed", "claimant", "clerk"), "iam": 403, "local": ("named", "name", "admin"), "": 403}
    ),
    "trusted_principals": Row(
        trusted,
        {
            f"{PRINCIPALS}/A": {"A"},
            f"{PRINCIPALS}/B, {PRINCIPALS}/C": {"B", "C"},
            "": set(),
        },
    ),
    "jwt_tenant_claim": Row(caller, {"org": ("firm", "claimant", "clerk"), "": ("claimed", "claimant", "clerk")}, JWT),
    "jwt_user_claim": Row(caller, {"mail": ("claimed", "m@x", "clerk"), "": ("claimed", "claimant", "clerk")}, JWT),
    "jwt_role_claim": Row(
        caller, {"rank": ("claimed", "claimant", "chief"), "": ("claimed", "claimant", "clerk")}, JWT
    ),
    "database_url": Row(
        wiring_sql.database, {"sqlite:///{root}/one.db": "one.db", "sqlite:///{root}/two.db": "two.db", "": None}
    ),
    "database_migrate": Row(wiring_sql.migrates, {"true": True, "false": False, "": True}, wiring_sql.SQLITE),
    "database_connections": Row(wiring_sql.connections, {"3": 3, "": 10}, wiring_sql.POSTGRESQL),
    "database_blob_bytes": Row(
        wiring_sql.outside, {"10": 2, "": 1, "3000000": 0}, {**wiring_sql.SQLITE, "blob_folder": "{root}/blobs"}
    ),
    "blob_folder": Row(wiring_sql.outside, {"{root}/blobs": 1, "": 0}, {**wiring_sql.SQLITE, "bucket": ""}),
    "signing_key_file": Row(
        wiring_sql.signing_keys,
        {"{root}/a": "aaaaa", "{root}/b": "bbbbb", "": "other"},
        {**wiring_sql.SQLITE, "signing_key": "other" * 10},
    ),
    "signing_key": Row(wiring_sql.signing_keys, {"a" * 32: "aaaaa", "b" * 50: "bbbbb"}, wiring_sql.SQLITE),
    "model_key_file": Row(
        wiring_sql.model_key,
        {"{root}/one": "Bearer key of one", "": "Bearer a key of the environment"},
        wiring_sql.SQLITE,
    ),
    "secrets_folder": Row(
        wiring_sql.tool_secret,
        {"{root}/one": "a secret of one", "{root}/two": "a secret of two"},
        {**wiring_sql.SQLITE, "tool_secrets": '{{"crm": "crm-key"}}'},
    ),
    "alert_url": Row(wiring_sql.alerted, {"https://one.example": ["https://one.example"], "": []}, wiring_sql.SQLITE),
    "jwt_issuer": Row(
        issuer(0),
        {"https://a.example/": "https://a.example/", "https://b": "https://b"},
        {**JWT, "jwt_audience": "one"},
    ),
    "jwt_audience": Row(
        issuer(1), {"one": ("one",), "one, two": ("one", "two")}, {**JWT, "jwt_issuer": "https://a.example"}
    ),
    "cors_origins": Row(
        let_in_from, {"https://b.example, https://a.example": "https://a.example", "https://b.example": None, "": None}
    ),
    "api_host": Row(server(lambda asked, _: asked.call_args.args[0]), {"0.0.0.0": "0.0.0.0", "": "127.0.0.1"}),
    "api_port": Row(server(lambda asked, _: asked.call_args.args[1]), {"7": 7, "0": 0, "": 8000}),
    "api_fd": Row(server(lambda asked, _: asked.call_args.args[2]), {"7": 7, "": None}),
    "forwarded_allow_ips": Row(
        server(lambda _, server: (server.config.proxy_headers, server.config.forwarded_allow_ips)),
        {"10.0.0.1, 10.0.0.2": (True, ["10.0.0.1", "10.0.0.2"]), "": (False, [])},
    ),
    "stream_seconds": Row(stream_ends_in, {"200": 200, "": 840}, {"identity": "local"}),
    "stream_readers": Row(streams_at_once, {"7": 7, "": 2_000}, {"identity": "local"}),
    "web_adapter": Row(
        signed_through_adapter, {"true": 200, "": 401}, {"identity": "iam", "trusted_principals": f"{PRINCIPALS}/A"}
    ),
    "log_level": Row(log_levels, {"DEBUG": {"DEBUG"}, "ERROR": {"ERROR"}, "": {"INFO"}}),
}


@pytest.fixture
def folder(deployed: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Agents in three folders, and a second root beside the first; an environment with nothing else in it."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "ANTHROPIC_", PREFIX))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key of the environment")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    deployed.policy(POLICY)
    deployed.agent("desk")
    deployed.agent("lab", folder="more")
    deployed.agent("shop", folder="yet-more")
    elsewhere = Folder(deployed.root / "elsewhere")
    elsewhere.policy(POLICY.replace("free", "paid"))
    elsewhere.agent("till")
    return deployed


def test_every_setting_has_a_row() -> None:
    assert set(ROWS) == set(Settings.model_fields)


@pytest.mark.parametrize("setting", ROWS)
def test_the_setting_arrives(setting: str, folder: Folder) -> None:
    row = ROWS[setting]
    understood = {value: row.ask(folder.process(**{**row.beside, setting: value})) for value in row.values}
    assert understood == row.values
    assert any(one != other for one in understood.values() for other in understood.values()), "it makes no difference"


def test_the_turn_lambda_asks_itself_for_the_next_run(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own alias can be no setting of it; one that is set counts all the same."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "me")
    asked = {}
    for value in ("", "another:live"):
        with started(folder.process(turn_function=value)):
            asked[value] = turn.turn_runner.__wrapped__()._kit.settings.turn_function
    assert asked == {"": "me:live", "another:live": "another:live"}


NEEDED: Mapping[str, Callable[[Process], object]] = {
    "table": table,
    "bucket": bucket,
    "queue_url": queue_url,
    "dlq_url": dead_letters,
    "signing_secret_id": signing_secret,
}


@pytest.mark.parametrize("setting", NEEDED)
def test_a_setting_that_is_needed_and_absent_is_named(setting: str, folder: Folder) -> None:
    with pytest.raises(MissingSetting, match=f"{PREFIX}{setting.upper()} is not set"):
        NEEDED[setting](folder.process(**{setting: ""}))


def test_signing_keys_rotate(folder: Folder) -> None:
    """The current key signs, the previous one still verifies, and both are noticed without a new process."""
    process = folder.process()
    clock = process.kit.clock = ManualClock()

    def rotate(**keys: str) -> None:
        process.secrets.answer = lambda _: {"SecretString": json.dumps(keys)}

    rotate(current="a")
    first = process.kit.tokens.sign(CONTINUATION)
    rotate(current="b", previous="a")
    clock.advance(SIGNING_KEY_SECONDS)
    process.kit.tokens.sign(CONTINUATION)
    assert len(process.secrets.calls) == 1, "the secret is not read for every token"
    clock.advance(1)
    second = process.kit.tokens.sign(CONTINUATION)
    assert process.kit.tokens.verify(first) == process.kit.tokens.verify(second) == CONTINUATION
    rotate(current="c", previous="b")
    clock.advance(SIGNING_KEY_SECONDS + 1)
    assert process.kit.tokens.verify(second) == CONTINUATION
    with pytest.raises(Unauthenticated):
        process.kit.tokens.verify(first)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "abc",
        "[]",
        "{}",
        '"a"',
        '{"previous": "a"}',
        '{"current": ""}',
        '{"current": 7}',
        '{"current": "a", "previous": 1}',
    ],
)
def test_keys_that_are_written_wrongly_are_not_taken(written: str, folder: Folder) -> None:
    """Nothing is signed by no key, and those at hand stay in use; a process that has none says what is wrong."""
    process = folder.process(hook_secret_id="hooks")
    process.kit.clock = ManualClock()

    def write(text: str) -> None:
        process.secrets.answer = lambda _: {"SecretString": text}
        process.kit.clock.advance(max(SIGNING_KEY_SECONDS, 300) + 1)

    write(written)
    for read in (lambda: process.kit.tokens.sign(CONTINUATION), lambda: process.kit.hook_secrets.of("acme")):
        with pytest.raises(Unavailable, match="current"):
            read()
    write('{"current": "a", "previous": null}')
    token, secrets = process.kit.tokens.sign(CONTINUATION), process.kit.hook_secrets.of("acme")
    write(written)
    assert process.kit.tokens.verify(token) == CONTINUATION
    assert process.kit.hook_secrets.of("acme") == secrets
