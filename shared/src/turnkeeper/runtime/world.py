"""What the engine is given: what a runner can give a turn, and the ports that turns are driven with."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from turnkeeper.core.policy import Policy
from turnkeeper.core.session import Head, RunnerKind
from turnkeeper.core.tools import NO_VALUES, ToolValues
from turnkeeper.ports import Clock, Ids, InjectionDetector, Model, Prices, Redacts
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.relaying import Relay
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.runtime.store.treasury import Treasury
from turnkeeper.runtime.threads import Parallel

#: One write takes this long at most, with the adapter's own attempts.
WRITE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a runner can give a turn."""

    runner: RunnerKind
    #: Which of its kind it is, for people: a task, an invocation.
    name: str = ""
    #: Seconds until it should have handed off, and until it is killed; ``None``: no end in sight.
    turn_seconds: float | None = None
    hard_seconds: float | None = None
    #: What the runner after this one has until it is killed; ``None``: no end in sight. Where that is no more than this
    #: one has left, nothing is left to it for being long.
    next_hard_seconds: float | None = None
    #: It is told to stop: bring the session to the next safe point and hand it on.
    draining: Callable[[], bool] = lambda: False
    #: It is told to stop and its time is up: what still runs is not waited for.
    expired: Callable[[], bool] = lambda: False
    #: How long a call may wait for money in flight before the turn is put back or refused.
    contention_seconds: float = 20.0

    def is_up(self, elapsed_seconds: float) -> bool:
        """A write that is tried once more now may not come to its end on this runner."""
        near_the_end = self.hard_seconds is not None and elapsed_seconds > self.hard_seconds - WRITE_SECONDS
        return near_the_end or self.expired()


@dataclass(frozen=True)
class World:
    """Everything that the engine works with, wired in ``bootstrap``."""

    sessions: Sessions
    tenants: Tenants
    treasury: Treasury
    policy: Policy
    catalog: Catalog
    model: Model
    prices: Prices
    dispatch: Dispatch
    auditor: Auditor
    redactor: Redacts
    detector: InjectionDetector
    clock: Clock
    ids: Ids
    parallel: Parallel
    #: Writes a line to the log.
    warn: Callable[[str], None]
    #: Holds a claimed lease until the turn is over.
    keep_lease: Callable[[Head, float, Callable[[], None]], Lease]
    #: Makes what tells of a turn while somebody looks on; closed when this runner is done with it.
    relay: Callable[[Head, Collection[str]], Relay]
    #: What the deployment gives its tools.
    tool_values: ToolValues = NO_VALUES
