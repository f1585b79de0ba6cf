"""The kit in memory: what ``turnkeeper.bootstrap`` wires, on adapters that need nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

from turnkeeper.adapters.hook_secrets import DerivedHookSecrets
from turnkeeper.adapters.system import SystemClock, SystemIds
from turnkeeper.adapters.tokens import RequestMarks, SignedTokens, StreamTokens
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import LeaseLost, SessionBusy, SessionEnded, SessionNotFound
from turnkeeper.core.policy import Policy
from turnkeeper.core.session import Entry, Head
from turnkeeper.core.trajectory import Trajectory, trajectory_of
from turnkeeper.ports import Clock, Ids, InjectionDetector, Model, Prices
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.jobs import Continue, parse
from turnkeeper.runtime.world import Allowance
from turnkeeper.settings import Settings
from turnkeeper.table import Table
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_queue import MemoryQueue, MemoryWords
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper.testing.memory_web import MemoryWeb
from turnkeeper.testing.recorders import (
    RecordedAlerts,
    RecordedBus,
    RecordedReplies,
    RecordedTraceQueue,
    RecordedTraces,
    RecordedTurns,
    RecordedWebhooks,
)
from turnkeeper.testing.tool_values import MemoryValues

DEFAULT_TENANT = "acme"

Runner = Literal["threads", "inline", "none"]


class BareMemoryKit(Kit):
    """A :class:`turnkeeper.bootstrap.Kit` with these agents, this policy and this model, whose store, queue and alerts
    are in memory. Nobody runs what it starts, and its tools find the world as it is.

    Args:
        detector, prices: the kit's own where there is none.
    """

    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        model: Model,
        *,
        detector: InjectionDetector | None = None,
        prices: Prices | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(Settings.model_validate({"table": "memory", "identity": "local"} | settings))
        self.signing_keys = ["a signing key of the tests"]
        self._given = (catalog, policy, model)
        self._given_detector = detector
        self._given_prices = prices

    @cached_property
    def catalog(self) -> Catalog:
        return self._given[0]

    @cached_property
    def policy(self) -> Policy:
        return self._given[1]

    @cached_property
    def model(self) -> Model:
        return self._given[2]

    @cached_property
    def detector(self) -> InjectionDetector:
        return self._given_detector or super().detector

    @cached_property
    def prices(self) -> Prices:
        return self._given_prices or super().prices

    @cached_property
    def table(self) -> Table:
        return MemoryTable()

    @cached_property
    def blobs(self) -> MemoryBlobs:
        return MemoryBlobs()

    @cached_property
    def queue(self) -> MemoryQueue:
        return MemoryQueue(self.clock)

    @cached_property
    def turns(self) -> RecordedTurns:
        return RecordedTurns()

    @cached_property
    def alerts(self) -> RecordedAlerts:
        return RecordedAlerts()

    @cached_property
    def trace_queue(self) -> RecordedTraceQueue:
        return RecordedTraceQueue()

    @cached_property
    def trace_receiver(self) -> RecordedTraces:
        return RecordedTraces()

    @cached_property
    def words(self) -> MemoryWords:
        return MemoryWords(self.clock)

    @cached_property
    def bus(self) -> RecordedBus:
        return RecordedBus()

    @cached_property
    def webhooks(self) -> RecordedWebhooks:
        return RecordedWebhooks()

    @cached_property
    def replies(self) -> RecordedReplies:
        return RecordedReplies()

    @cached_property
    def hook_secrets(self) -> DerivedHookSecrets:
        return DerivedHookSecrets(lambda: self.signing_keys, self.clock)

    @cached_property
    def tokens(self) -> SignedTokens:
        return SignedTokens(lambda: self.signing_keys)

    @cached_property
    def stream_tokens(self) -> StreamTokens:
        return StreamTokens(lambda: self.signing_keys)

    @cached_property
    def request_marks(self) -> RequestMarks:
        return RequestMarks(lambda: self.signing_keys)

    def trajectory(self, tenant_id: str, session_id: str, *, turn_only: bool = False) -> Trajectory:
        """A session, or its latest turn, as evaluators read it."""
        transcript = self.sessions.load(tenant_id, session_id)
        spec = self.sessions.spec_of(transcript)
        return trajectory_of(transcript.head, transcript.entries, spec, transcript.plan, turn_only=turn_only)


class MemoryKit(BareMemoryKit):
    """A kit in memory that runs what it starts, and whose tools find what a test gives them.

    Whatever asks for the turn Lambda gets a runner in a thread (``runner="threads"``), at once on the caller's own
    thread (``"inline"``), or none at all (``"none"``: the test says when, with :meth:`run`). What lands on the queue
    stays there until :meth:`work` plays the worker.
    """

    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        model: Model,
        *,
        clock: Clock | None = None,
        ids: Ids | None = None,
        runner: Runner = "threads",
        allowance: Allowance | None = None,
        **more: Any,
    ) -> None:
        super().__init__(catalog, policy, model, **more)
        self.clock = clock or SystemClock()
        self.ids = ids or SystemIds()
        self.runner: Runner = runner
        #: What the turn Lambda's stand-in gives a turn.
        self.allowance = allowance or Allowance(runner="lambda", turn_seconds=840, hard_seconds=890)
        self._threads: list[threading.Thread] = []

    @cached_property
    def turns(self) -> RecordedTurns:
        return RecordedTurns(on_start=self._start)

    @cached_property
    def tool_values(self) -> MemoryValues:
        return MemoryValues()

    @cached_property
    def web(self) -> MemoryWeb:
        return MemoryWeb()

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
            owner = self.session_of(message.body)
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

    def head(self, session_id: str, tenant_id: str = DEFAULT_TENANT) -> Head:
        return self.sessions.head(tenant_id, session_id)

    def entries(self, session_id: str, tenant_id: str = DEFAULT_TENANT) -> tuple[Entry, ...]:
        return self.sessions.load(tenant_id, session_id).entries

    def wait_for(
        self, session_id: str, holds: Callable[[Head], bool], seconds: float = 10.0, tenant_id: str = DEFAULT_TENANT
    ) -> Head:
        """The head once ``holds`` says so."""
        until = time.monotonic() + seconds
        while not holds(head := self.head(session_id, tenant_id)):
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

    def session_of(self, body: str) -> tuple[str, str]:
        """The session that a message on the queue is about; a job's is made first, as the worker does."""
        message = parse(body)
        if isinstance(message, Continue):
            continuation = self.tokens.verify(message.continuation_token)
            return continuation.tenant_id, continuation.session_id
        return message.tenant_id, self.intake.take_job(message)
