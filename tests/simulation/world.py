"""The world that the engine is simulated in: its real code over a table, a queue, a model and tools that a seed makes
fail, with runners that die, stall and come back."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any

from tests.simulation.scheduler import Faults, Scheduler, SimulatedClock
from turnkeeper import Agent, Limits, ToolContext, ToolError, tool, update_plan
from turnkeeper.adapters.injection import RuleDetector
from turnkeeper.adapters.tokens import SignedTokens
from turnkeeper.core.errors import (
    LeaseLost,
    ProviderError,
    SessionBusy,
    SessionEnded,
    TurnkeeperError,
    Unavailable,
)
from turnkeeper.core.policy import policy_of
from turnkeeper.core.session import Head
from turnkeeper.ports import Message, ModelReply, ModelRequest, Rates
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.engine import Engine
from turnkeeper.runtime.intake import Identity, Intake, NewSession
from turnkeeper.runtime.jobs import Continue, continue_body, parse
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.idempotency import AlreadyDone, IdempotencyKey
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.runtime.store.treasury import Treasury
from turnkeeper.runtime.threads import Sequential
from turnkeeper.runtime.world import Allowance, World
from turnkeeper.testing.clock import SeededIds
from turnkeeper.testing.faulty_table import FaultyTable
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_queue import MemoryQueue
from turnkeeper.testing.memory_table import MemoryTable

LEASE_SECONDS = 30.0
TENANT = "acme"
INPUT_RATE, OUTPUT_RATE = 2_000_000_000, 10_000_000_000  # nano-dollars a million tokens


class Prices:
    """Two rates, exact."""

    def rates(self, model: str, options: Mapping[str, Any]) -> Rates:
        return Rates(model, "simulated", INPUT_RATE, OUTPUT_RATE)

    def cost_nanousd(self, model: str, usage: Mapping[str, Any], options: Mapping[str, Any]) -> int:
        return (usage["input_tokens"] * INPUT_RATE + usage["output_tokens"] * OUTPUT_RATE) // 1_000_000


class SimulatedLease:
    """What the lease's thread does, done when its task goes on: extends, notices a cancel, unless the task stalled."""

    def __init__(self, simulation: Simulation, head: Head, held_since: float) -> None:
        self._simulation = simulation
        self._head = head
        self._renewed_at = held_since
        self._lost = False
        self._cancelled = head.turn.cancel_requested

    def __enter__(self) -> SimulatedLease:
        self._task = self._simulation.scheduler.current
        assert self._task is not None
        self._task.beside.append(self._beat)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.beside.remove(self._beat)

    @property
    def lost(self) -> bool:
        return self._lost or self._simulation.scheduler.now - self._renewed_at > LEASE_SECONDS * 0.9

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def _beat(self) -> None:
        now = self._simulation.scheduler.now
        if self.lost:
            return
        sessions = self._simulation.quiet_sessions
        try:
            if now - self._renewed_at >= LEASE_SECONDS / 3:
                sessions.extend(self._head)
                self._renewed_at = now
            self._cancelled = self._cancelled or sessions.cancel_requested(self._head)
        except LeaseLost:
            self._lost = True


