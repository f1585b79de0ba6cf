"""What the gate costs: requests to the table and bytes written, step by step, through the real engine.

A step is one model call with the tool calls that it asks for. The engine runs conversations of growing length over the
table in memory, which counts requests as the DynamoDB table does; the model answers at once, so nothing here is about
time. Common case: no cap is near, no terms have changed, no other runner is in the way.

Bytes are those of new items and of changed attributes. Write units are what DynamoDB would bill: two for each started
kilobyte of each item in a transaction, as it was or as it is, however little of it changed.
"""

# ruff: noqa: ARG002, ARG005 - ports have arguments that these stand-ins have no use for

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from benchmarks._results import Results
from turnkeeper import Agent, Limits, tool
from turnkeeper.adapters.injection import RuleDetector
from turnkeeper.adapters.redaction import Redactor
from turnkeeper.adapters.system import SystemClock, SystemIds
from turnkeeper.adapters.table_values import item_size, item_to_wire
from turnkeeper.adapters.tokens import SignedTokens
from turnkeeper.core.policy import policy_of
from turnkeeper.core.session import Head
from turnkeeper.ports import Clock, Ids, ModelReply, ModelRequest, Rates
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.engine import Engine
from turnkeeper.runtime.intake import Identity, Intake, NewSession
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.relaying import Relay
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.runtime.store.treasury import Treasury
from turnkeeper.runtime.threads import Sequential
from turnkeeper.runtime.world import Allowance, World
from turnkeeper.table import Item
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_queue import MemoryQueue
from turnkeeper.testing.memory_table import MemoryTable

LENGTHS = (10, 40, 160)
#: What the tool returns each time: too varied to be compressed away, small enough to stay inline.
RESULT_BYTES = 2_000

POLICY = {
    "default_plan": "wide",
    "plans": {
        "wide": {
            "task_usd": "1000.00",
            "user_daily_usd": "1000.00",
            "user_monthly_usd": "1000.00",
            "tenant_monthly_usd": "1000.00",
        }
    },
}


@dataclass
class Tally:
    """What one step did."""

    requests: Counter[str] = field(default_factory=Counter)
    bytes: int = 0
    units: int = 0

    def changed(self, before: Item | None, after: Item | None) -> None:
        if after is None:
            return
        old = before or {}
        self.bytes += item_size(item_to_wire({name: value for name, value in after.items() if old.get(name) != value}))
        larger = max(item_size(item_to_wire(item)) for item in (old, after))
        self.units += 2 * -(-larger // 1024)

    @property
    def writes(self) -> int:
        return self.requests["TransactWriteItems"] + self.requests["UpdateItem"]

    @property
    def reads(self) -> int:
        return self.requests.total() - self.writes


class Prices:
    def rates(self, model: str, options: Mapping[str, Any]) -> Rates:
        return Rates(model, "bench", 3_000_000_000, 15_000_000_000)

    def cost_nanousd(self, model: str, usage: Mapping[str, Any], options: Mapping[str, Any]) -> int:
        return int(usage["input_tokens"]) * 3_000 + int(usage["output_tokens"]) * 15_000


class Held:
    """A lease that nobody takes away."""

    lost = False
    cancelled = False

    def on_look(self, tell: object) -> None: ...

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Bench:
    """An engine whose model begins a new tally with each call."""

    def __init__(self, steps: int, clock: Clock | None = None, ids: Ids | None = None) -> None:
        self.steps = steps
        self.tallies: list[Tally] = [Tally()]
        clock, ids = clock or SystemClock(), ids or SystemIds()
        table = MemoryTable(
            on_change=self._changed,
            on_request=lambda name: self.tallies[-1].requests.update([name]),
        )
        policy = policy_of(POLICY)
        sessions = Sessions(table, MemoryBlobs(), clock, Redactor(), lease_seconds=60)
        tenants = Tenants(table, policy, clock)
        auditor = Auditor(clock, ids, Redactor())

        @tool(effect="read")
        def look(page: int) -> str:
            """Read a page."""
            return f"page {page} " + "".join(ids.token() for _ in range(RESULT_BYTES // 32))

        limits = Limits(max_iterations=10_000)
        catalog = Catalog({"reader": Agent(name="reader", model="m", system="Read.", tools=[look], limits=limits)})
        self.intake = Intake(sessions, tenants, policy, catalog, Prices(), clock, ids)
        self.engine = Engine(
            World(
                sessions=sessions,
                tenants=tenants,
                treasury=Treasury(table, tenants, clock, ids),
                policy=policy,
                catalog=catalog,
                model=self,
                prices=Prices(),
                dispatch=Dispatch(MemoryQueue(), None, SignedTokens(lambda: ["k" * 32])),
                auditor=auditor,
                redactor=Redactor(),
                detector=RuleDetector(),
                clock=clock,
                ids=ids,
                parallel=Sequential(),
                warn=print,
                keep_lease=lambda head, since, beat: Held(),
                relay=lambda head, hidden: Relay(None, head, clock, hidden),
            )
        )

    def _changed(self, before: Item | None, after: Item | None) -> None:
        self.tallies[-1].changed(before, after)

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:
        # Between its two writes: what follows is this step's second and the next one's first.
        made = sum(message["role"] == "assistant" for message in request.messages)
        self.tallies.append(Tally())
        last = made + 1 >= self.steps
        use = {"type": "tool_use", "id": f"toolu_{made:04}", "name": "look", "input": {"page": made}}
        content = [{"type": "text", "text": "Done."}] if last else [use]
        usage = {"input_tokens": 500 + 800 * made, "output_tokens": 60}
        return ModelReply(f"msg_{made}", "m", content, "end_turn" if last else "tool_use", usage, f"req_{made}")

    def count_tokens(self, request: ModelRequest) -> int:
        raise AssertionError("the provider is asked for a count although every cap is far away")

    def run(self) -> Head:
        who = Identity("acme", "ann", "user")
        session = self.intake.create(who, NewSession("reader", "Read it all.", {}))
        return self.engine.run(who.tenant_id, session.session_id, Allowance("fargate"))


def main() -> int:
    with Results("gate") as results:
        wrong = sum(not _as_promised(results, steps) for steps in LENGTHS)
    print("Two writes a step, no reads, and as many bytes late in a conversation as early:", "no" if wrong else "yes")
    return wrong


def _as_promised(results: Results, steps: int) -> bool:
    bench = Bench(steps)
    head = bench.run()
    assert (head.status, head.steps) == ("idle", steps), head.stop
    # The first tally is the session's start, the claim and the first reservation; the last one the end.
    inner = bench.tallies[1:-1]
    half = len(inner) // 2
    first, second = (mean(tally.bytes for tally in part) for part in (inner[:half], inner[half:]))
    writes, reads = mean(tally.writes for tally in inner), mean(tally.reads for tally in inner)
    results.count("requests before the first step", "requests", bench.tallies[0].requests.total(), steps=steps)
    results.count("writes a step", "requests", writes, steps=steps)
    results.count("reads a step", "requests", reads, steps=steps)
    results.count("units a step", "write units", mean(tally.units for tally in inner), steps=steps)
    results.count("bytes a step, first half", "bytes", first, steps=steps)
    results.count("bytes a step, second half", "bytes", second, steps=steps)
    return (writes, reads) == (2.0, 0.0) and second < 1.1 * first


if __name__ == "__main__":
    sys.exit(main())
