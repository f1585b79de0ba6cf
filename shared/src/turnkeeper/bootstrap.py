"""The one place that wires adapters to ports. Each process makes one :class:`Kit` from its settings, and takes from it
what it needs; what is expensive or needs a permission is made when it is first asked for."""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
import tomllib
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from turnkeeper.adapters.hook_secrets import DerivedHookSecrets
from turnkeeper.adapters.price_overrides import price_overrides
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.adapters.redaction import Redactor
from turnkeeper.adapters.secrets import KeySource
from turnkeeper.adapters.system import SystemClock, SystemIds
from turnkeeper.adapters.tokens import SignedTokens, StreamTokens
from turnkeeper.core.errors import UnpricedModel
from turnkeeper.core.policy import Policy, misnamed_agents, policy_of
from turnkeeper.core.session import Head
from turnkeeper.core.tools import ToolValues
from turnkeeper.ports import (
    Alerts,
    Blobs,
    Bus,
    Clock,
    HookSecrets,
    Ids,
    InjectionDetector,
    Model,
    Prices,
    Queue,
    Redacts,
    Replies,
    Table,
    Tokens,
    Turns,
    Wakes,
    Web,
    Webhooks,
    Words,
)
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.branching import Branching
from turnkeeper.runtime.cancelling import Cancelling, Nobody
from turnkeeper.runtime.catalog import Catalog, load_agents
from turnkeeper.runtime.companions import Companions
from turnkeeper.runtime.contents import Contents
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.engine import Drives, Engine
from turnkeeper.runtime.explaining import Explaining
from turnkeeper.runtime.intake import Intake
from turnkeeper.runtime.leases import Lease, LeaseThread
from turnkeeper.runtime.placing import Fleet, Placing
from turnkeeper.runtime.pricing import must_be_priced
from turnkeeper.runtime.provider_breaker import ProviderBreaker
from turnkeeper.runtime.receivers import MayTell
from turnkeeper.runtime.relaying import Relay, RelayThread
from turnkeeper.runtime.rollouts import Rollouts, RolloutWatch
from turnkeeper.runtime.scoring import Scorer, ScoreWatch
from turnkeeper.runtime.store.deliveries import Deliveries
from turnkeeper.runtime.store.erasure import Erasure
from turnkeeper.runtime.store.gateway_tokens import GatewayTokens
from turnkeeper.runtime.store.purses import Purses
from turnkeeper.runtime.store.rollouts import RolloutStore
from turnkeeper.runtime.store.scores import Scores
from turnkeeper.runtime.store.sessions import Sessions, Written
from turnkeeper.runtime.store.streams import Streams
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.runtime.store.traced import Traced
from turnkeeper.runtime.store.treasury import Treasury
from turnkeeper.runtime.store.workers import Workers
from turnkeeper.runtime.sweep import Sweep
from turnkeeper.runtime.threads import Parallel, Threads
from turnkeeper.runtime.tracing import TraceQueue, Tracer, TraceReceiver
from turnkeeper.runtime.waking import Capacity, WakingQueue
from turnkeeper.runtime.world import World
from turnkeeper.sdk import ENGINE as SDK
from turnkeeper.settings import Settings
from turnkeeper.wiring.needs import MissingSetting
from turnkeeper.wiring.platform import DeadLetters, Platform, platform_of

if TYPE_CHECKING:
    from turnkeeper.gateway import Gateway
    from turnkeeper.runtime.delivering import Deliverer

logger = logging.getLogger(__name__)


