"""The world that the kit is simulated in: its real code over a table, a queue, a model and tools that a seed makes
fail, with processes that die, stall and come back."""

from __future__ import annotations

import math
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal

from tests.simulation.outside import NoRedaction, Prices, SimulatedModel, Tools
from tests.simulation.queue import SimulatedQueue
from tests.simulation.runners import JUST_NOW_SECONDS, Functions, Sweeps, Workers
from tests.simulation.users import Users
from tests.support.scheduler import Faults, Process, ScheduledClock, ScheduledJobs, ScheduledLease, Scheduler, Task
from turnkeeper.adapters.injection import RuleDetector
from turnkeeper.adapters.tokens import SignedTokens
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.policy import policy_of
from turnkeeper.core.session import RESTING, Head
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.cancelling import Cancelling, Nobody
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.engine import Engine
from turnkeeper.runtime.intake import Intake
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.placing import Fleet, Placing
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.beginnings import Beginnings
from turnkeeper.runtime.store.erasure import Erasure
from turnkeeper.runtime.store.purses import Purses
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.streams import Streams
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.runtime.store.treasury import Treasury
from turnkeeper.runtime.store.workers import Workers as ToldWorkers
from turnkeeper.runtime.sweep import Sweep
from turnkeeper.runtime.world import World
from turnkeeper.table import Operation, Put, StoreBusy, Update
from turnkeeper.testing.clock import SeededIds
from turnkeeper.testing.faulty_table import Call, FaultyTable
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper.testing.recorders import RecordedAlerts
from turnkeeper.testing.virtual import VirtualRelay

LEASE_SECONDS = 30.0
#: A lease beats every other second in production; here less often, for each beat takes time to simulate.
BEAT_SECONDS = 7.5
SWEEP_SECONDS = 60.0
#: By then everything has to rest.
LIMIT_SECONDS = 40_000.0
_POLICY = (Path(__file__).parent / "policy.toml").read_text()


class Simulation:
    """One run. ``check`` afterwards with :mod:`tests.simulation.invariants`."""

    tenant_id = "acme"

    def __init__(self, seed: int, faults: Faults) -> None:
        self.seed = seed
        self.random = Random(seed * 7919 + 1)
        self.scheduler = Scheduler(seed, faults)
        self.scheduler.on_death = self._process_ends
        #: What must never happen, and did. Kept here as well as raised, for the kit is good at surviving errors.
        self.violations: list[str] = []
        clock, ids, redactor = ScheduledClock(self.scheduler), SeededIds(seed), NoRedaction()
        self.table, self.blobs, self.alerts = MemoryTable(), MemoryBlobs(), RecordedAlerts()
        self.tools = Tools(self.scheduler)
        self.policy = policy_of(tomllib.loads(_POLICY))
        self.tokens = SignedTokens(lambda: ["k" * 32])
        self.heads = Heads(self)

        self.table_with_faults = table = FaultyTable(self.table, self._table_fault)
        self.sessions = Sessions(table, self.blobs, clock, redactor, lease_seconds=LEASE_SECONDS)
        self.quiet_sessions = Sessions(self.table, self.blobs, clock, redactor, lease_seconds=LEASE_SECONDS)
        tenants = Tenants(table, self.policy, clock)
        auditor = Auditor(clock, ids, redactor)
        catalog = Catalog({agent.name: agent for agent in self.tools.agents()})
        self.intake = Intake(self.sessions, tenants, self.policy, catalog, Prices(), clock, ids)
        self.erasure = Erasure(table, self.blobs, clock, redactor, auditor, lease_seconds=LEASE_SECONDS)
        #: In every other round of seeds turns are offered to workers first.
        self.economy = seed // 12 % 2 == 1
        self.told = ToldWorkers(table, clock)
        self.workers = Workers(self, clock)
        self.functions = Functions(self)
        self.queue = SimulatedQueue(self)
        dispatch = Dispatch(self.queue, self.functions, self.tokens)
        fleet = Fleet(self.told, clock)
        self.placing = Placing(dispatch, self.queue, fleet, self.sessions, clock, self.economy)
        self.engine = Engine(
            World(
                sessions=self.sessions,
                tenants=tenants,
                treasury=Treasury(table, tenants, clock, ids),
                policy=self.policy,
                catalog=catalog,
                model=SimulatedModel(seed, self.scheduler, self.violated),
                prices=Prices(),
                dispatch=dispatch,
                auditor=auditor,
                redactor=redactor,
                detector=RuleDetector(),
                clock=clock,
                ids=ids,
                parallel=ScheduledJobs(self.scheduler),
                warn=lambda text: None,
                keep_lease=self._keep_lease,
                relay=lambda head, hidden: VirtualRelay(Streams(table, clock), head, clock, hidden),
            )
        )
        #: In every third round turns on Lambda run as while a release is replaced: they write in the older forms.
        self.function_engine = self.engine
        if seed // 12 % 3 == 2:
            sessions = Sessions(table, self.blobs, clock, redactor, lease_seconds=LEASE_SECONDS, packs=False)
            treasury = Treasury(table, tenants, clock, ids, joins=False)
            self.function_engine = Engine(replace(self.engine.world, sessions=sessions, treasury=treasury))
        # As in a front door, by a world without a model.
        ending = replace(self.engine.world, model=Nobody(), detector=Nobody())
        self.cancelling = Cancelling(self.sessions, Engine(ending), clock)
        purses = Purses(table, self.engine.world.treasury, clock, lease_seconds=LEASE_SECONDS)
        self.sweeps = Sweeps(
            self, Sweep(self.sessions, dispatch, self.erasure, self.alerts, clock, purses, Beginnings(table))
        )
        self.users = Users(self)
        self._clock = clock

    def violated(self, what: str) -> None:
        self.violations.append(what)

    def _keep_lease(self, head: Head, since: float, beat: Callable[[], None]) -> Lease:
        return ScheduledLease(self.scheduler, self.sessions, self._clock, head, since, beat, beat_seconds=BEAT_SECONDS)

    def _table_fault(self, when: Literal["before", "after"], call: Call) -> None:
        if when == "after" and call.writes:
            self.heads.written(call.argument if call.method == "write" else [call.argument])
        if not call.argument:
            return  # Of nothing, nobody is asked.
        self.scheduler.effect(f"{when} {call.method}")
        if not call.writes:
            return
        chance = self.scheduler.random.random()
        if when == "before" and chance < self.scheduler.faults.refused:
            raise StoreBusy("simulated")
        if when == "after" and chance < self.scheduler.faults.lost_answer:
            raise Unavailable("simulated")

    def _process_ends(self, process: Process) -> None:
        self.queue.process_ends(process, dies=True)
        self.functions.process_ends(process)
        self.workers.process_ends(process)

    # ---- running it all ----

    def run(self, users: int) -> None:
        """Until every session rests and nothing is on its way, or due."""
        self.users.begin(users)
        next_sweep = SWEEP_SECONDS
        while self.scheduler.now < LIMIT_SECONDS:
            assert not self.violations, self.violations[0]
            self.functions.begin()
            if self.scheduler.step() or self.workers.begin():
                continue
            wakes = (self.scheduler.next_wake(), self.workers.begin_at(), next_sweep)
            self.scheduler.now = max(min(wake for wake in wakes if wake is not None), self.scheduler.now + 0.01)
            if self.scheduler.now >= next_sweep:
                if not self.queue.redrive_used_up() and not self._left():
                    return
                next_sweep += SWEEP_SECONDS
                self.sweeps.begin()
        raise AssertionError(f"what is left does not come to rest: {self._left()}")

    def _left(self) -> list[str]:
        if going_on := [*(task.name for task in self.scheduler.tasks), *self.queue.bodies()]:
            return going_on
        return [session_id for session_id in self.session_ids() if self._is_due(session_id)]

    def _is_due(self, session_id: str) -> bool:
        if not self.heads.rests(session_id):
            return True
        item = self.table.get(keys.head_key(self.tenant_id, session_id))
        return item is not None and "due_at" in item

    def session_ids(self) -> list[str]:
        """All sessions, also those whose creator died before it heard of them."""
        return self.heads.session_ids()


