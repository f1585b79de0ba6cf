"""What the front door takes from its settings: the store, ways to runners, and what takes work in.

Whoever imports this module waits for nothing that only a turn needs: no engine, no price list, no agent's code. What a
few calls need is imported by these. ``tests/unit/test_imports.py`` holds it, docs/decisions/0144 says why.
"""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable, Collection
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from turnkeeper.adapters.redaction import Redactor
from turnkeeper.adapters.system import SystemClock, SystemIds
from turnkeeper.adapters.tokens import RequestMarks, SignedTokens, StreamTokens
from turnkeeper.core import late, models
from turnkeeper.core.policy import Policy, misnamed_agents, policy_of
from turnkeeper.core.session import Head
from turnkeeper.core.tools import ToolValues
from turnkeeper.ports import (
    Clock,
    Ids,
    InjectionDetector,
    Model,
    Prices,
    Queue,
    Redacts,
    Replies,
    Tokens,
    Turns,
    Wakes,
    Web,
    Webhooks,
)
from turnkeeper.runtime.catalog import Catalog, load_agents
from turnkeeper.runtime.contents import Contents
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.intake import Intake
from turnkeeper.runtime.manifest import MANIFEST, catalog_in
from turnkeeper.runtime.placing import Fleet, Placing
from turnkeeper.runtime.receivers import MayTell
from turnkeeper.runtime.rollouts import Rollouts
from turnkeeper.runtime.store.rollouts import RolloutStore
from turnkeeper.runtime.store.sessions import Sessions, Written
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.runtime.store.treasury import Treasury
from turnkeeper.runtime.store.workers import Workers
from turnkeeper.runtime.threads import Parallel, Threads
from turnkeeper.settings import Settings
from turnkeeper.table import Blobs, Table
from turnkeeper.wiring.platform import Platform, platform_of

if TYPE_CHECKING:
    from turnkeeper.runtime.auditing import Auditor
    from turnkeeper.runtime.branching import Branching
    from turnkeeper.runtime.cancelling import Cancelling
    from turnkeeper.runtime.explaining import Explaining
    from turnkeeper.runtime.leases import Lease, LeaseKeeper
    from turnkeeper.runtime.relaying import Relay
    from turnkeeper.runtime.store.erasure import Erasure
    from turnkeeper.runtime.store.scores import Scores
    from turnkeeper.runtime.store.streams import Streams
    from turnkeeper.runtime.world import World

logger = logging.getLogger(__name__)