class Kit:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
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
        return Streams(self.table, self.clock)

    @cached_property
    def tenants(self) -> Tenants:
        return Tenants(self.table, self.policy, self.clock)

    @cached_property
    def treasury(self) -> Treasury:
        return Treasury(self.table, self.tenants, self.clock, self.ids, joins=self.settings.compact_writes)

    @cached_property
    def purses(self) -> Purses:
        owner = f"{platform.node()[:60] or 'process'}-{os.getpid()}-{self.ids.token()[:12]}"
        return Purses(self.table, self.treasury, self.clock, lease_seconds=self.settings.lease_seconds, owner=owner)

    @cached_property
    def gateway_tokens(self) -> GatewayTokens:
        return GatewayTokens(self.table, self.tenants, self.clock, self.ids)

    # ---- the world around ----

    @cached_property
    def queue(self) -> Queue:
        queue = self.platform.queue
        return WakingQueue(queue, self.wakes) if self.wakes else queue

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return self.platform.dead_letters

    @cached_property
    def wakes(self) -> Wakes | None:
        return self.platform.wakes

    @cached_property
    def turns(self) -> Turns | None:
        return self.platform.turns

    @cached_property
    def alerts(self) -> Alerts:
        return self.platform.alerts

    @cached_property
    def tokens(self) -> Tokens:
        return SignedTokens(self.platform.signing_keys)

    @cached_property
    def stream_tokens(self) -> StreamTokens:
        return StreamTokens(self.platform.signing_keys)

    @cached_property
    def prices(self) -> Prices:
        return BundledPrices(price_overrides(self.policy.models))

    @cached_property
    def model(self) -> Model:
        from turnkeeper.adapters.anthropic_model import AnthropicModel

        model = AnthropicModel(self._model_key(), self.settings.model_url, self.settings.model_provider)
        model.warm()
        return ProviderBreaker(model, self.clock)

    @cached_property
    def detector(self) -> InjectionDetector:
        # Its rules take a while to compile, and only runners have tools.
        from turnkeeper.adapters.injection import RuleDetector

        return RuleDetector()

    @cached_property
    def tool_values(self) -> ToolValues:
        return self.platform.tool_values

    @cached_property
    def web(self) -> Web:
        from turnkeeper.tools.web.contents import GuardedWeb

        return GuardedWeb()

    @cached_property
    def words(self) -> Words | None:
        return self.platform.words

    @cached_property
    def bus(self) -> Bus | None:
        return self.platform.bus

    @cached_property
    def webhooks(self) -> Webhooks:
        from turnkeeper.tools.web.posting import GuardedPosts

        return GuardedPosts(self.settings.webhook_networks)

    @cached_property
    def replies(self) -> Replies:
        return self.platform.replies

    @cached_property
    def hook_secrets(self) -> HookSecrets:
        return DerivedHookSecrets(self.platform.hook_keys, self.clock)

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
    def auditor(self) -> Auditor:
        return Auditor(self.clock, self.ids, self.redactor)

    @cached_property
    def intake(self) -> Intake:
        return Intake(
            sessions=self.sessions,
            tenants=self.tenants,
            policy=self.policy,
            catalog=self.catalog,
            prices=self.prices,
            clock=self.clock,
            ids=self.ids,
            contents=self.contents,
            rollouts=self.rollouts,
            telling=MayTell(self.webhooks, self.replies),
        )

    @cached_property
    def contents(self) -> Contents | None:
        return Contents(self.web, self.parallel, self.clock) if self.settings.fetch_contents else None

    @cached_property
    def branching(self) -> Branching:
        return Branching(self.intake)

    @cached_property
    def explaining(self) -> Explaining:
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
        seconds, packs = self.settings.lease_seconds, self.settings.compact_writes
        means = self.table, self.blobs, self.clock, self.redactor, self.auditor
        return Erasure(*means, lease_seconds=seconds, packs=packs)

    @cached_property
    def scores(self) -> Scores:
        return Scores(self.table)

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.sessions, self.scores, self.catalog, self.clock)

    @cached_property
    def rollouts(self) -> Rollouts:
        store = RolloutStore(self.table, self.blobs)
        return Rollouts(store, self.tenants, self.clock, self.policy.evals_plan, self.prices)

    @cached_property
    def rollout_watch(self) -> RolloutWatch:
        return RolloutWatch(self.rollouts, self.scores, self.catalog, self.alerts, self.clock)

    @cached_property
    def trace_queue(self) -> TraceQueue:
        return self.platform.trace_queue

    @cached_property
    def trace_receiver(self) -> TraceReceiver:
        return self.platform.trace_receiver

    @cached_property
    def tracer(self) -> Tracer:
        return Tracer(
            records=self.sessions,
            scores=self.scores,
            tenants=self.tenants,
            treasury=self.treasury,
            catalog=self.catalog,
            traced=Traced(self.table),
            receiver=self.trace_receiver,
            redactor=self.redactor,
            clock=self.clock,
            provider=self.settings.model_provider,
            contents=self.settings.trace_contents,
        )

    @cached_property
    def deliveries(self) -> Deliveries:
        return Deliveries(self.table)

    @cached_property
    def deliverer(self) -> Deliverer:
        # What signs is of use to one process only.
        from turnkeeper.runtime.delivering import Deliverer

        if self.words is None:
            raise MissingSetting("nothing says where turns wait whose end is to be told")
        return Deliverer(
            records=self.sessions,
            deliveries=self.deliveries,
            tenants=self.tenants,
            catalog=self.catalog,
            words=self.words,
            bus=self.bus,
            webhooks=self.webhooks,
            replies=self.replies,
            secrets=self.hook_secrets,
            redactor=self.redactor,
            clock=self.clock,
            ids=self.ids,
        )

    @cached_property
    def companions(self) -> Companions:
        return Companions(
            sessions=self.sessions,
            scorer=self.scorer,
            rollouts=self.rollouts,
            tenants=self.tenants,
            policy=self.policy,
            catalog=self.catalog,
            redactor=self.redactor,
            clock=self.clock,
            ids=self.ids,
        )

    @cached_property
    def score_watch(self) -> ScoreWatch:
        return ScoreWatch(self.scores, self.catalog, self.alerts, self.clock, self.rollout_watch.candidate)

    @cached_property
    def sweep(self) -> Sweep:
        return Sweep(self.sessions, self.dispatch, self.erasure, self.alerts, self.clock, self.purses)

    @cached_property
    def capacity(self) -> Capacity:
        return Capacity(self.queue, self.wakes, self.settings.worker_concurrency)

    @cached_property
    def engine(self) -> Engine:
        return Engine(self._world(self.model, self.detector), self.engines)

    @cached_property
    def engines(self) -> Mapping[str, Drives]:
        """Engines beside the kit's own loop: those that an agent here asks for, and that are installed."""
        names = {agent.engine for agent in self.catalog.agents.values()}
        if importlib.util.find_spec("claude_agent_sdk") is None or SDK not in names:
            return {}
        from turnkeeper.sdk.desk import Means
        from turnkeeper.sdk.engine import SdkEngine

        settings = self.settings
        first = settings.agent_sdk_user if os.geteuid() == 0 else None
        account = None if first is None else (first, first)
        means = Means(self.gateway, self.sessions, self.table, self.blobs, settings.agent_sdk_folder, account)
        return {SDK: SdkEngine(means, settings.agent_sdk_slots or (1 if account is None else 4))}

    @cached_property
    def gateway(self) -> Gateway:
        # Only where it is served.
        from turnkeeper.gateway import Gateway
        from turnkeeper.gateway.callers import Callers
        from turnkeeper.gateway.money import Till
        from turnkeeper.gateway.provider import provider_of

        settings, callers = self.settings, Callers(self.gateway_tokens, self.clock)
        money = Till(self.purses, self.tenants, self.prices, self.model, self.redactor, self.clock)
        money.lease_seconds, money.wait_seconds = settings.lease_seconds, settings.gateway_wait_seconds
        return Gateway(money, callers, provider_of(self._model_key(), settings.model_url))

    @cached_property
    def cancelling(self) -> Cancelling:
        # Neither model nor detector: it only ends turns, also where there is no permission to read the model's key.
        nobody = Nobody()
        return Cancelling(self.sessions, Engine(self._world(nobody, nobody)), self.clock)

    def _world(self, model: Model, detector: InjectionDetector) -> World:
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

    def keep_lease(self, head: Head, held_since: float, on_beat: Callable[[], None]) -> Lease:
        return LeaseThread(self.sessions, self.clock, head, held_since, on_beat)

    def relay(self, head: Head, hidden: Collection[str]) -> Relay:
        return RelayThread(self.streams, head, self.clock, hidden)

    # ---- at the start of a process ----

    def warm(self) -> None:
        """Make now what the first request would wait for, but for the model. Reads no secret and opens no connection:
        what is warm may be kept in a snapshot of the process."""
        for problem in misnamed_agents(self.policy, self.catalog.agents.values(), self.catalog.broken):
            logger.error("a plan means another agent: %s", problem)
        for agent in self.catalog.agents.values():
            with suppress(UnpricedModel):
                must_be_priced(self.prices, agent)
        _ = self.intake, self.treasury, self.placing

    def _model_key(self) -> KeySource | None:
        return self.platform.model_key()
