"""The one place that wires adapters to ports, with ``turnkeeper.wiring``. Each process makes one :class:`Kit` from its
settings, and takes from it what it needs; what is expensive or needs a permission is made when it is first asked for.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

from turnkeeper.adapters.hook_secrets import DerivedHookSecrets
from turnkeeper.adapters.secrets import KeySource
from turnkeeper.core.errors import UnpricedModel
from turnkeeper.ports import Alerts, Bus, HookSecrets, InjectionDetector, Model, Words
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.companions import Companions
from turnkeeper.runtime.engine import Drives, Engine
from turnkeeper.runtime.pricing import must_be_priced
from turnkeeper.runtime.provider_breaker import ProviderBreaker
from turnkeeper.runtime.rollout_watch import RolloutWatch
from turnkeeper.runtime.scoring import Patience, Scorer, ScoreWatch
from turnkeeper.runtime.store.beginnings import Beginnings
from turnkeeper.runtime.store.deliveries import Deliveries
from turnkeeper.runtime.store.gateway_tokens import GatewayTokens
from turnkeeper.runtime.store.purses import Purses
from turnkeeper.runtime.store.traced import Traced
from turnkeeper.runtime.sweep import Sweep
from turnkeeper.runtime.tracing import PatientReceiver, TraceQueue, Tracer, TraceReceiver
from turnkeeper.runtime.waking import Capacity
from turnkeeper.sdk import ENGINE as SDK
from turnkeeper.wiring.front_door import FrontDoorKit
from turnkeeper.wiring.needs import MissingSetting
from turnkeeper.wiring.platform import DeadLetters

if TYPE_CHECKING:
    from turnkeeper.gateway import Gateway
    from turnkeeper.runtime.delivering import Deliverer

logger = logging.getLogger(__name__)


class Kit(FrontDoorKit):
    """All that a process of the kit may need: the front door's parts, and what turns and chores ask for besides."""

    # ---- what is deployed ----

    @cached_property
    def catalog(self) -> Catalog:
        # What a manifest tells of agents runs no turn.
        return self.imported_agents()

    # ---- the store ----

    @cached_property
    def purses(self) -> Purses:
        owner = f"{platform.node()[:60] or 'process'}-{os.getpid()}-{self.ids.token()[:12]}"
        return Purses(self.table, self.treasury, self.clock, lease_seconds=self.settings.lease_seconds, owner=owner)

    @cached_property
    def gateway_tokens(self) -> GatewayTokens:
        return GatewayTokens(self.table, self.tenants, self.clock, self.ids)

    # ---- the world around ----

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return self.platform.dead_letters

    @cached_property
    def alerts(self) -> Alerts:
        return self.platform.alerts

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
    def words(self) -> Words | None:
        return self.platform.words

    @cached_property
    def bus(self) -> Bus | None:
        return self.platform.bus

    @cached_property
    def hook_secrets(self) -> HookSecrets:
        return DerivedHookSecrets(self.platform.hook_keys, self.clock)

    # ---- services ----

    @cached_property
    def scorer(self) -> Scorer:
        return Scorer(self.sessions, self.scores, self.catalog, self.clock, Patience(self.parallel))

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
            receiver=PatientReceiver(self.trace_receiver, self.parallel),
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
        return Sweep(
            self.sessions, self.dispatch, self.erasure, self.alerts, self.clock, self.purses, Beginnings(self.table)
        )

    @cached_property
    def capacity(self) -> Capacity:
        return Capacity(self.queue, self.wakes, self.settings.worker_concurrency)

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.world(self.model, self.detector), self.engines)

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

    # ---- at the start of a process ----

    def warm(self) -> None:
        """As a front door's, with the prices."""
        super().warm()
        for agent in self.catalog.agents.values():
            with suppress(UnpricedModel):
                must_be_priced(self.prices, agent)

    def _model_key(self) -> KeySource | None:
        return self.platform.model_key()
