"""What the processes of the money tests do. A module of its own, so that a spawned process can import it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from tests.support.money import TENANT, Till, exactly, policy
from turnkeeper import Agent, Limits, tool
from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.adapters.injection import RuleDetector
from turnkeeper.adapters.redaction import Redactor
from turnkeeper.adapters.sql.database import Database
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.adapters.sql.texts import read
from turnkeeper.adapters.system import SystemClock, SystemIds
from turnkeeper.adapters.table_values import item_from_wire
from turnkeeper.adapters.tokens import SignedTokens
from turnkeeper.core.errors import CostCapExceeded, LeaseLost, SessionBusy, SessionEnded, TenantPaused, Unavailable
from turnkeeper.core.policy import Policy
from turnkeeper.core.session import Head
from turnkeeper.ports import ModelReply, ModelRequest, Rates
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.engine import Engine
from turnkeeper.runtime.intake import Identity, Intake, NewSession
from turnkeeper.runtime.leases import LeaseKeeper
from turnkeeper.runtime.relaying import Relay
from turnkeeper.runtime.threads import Threads
from turnkeeper.runtime.world import Allowance, World
from turnkeeper.table import Item, StoreBusy, Table
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_queue import MemoryQueue

T = TypeVar("T")
R = TypeVar("R")

THREADS = 8
#: Caps of agents' days in the plan ``by_agent``.
BY_AGENT = {"support": 400, "research": 150}
Cost = Literal["none", "below", "at"]


class ShiftedClock(SystemClock):
    """The machine's clock, shifted: no test runs over a midnight."""

    def __init__(self, shift_seconds: float) -> None:
        self._shift = timedelta(seconds=shift_seconds)

    def now(self) -> datetime:
        return super().now() + self._shift


@dataclass(frozen=True)
class Place:
    """A tenant in a store: a table of the emulator at an address, or a database."""

    url: str
    table: str
    caps: tuple[tuple[str, int | None], ...]
    shift_seconds: float
    lease_seconds: float = 60.0

    def policy(self) -> Policy:
        caps = dict(self.caps)
        return policy(plan=caps, by_agent={**caps, "agent_daily": BY_AGENT})


@lru_cache
def aws(url: str) -> Aws:
    return Aws(
        region="eu-west-1",
        endpoint_url=url,
        max_pool_connections=2 * THREADS + 2,
        connect_timeout_seconds=30,
        table_timeout_seconds=30,
    )


@lru_cache(maxsize=1)
def database(url: str) -> Database:
    """One at a time: whichever comes next closes those before."""
    for opened in _OPENED:
        opened.close()
    _OPENED[:] = [database_of(url, THREADS, busy_seconds=60)]
    return _OPENED[0]


_OPENED: list[Database] = []


def table_of(place: Place) -> Table:
    if place.url.startswith("http"):
        return DynamoTable(aws(place.url).table_requests, place.table, busy_seconds=60)
    return SqlTable(database(place.url))


def items_of(place: Place) -> Iterator[Item]:
    """Everything that is in the table."""
    if place.url.startswith("http"):
        page: dict[str, Any] = {}
        while page.get("LastEvaluatedKey") or not page:
            start = {"ExclusiveStartKey": page["LastEvaluatedKey"]} if page else {}
            page = aws(place.url).table_requests.scan(TableName=place.table, ConsistentRead=True, **start)
            yield from map(item_from_wire, page["Items"])
        return
    rows = database(place.url).read(lambda statements: statements.rows("SELECT item FROM turnkeeper_items"))
    yield from (item_from_wire(read(row[0])) for row in rows)


@lru_cache
def till_of(place: Place) -> Till:
    table = table_of(place)
    clock = ShiftedClock(place.shift_seconds)
    return Till(table, MemoryBlobs(), place.policy(), clock, SystemIds(), lease_seconds=place.lease_seconds)


def at_once(work: Callable[[T], R], things: Iterable[T]) -> list[R]:
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, things))


# ---- calls without a conversation ----


def admit_many(
    place: Place, heads: list[Head], amount: int, wait_seconds: float = 0.0
) -> tuple[list[Head], list[Head], list[dict[str, Any]]]:
    """Reserve for each and hold it: admitted, refused, and what the refusals said."""
    till = till_of(place)
    terms = till.tenants.terms(TENANT)
    refusals: list[dict[str, Any]] = []

    def admit(head: Head) -> Head:
        try:
            return till.admit(head, exactly(amount), terms=terms, wait_seconds=wait_seconds)
        except CostCapExceeded as refused:
            refusals.append(refused.data)
            return head

    after = at_once(admit, heads)
    return (
        [head for head in after if head.account.pending],
        [head for head in after if not head.account.pending],
        refusals,
    )


def cost_of(amount: int, cost: Cost, seed: str) -> int:
    match cost:
        case "none":
            return 0
        case "below":
            return random.Random(seed).randint(0, amount)
        case "at":
            return amount


def settle_many(place: Place, heads: list[Head], cost: Cost) -> list[Head]:
    till = till_of(place)

    def settle(head: Head) -> Head:
        assert head.account.pending is not None
        return till.settle(
            head, cost_of(head.account.pending.amount_nanousd, cost, f"{head.session_id}{head.account.calls}")
        )

    return at_once(settle, heads)