@dataclass
class Claim:
    """A runner's claim of a session."""

    task: Task | None
    at: float
    #: When it let go of the session, if it did.
    ended_at: float | None = None


class Heads:
    """What the writes of the heads tell: which sessions there are, in which turn each is, and when it rested."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._turns: dict[str, int] = {}
        self._rested_until: dict[str, float] = {}
        self._claims: dict[str, Claim] = {}
        #: As each came to rest, every time.
        self.ends: dict[str, list[Head]] = defaultdict(list)
        #: How often each left its rest.
        self.departures: Counter[str] = Counter()

    def written(self, operations: Sequence[Operation]) -> None:
        for operation in operations:
            owner = keys.session_of_pk(operation.key.pk)
            if operation.key.sk != "HEAD" or owner is None:
                continue
            match operation:
                case Put(item=item):
                    self._changed(owner[1], item, ())
                case Update(set=values, remove=removed):
                    self._changed(owner[1], values, removed)

    def _changed(self, session_id: str, values: Mapping[str, Any], removed: Collection[str]) -> None:
        if "lease_owner" in values:
            before = self._claims.get(session_id)
            if before is not None and before.ended_at is None:
                self._simulation.queue.session_taken_over(session_id)
            self._claims[session_id] = Claim(self._simulation.scheduler.current, self._simulation.scheduler.now)
        elif "lease_owner" in removed and session_id in self._claims:
            self._claims[session_id].ended_at = self._simulation.scheduler.now
        self._turns[session_id] = values.get("turn", self.turn(session_id))
        if values.get("status") in RESTING:
            if not self.rests(session_id) and values["status"] != "erased":
                head = self._simulation.quiet_sessions.head(self._simulation.tenant_id, session_id)
                self.ends[session_id].append(head)
            self._rested_until[session_id] = math.inf
        elif "status" in values and self.rests(session_id):
            self._rested_until[session_id] = self._simulation.scheduler.now
            self.departures[session_id] += 1

    def session_ids(self) -> list[str]:
        return list(self._turns)

    def turn(self, session_id: str) -> int:
        return self._turns.get(session_id, 1)

    def rests(self, session_id: str) -> bool:
        return self._rested_until.get(session_id) == math.inf

    def rested_since(self, session_id: str, when: float) -> bool:
        return self._rested_until.get(session_id, -1.0) >= when

    def claimed_since(self, session_id: str, when: float, *, but_for: str) -> bool:
        """A runner took it since, other than the one of that message, and has it still, or had it until just now."""
        claim = self._claims.get(session_id)
        if claim is None or claim.at < when or claim.task is None or claim.task.name.endswith(f"/{but_for}"):
            return False
        ended_at = claim.ended_at if claim.ended_at is not None else claim.task.process.died_at
        return ended_at is None or self._simulation.scheduler.now - ended_at < JUST_NOW_SECONDS