class Simulation:
    """One run. ``check`` afterwards with :mod:`tests.simulation.invariants`."""

    def __init__(self, seed: int, faults: Faults) -> None:
        self.seed = seed
        self.scheduler = Scheduler(seed, faults)
        self.random = Random(seed * 7919 + 1)
        self.clock = SimulatedClock(self.scheduler)
        self.ids = SeededIds(seed)
        self.table = MemoryTable()
        self.queue = MemoryQueue(self.clock, max_receive_count=10_000, order=Random(seed + 1))
        self.blobs = MemoryBlobs()
        self.policy = policy_of(tomllib.loads(_POLICY))
        #: What tools did outside: (effect, session, tool_use_id, idempotency key), in order.
        self.outside: list[tuple[str, str, str, str]] = []
        #: Inputs that were accepted: session id to texts.
        self.accepted: dict[str, list[str]] = {}
        self.answered: Counter[str] = Counter()
        self._functions: list[tuple[str, str]] = []
        self._made = 0

        faulty = FaultyTable(self.table, self.scheduler.table_fault)
        self.sessions = Sessions(faulty, self.blobs, self.clock, _NoRedaction(), lease_seconds=LEASE_SECONDS)
        self.quiet_sessions = Sessions(self.table, self.blobs, self.clock, _NoRedaction(), lease_seconds=LEASE_SECONDS)
        self.tenants = Tenants(faulty, self.policy, self.clock)
        self.tokens = SignedTokens(lambda: ["k" * 32])
        auditor = Auditor(self.clock, self.ids, _NoRedaction())
        catalog = Catalog({agent.name: agent for agent in self._agents()})
        self.intake = Intake(self.sessions, self.tenants, self.policy, catalog, Prices(), self.clock, self.ids)
        self.engine = Engine(
            World(
                sessions=self.sessions,
                tenants=self.tenants,
                treasury=Treasury(faulty, self.tenants, self.clock, self.ids),
                policy=self.policy,
                catalog=catalog,
                model=self,
                prices=Prices(),
                dispatch=Dispatch(self, self, self.tokens),
                auditor=auditor,
                redactor=_NoRedaction(),
                detector=RuleDetector(),
                clock=self.clock,
                ids=self.ids,
                parallel=Sequential(),
                warn=lambda text: None,
                keep_lease=lambda head, since, beat: SimulatedLease(self, head, since),
            )
        )

    # ---- agents and tools ----

    def _agents(self) -> list[Agent]:
        @tool(effect="read")
        def look(ctx: ToolContext, number: int) -> int:
            """Look."""
            return self._happens("read", ctx, number)

        @tool(effect="idempotent")
        def put(ctx: ToolContext, number: int) -> int:
            """Put."""
            return self._happens("idempotent", ctx, number)

        @tool(effect="once")
        def pay(ctx: ToolContext, number: int) -> int:
            """Pay."""
            return self._happens("once", ctx, number)

        tools = [look, put, pay, update_plan]
        limits = Limits(max_iterations=12, max_tokens=500, max_attempts=4)
        return [
            Agent(name="chat", model="m", system="Be.", tools=tools, limits=limits),
            Agent(name="task", model="m", system="Be.", tools=tools, limits=limits, done="end_task"),
        ]

    def _happens(self, effect: str, ctx: ToolContext, number: int) -> int:
        self.scheduler.effect(f"tool {effect} {number} begins")
        self.outside.append((effect, ctx.session_id, ctx.tool_use_id, ctx.idempotency_key))
        self.scheduler.effect(f"tool {effect} {number} done")
        if number % 7 == 0:
            raise ToolError("it did not work")
        return number

    # ---- the model ----

    def call(self, request: ModelRequest, *, timeout_seconds: float) -> ModelReply:
        self.scheduler.effect("model call")
        self._check_pairing(request.messages)
        self.scheduler.sleep(self.random.choice([0.1, 1.0, 5.0, 25.0]))
        chance = self.random.random()
        if chance < 0.08:
            certainty = self.random.choice(["unbilled", "known", "unknown"])
            usage = {"input_tokens": 100, "output_tokens": 5} if certainty == "known" else None
            raise ProviderError("simulated", retryable=True, certainty=certainty, usage=usage)  # type: ignore[arg-type]
        reply = self._reply(request)
        self.scheduler.effect("model answered")
        return reply

    def _check_pairing(self, messages: list[dict[str, Any]]) -> None:
        """What the API refuses, no run may send."""
        for here, after in zip(messages, [*messages[1:], {"role": "user", "content": []}], strict=True):
            uses = [block["id"] for block in here["content"] if block["type"] == "tool_use"]
            results = [block["tool_use_id"] for block in after["content"] if block["type"] == "tool_result"]
            assert uses == results, f"tool_use {uses} is followed by results {results}"

    def _reply(self, request: ModelRequest) -> ModelReply:
        texts = [str(message["content"]) for message in request.messages if message["role"] == "assistant"]
        digest = hashlib.sha256(f"{self.seed}{request.messages[0]}{len(texts)}".encode()).digest()
        choice = Random(digest)
        ends = choice.random() < 0.3
        content: list[dict[str, Any]]
        if not ends:
            content = [self._tool_use(choice, len(texts)) for _ in range(choice.choice([1, 1, 2, 3]))]
        elif any(tool["name"] == "end_task" for tool in request.tools) and choice.random() < 0.8:
            content = [self._use("end_task", {"status": "completed", "summary": "done"})]
        else:
            content = [{"type": "text", "text": "done"}]
        usage = {
            "input_tokens": len(str(request.messages)) // 6 + 50,
            "output_tokens": min(choice.randint(1, 400), request.max_tokens),
        }
        stop = "tool_use" if content[0]["type"] == "tool_use" else "end_turn"
        return ModelReply(f"msg_{self._count()}", "m", content, stop, usage, None)

    def _tool_use(self, choice: Random, step: int) -> dict[str, Any]:
        name = choice.choice(["look", "put", "pay", "pay", "nothing", "update_plan"])
        if name == "update_plan":
            return self._use(name, {"goal": "g", "items": [{"title": f"step {step}"}]})
        return self._use(name, {"number": choice.randint(1, 10_000)})

    def _use(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"type": "tool_use", "id": f"toolu_{self._count()}", "name": name, "input": arguments}

    def _count(self) -> int:
        self._made += 1
        return self._made

    def count_tokens(self, request: ModelRequest) -> int:
        return len(str(request.messages)) // 6 + 50

    # ---- queue and functions: sends may be lost or doubled ----

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        self.scheduler.effect("before send")
        for _ in range(self._copies()):
            self.queue.send(body, group=group, delay_seconds=delay_seconds)
        self.scheduler.effect("after send")

    def start(self, tenant_id: str, session_id: str) -> None:
        self.scheduler.effect("before invoke")
        self._functions.extend([(tenant_id, session_id)] * self._copies())
        self.scheduler.effect("after invoke")

    def _copies(self) -> int:
        return self.random.choices([0, 1, 2], [0.03, 0.9, 0.07])[0]

    # ---- the runners ----

    def function(self, tenant_id: str, session_id: str) -> None:
        """The turn Lambda: one invocation, which ends on errors of ours without a word."""
        turn_seconds = self.random.choice([8.0, 40.0, 800.0])
        hard_seconds = turn_seconds + self.random.choice([20.0, 60.0])
        allowance = Allowance("lambda", turn_seconds=turn_seconds, hard_seconds=hard_seconds)
        try:
            self.engine.run(tenant_id, session_id, allowance)
        except TurnkeeperError:
            return

    def consume(self, message: Message) -> None:
        """The worker's part of one message: deleted only when its session rests or another message carries it on."""
        parsed = parse(message.body)
        assert isinstance(parsed, Continue)
        token = self.tokens.verify(parsed.continuation_token)
        drains_at = self.scheduler.now + self.random.choice([5.0, 60.0, 1e9, 1e9])
        allowance = Allowance(
            "fargate",
            draining=lambda: self.scheduler.now > drains_at,
            expired=lambda: self.scheduler.now > drains_at + 20,
        )
        try:
            self.engine.run(token.tenant_id, token.session_id, allowance)
        except SessionEnded:
            pass
        except TurnkeeperError:
            return  # It becomes visible again.
        self.scheduler.effect("before delete")
        self.queue.delete(message)

    def sweep(self) -> None:
        """What the sweep does: sessions that nobody looked after in time are sent on their way again."""
        for shard in range(keys.DUE_SHARDS):
            for head in self.sessions.due(self.clock.now(), shard):
                try:
                    again = self.sessions.send_again(head)
                    self.send(continue_body(self.tokens.sign(_continuation(again))), group=TENANT)
                except (LeaseLost, Unavailable, TurnkeeperError):
                    continue

    # ---- the user ----

    def user(self, name: str) -> None:
        """Opens a session and says something a few times; repeats what got no answer, as clients do. The front door
        runs on the same thread: it dies with it."""
        who = Identity(TENANT, name, "user")
        agent = self.random.choice(["chat", "task"])
        placement = self.random.choice(["auto", "auto", "interactive", "background"])
        session_id = self._insist(name, 0, lambda once: self._open(who, agent, placement, once, name))
        for number in range(1, self.random.randint(1, 3)):
            head = self._rest(session_id)
            if head.ended:
                return
            if self.random.random() < 0.1:
                self._quietly(lambda head=head: self.intake.cancel(head, actor=name))  # type: ignore[misc]
                return
            self._insist(name, number, lambda once, number=number: self._say(session_id, number, once))  # type: ignore[misc]

    def _open(self, who: Identity, agent: str, placement: Any, once: IdempotencyKey, name: str) -> str:
        text = f"{name} begins {self.seed}"
        head = self.intake.create(who, NewSession(agent, text, {}, placement), key=once)
        self._accept(head, text)
        return head.session_id

    def _say(self, session_id: str, number: int, once: IdempotencyKey) -> str:
        head = self.sessions.head(TENANT, session_id)
        text = f"input {number}"
        if head.status == "stopped" and self.random.random() < 0.5:
            head = self.intake.resume(head, max_iterations=40)
        else:
            head = self.intake.post(head, text, key=once)
            self._accept(head, text)
        self.engine.send(head)
        return session_id

    def _accept(self, head: Head, text: str) -> None:
        self.accepted.setdefault(head.session_id, []).append(text)
        if head.turn.number == 1:
            self.engine.send(head)

    def _insist(self, name: str, number: int, attempt: Callable[[IdempotencyKey], str]) -> str:
        once = IdempotencyKey(f"{name}-{number}", "same")
        while True:
            try:
                return attempt(once)
            except AlreadyDone as done:
                head = self.quiet_sessions.head(TENANT, done.earlier.session_id)
                text = f"input {number}" if number else f"{name} begins {self.seed}"
                if text not in self.accepted.get(head.session_id, []):  # It was written; the answer was lost.
                    self.accepted.setdefault(head.session_id, []).append(text)
                    self.engine.send(head)
                return head.session_id
            except SessionEnded as ended:
                return str(ended.data["session_id"])
            except (SessionBusy, Unavailable, TurnkeeperError):
                self.scheduler.sleep(3.0)

    def _rest(self, session_id: str) -> Head:
        while not (head := self.quiet_sessions.head(TENANT, session_id)).resting:
            self.scheduler.sleep(5.0)
        return head

    def _quietly(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except TurnkeeperError:
            return

    # ---- running it all ----

    def run(self, users: int) -> None:
        """Until every session rests and nothing is on its way."""
        for number in range(users):
            self.scheduler.spawn(f"user{number}", lambda name=f"u{number}": self.user(name))  # type: ignore[misc]
        next_sweep, limit = 60.0, 40_000.0
        while self.scheduler.now < limit:
            self._dispatch()
            if self.scheduler.step():
                continue
            wake = min(self.scheduler.next_wake() or next_sweep, next_sweep)
            self.scheduler.now = max(wake, self.scheduler.now + 0.01)
            if self.scheduler.now >= next_sweep:
                next_sweep += 60.0
                if not self.scheduler.tasks and self._all_rest():
                    return
                self.scheduler.spawn("sweep", self.sweep)
        raise AssertionError(f"seed {self.seed}: sessions did not come to rest")

    def _dispatch(self) -> None:
        while self._functions:
            tenant_id, session_id = self._functions.pop()
            self.scheduler.spawn("lambda", lambda t=tenant_id, s=session_id: self.function(t, s))  # type: ignore[misc]
        for message in self.queue.receive(most=10, wait_seconds=0, visibility_seconds=45):
            self.scheduler.spawn("worker", lambda m=message: self.consume(m))  # type: ignore[misc]

    def _all_rest(self) -> bool:
        return all(self.quiet_sessions.head(TENANT, session_id).resting for session_id in self.session_ids())

    def session_ids(self) -> list[str]:
        """All sessions, also those whose creator died before it heard of them."""
        return [item["session_id"] for item in self.table.snapshot() if item["sk"] == "HEAD"]


class _NoRedaction:
    def redact(self, value: Any, *, known: Iterable[str] = ()) -> Any:
        return value

    def redact_text(self, text: str, *, known: Iterable[str] = ()) -> str:
        return text

    def with_names(self, secret_names: Iterable[str], /) -> _NoRedaction:
        return self

    def values(self, arguments: Any) -> tuple[str, ...]:
        return ()


def _continuation(head: Head) -> Any:
    from turnkeeper.core.continuation import continuation_of

    return continuation_of(head)


_POLICY = (Path(__file__).parent / "policy.toml").read_text()