def call_often(
    place: Place, heads: list[Head], amount: int, cost: int, calls: int, wait_seconds: float, hold_seconds: float = 0.0
) -> tuple[int, list[dict[str, Any]]]:
    """One call after the other in each session, settled at once: how many were made, and what refusals said."""
    till = till_of(place)

    def work(head: Head) -> tuple[int, list[dict[str, Any]]]:
        for made in range(calls):
            try:
                head = till.admit(head, exactly(amount), wait_seconds=wait_seconds)
            except CostCapExceeded as refused:
                return made, [refused.data]
            time.sleep(hold_seconds)
            head = till.settle(head, cost)
        return calls, []

    done = at_once(work, heads)
    return sum(made for made, _ in done), [data for _, refusals in done for data in refusals]


def keep_calling(
    place: Place, heads: list[Head], most: int, seconds: float, seed: int, enough: Path | None = None
) -> int:
    """Calls of all sizes by whatever terms were in force at the start, until there is this file, or time is up; how
    many were admitted."""
    till = till_of(place)
    terms = till.tenants.terms(TENANT)
    until = time.monotonic() + seconds

    def work(head: Head) -> int:
        chance = random.Random(f"{seed}{head.session_id}")
        admitted = 0
        while time.monotonic() < until and not (enough and enough.exists()):
            try:
                head = till.admit(head, exactly(chance.randint(1, most)), terms=terms)
            except (CostCapExceeded, TenantPaused, Unavailable):
                time.sleep(0.02)
                continue
            admitted += 1
            assert head.account.pending is not None
            head = till.settle(head, chance.randint(0, head.account.pending.amount_nanousd) // 4)
        return admitted

    return sum(at_once(work, heads))


# ---- whole turns ----

#: A token in or out costs one nano-dollar.
RATES = Rates("model", "test", 1_000_000, 1_000_000)


class Prices:
    def rates(self, model: str, options: Mapping[str, Any]) -> Rates:
        return RATES

    def cost_nanousd(self, model: str, usage: Mapping[str, Any], options: Mapping[str, Any]) -> int:
        return int(usage["input_tokens"]) + int(usage["output_tokens"])


class InstantModel:
    """Looks something up twice, then answers; a little later than at once, so that a kill finds calls in flight."""

    def call(self, request: ModelRequest, *, timeout_seconds: float, **_: Any) -> ModelReply:
        time.sleep(random.random() * 0.06)
        steps = sum(message["role"] == "assistant" for message in request.messages)
        use = {"type": "tool_use", "id": f"toolu_{steps}", "name": "look", "input": {"number": steps}}
        content = [use] if steps < 2 else [{"type": "text", "text": "Done."}]
        usage = {
            "input_tokens": len(json.dumps(request.messages)) // 4,
            "output_tokens": random.randint(1, request.max_tokens),
        }
        return ModelReply("msg", "model", content, "tool_use" if steps < 2 else "end_turn", usage, None)

    def count_tokens(self, request: ModelRequest) -> int:
        return len(json.dumps([request.system, request.tools, request.messages]))


@tool(effect="read")
def look(number: int) -> int:
    """Look something up."""
    return number


AGENT = Agent(name="agent", model="model", system="Be brief.", tools=[look], limits=Limits(max_tokens=600))


def engine_of(place: Place) -> tuple[Engine, Intake]:
    till = till_of(place)
    redactor = Redactor()
    auditor = Auditor(till.clock, till.ids, redactor)
    catalog = Catalog({AGENT.name: AGENT})
    world = World(
        sessions=till.sessions,
        tenants=till.tenants,
        treasury=till.treasury,
        policy=place.policy(),
        catalog=catalog,
        model=InstantModel(),
        prices=Prices(),
        dispatch=Dispatch(MemoryQueue(), None, SignedTokens(lambda: ["k" * 32])),
        auditor=auditor,
        redactor=redactor,
        detector=RuleDetector(),
        clock=till.clock,
        ids=till.ids,
        parallel=Threads(),
        warn=lambda text: None,
        keep_lease=LeaseKeeper(till.sessions, till.clock, Threads()).keep,
        relay=lambda head, hidden: Relay(None, head, till.clock, hidden),
    )
    intake = Intake(till.sessions, till.tenants, place.policy(), catalog, Prices(), till.clock, till.ids)
    return Engine(world), intake


def take_in(place: Place, count: int) -> list[str]:
    """New sessions, each with a first message; their ids."""
    _, intake = engine_of(place)
    request = NewSession("agent", "Look twice.", {}, "interactive")
    return at_once(lambda n: intake.create(Identity(TENANT, f"u{n % 5}", "user"), request).session_id, range(count))


def run_turns(place: Place, sessions: list[str], seed: int, working: Any = None) -> int:
    """Run whatever can be run of these; how many were brought to rest."""
    engine, _ = engine_of(place)
    shuffled = list(sessions)
    random.Random(seed).shuffle(shuffled)
    if working is not None:
        working.set()

    def run(session_id: str) -> int:
        try:
            left = engine.run(TENANT, session_id, Allowance("lambda", contention_seconds=1.0))
        except (SessionBusy, SessionEnded, LeaseLost, StoreBusy, Unavailable):
            return 0
        return int(left.resting)

    return sum(at_once(run, shuffled))