class FrontDoorKit:
    """Each part is made when it is first asked for, with what it needs."""

    def __init__(self, settings: Settings, *, bundled: bool = False) -> None:
        """``bundled``: the root is a bundle, so a manifest there tells of its agents. Elsewhere a file of that name may
        be anybody's, or of agents as they once were."""
        self.settings = settings
        self._bundled = bundled
        #: Who hears of what this process writes: set before ``sessions`` is first asked for.
        self.written: Written = lambda _before, _after, _change: None
        #: Runs a session on that somebody asks to go on with: only where turns run within requests, and nobody else
        #: goes on with it.
        self.takes_up: Callable[[Head], Head | None] = lambda _head: None
        self.clock: Clock = SystemClock()
        self.ids: Ids = SystemIds()
        self.redactor: Redacts = Redactor()
        self.parallel: Parallel = Threads()
        #: What of it is AWS's or a database's.
        self.platform: Platform = platform_of(settings, lambda: self.clock)

    # ---- what is deployed ----

    @cached_property
    def policy(self) -> Policy:
        with (self.settings.root / "policy.toml").open("rb") as file:
            return policy_of(tomllib.load(file))

    @cached_property
    def catalog(self) -> Catalog:
        """What agents are, as the manifest of a bundle tells it: nobody can run a turn with these. Where there is none,
        the agents themselves."""
        manifest = self.settings.root / MANIFEST
        told = self._bundled and manifest.exists()
        return catalog_in(manifest.read_bytes()) if told else self.imported_agents()

    def imported_agents(self) -> Catalog:
        return load_agents([self.settings.root / folder for folder in (Path("agents"), *self.settings.agents)])

    # ---- the store ----

    @cached_property
    def table(self) -> Table:
        return self.platform.table

    @cached_property
    def blobs(self) -> Blobs:
        return self.platform.blobs

    @cached_property
    def sessions(self) -> Sessions:
        return Sessions(
            self.table,
            self.blobs,
            self.clock,
            self.redactor,
            lease_seconds=self.settings.lease_seconds,
            packs=self.settings.compact_writes,
            written=self.written,
        )

    @cached_property
    def streams(self) -> Streams:
        from turnkeeper.runtime.store.streams import Streams

        return Streams(self.table, self.clock)

    @cached_property
    def tenants(self) -> Tenants:
        return Tenants(self.table, self.policy, self.clock)

    @cached_property
    def treasury(self) -> Treasury:
        return Treasury(self.table, self.tenants, self.clock, self.ids, joins=self.settings.compact_writes)

    @cached_property
    def scores(self) -> Scores:
        from turnkeeper.runtime.store.scores import Scores

        return Scores(self.table)

    # ---- the world around ----

    @cached_property
    def queue(self) -> Queue:
        if (wakes := self.wakes) is None:
            return self.platform.queue
        from turnkeeper.runtime.waking import WakingQueue

        return WakingQueue(self.platform.queue, wakes)

    @cached_property
    def wakes(self) -> Wakes | None:
        return self.platform.wakes

    @cached_property
    def turns(self) -> Turns | None:
        return self.platform.turns

    @cached_property
    def tokens(self) -> Tokens:
        return SignedTokens(self.platform.signing_keys)

    @cached_property
    def stream_tokens(self) -> StreamTokens:
        return StreamTokens(self.platform.signing_keys)

    @cached_property
    def request_marks(self) -> RequestMarks:
        return RequestMarks(self.platform.signing_keys)

    @cached_property
    def prices(self) -> Prices:
        from turnkeeper.adapters.price_overrides import price_overrides
        from turnkeeper.adapters.prices import BundledPrices

        return BundledPrices(price_overrides(self.policy.models))

    @cached_property
    def tool_values(self) -> ToolValues:
        return self.platform.tool_values

    @cached_property
    def web(self) -> Web:
        from turnkeeper.tools.web.contents import GuardedWeb

        return GuardedWeb()

    @cached_property
    def webhooks(self) -> Webhooks:
        from turnkeeper.tools.web.posting import GuardedPosts

        return GuardedPosts(self.settings.webhook_networks)

    @cached_property
    def replies(self) -> Replies:
        return self.platform.replies

    # ---- services ----

    @cached_property
    def dispatch(self) -> Dispatch:
        return Dispatch(self.queue, self.turns, self.tokens)

    @cached_property
    def workers(self) -> Workers:
        return Workers(self.table, self.clock)

    @cached_property
    def fleet(self) -> Fleet:
        return Fleet(self.workers, self.clock)

    @cached_property
    def placing(self) -> Placing:
        economy = self.settings.auto_placement == "economy"
        offers = self.platform.queue if self.wakes else self.queue
        return Placing(self.dispatch, offers, self.fleet, self.sessions, self.clock, economy)

    @cached_property
    def intake(self) -> Intake:
        return Intake(
            sessions=self.sessions,
            tenants=self.tenants,
            policy=self.policy,
            catalog=self.catalog,
            prices=late.late(lambda: self.prices),
            clock=self.clock,
            ids=self.ids,
            contents=self.contents,
            rollouts=self.rollouts,
            telling=MayTell(late.late(lambda: self.webhooks), late.late(lambda: self.replies)),
        )

    @cached_property
    def contents(self) -> Contents | None:
        return (
            Contents(late.late(lambda: self.web), self.parallel, self.clock) if self.settings.fetch_contents else None
        )

    @cached_property
    def rollouts(self) -> Rollouts:
        store, prices = RolloutStore(self.table, self.blobs), late.late(lambda: self.prices)
        return Rollouts(store, self.tenants, self.clock, self.policy.evals_plan, prices)

    @cached_property
    def branching(self) -> Branching:
        from turnkeeper.runtime.branching import Branching

        return Branching(self.intake)

    @cached_property
    def explaining(self) -> Explaining:
        from turnkeeper.runtime.explaining import Explaining

        return Explaining(
            sessions=self.sessions,
            scores=self.scores,
            tenants=self.tenants,
            treasury=self.treasury,
            intake=self.intake,
            redactor=self.redactor,
            clock=self.clock,
        )

    @cached_property
    def erasure(self) -> Erasure:
        from turnkeeper.runtime.store.erasure import Erasure

        means = self.table, self.blobs, self.clock, self.redactor, self.auditor
        return Erasure(*means, lease_seconds=self.settings.lease_seconds, packs=self.settings.compact_writes)

    @cached_property
    def auditor(self) -> Auditor:
        from turnkeeper.runtime.auditing import Auditor

        return Auditor(self.clock, self.ids, self.redactor)

    @cached_property
    def cancelling(self) -> Cancelling:
        from turnkeeper.runtime.cancelling import Cancelling, Nobody
        from turnkeeper.runtime.engine import Engine

        # Neither model nor detector: it only ends turns, also where there is no permission to read the model's key.
        nobody = Nobody()
        return Cancelling(self.sessions, Engine(self.world(nobody, nobody)), self.clock)

    def world(self, model: Model, detector: InjectionDetector) -> World:
        """What an engine works with."""
        from turnkeeper.runtime.world import World

        return World(
            sessions=self.sessions,
            tenants=self.tenants,
            treasury=self.treasury,
            policy=self.policy,
            catalog=self.catalog,
            model=model,
            prices=self.prices,
            dispatch=self.dispatch,
            auditor=self.auditor,
            redactor=self.redactor,
            detector=detector,
            tool_values=self.tool_values,
            clock=self.clock,
            ids=self.ids,
            parallel=self.parallel,
            warn=logger.warning,
            keep_lease=self.keep_lease,
            relay=self.relay,
        )

    @cached_property
    def leases(self) -> LeaseKeeper:
        from turnkeeper.runtime.leases import LeaseKeeper

        return LeaseKeeper(self.sessions, self.clock, Threads())

    def keep_lease(self, head: Head, held_since: float, on_beat: Callable[[], None]) -> Lease:
        return self.leases.keep(head, held_since, on_beat)

    def relay(self, head: Head, hidden: Collection[str]) -> Relay:
        from turnkeeper.runtime.relaying import RelayThread

        return RelayThread(self.streams, head, self.clock, hidden)

    # ---- at the start of a process ----

    def need_keys(self) -> None:
        """On a database, where no deployment has made sure of signing keys: not at the first turn or handoff, which
        would fail where all looks well. Raises MissingSetting, Unavailable."""
        if self.settings.database_url is not None:
            self.platform.signing_keys()

    def warm(self) -> None:
        """Make now what the first request would wait for, but for the model. Reads no secret and opens no connection:
        what is warm may be kept in a snapshot of the process."""
        for problem in misnamed_agents(self.policy, self.catalog.agents.values(), self.catalog.broken):
            logger.error("a plan means another agent: %s", problem)
        _ = self.intake, self.treasury, self.placing

    def prepare(self) -> None:
        """Make also what only some requests wait for. It takes as long as all the rest: for a snapshot, which is taken
        once and begun from often."""
        self.warm()
        _ = self.streams, self.scores, self.branching, self.explaining, self.erasure, self.cancelling
        late.make_all()
        models.build_all()
