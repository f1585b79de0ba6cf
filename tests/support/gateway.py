"""A gateway for tests: the real one, served on this machine, over any table and in front of any model API."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import anthropic

from tests.support.money import TENANT, Books, Till, policy
from turnkeeper.adapters.anthropic_model import AnthropicModel
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.adapters.redaction import Redactor
from turnkeeper.adapters.system import SystemClock, SystemIds
from turnkeeper.gateway import Gateway
from turnkeeper.gateway.callers import Callers
from turnkeeper.gateway.money import Till as GatewayTill
from turnkeeper.gateway.provider import AnthropicProvider, Provider
from turnkeeper.gateway.server import GatewayServer
from turnkeeper.ports import Clock
from turnkeeper.table import Item, Table
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper_local.standin.model import StandIn
from turnkeeper_local.standin.scenario import Scenario
from turnkeeper_local.standin.server import make_app
from turnkeeper_local.standin.serving import serving

MODEL = "claude-sonnet-5-5"
REAL_KEY = "the-real-key"


class Key:
    def __call__(self) -> str:
        return REAL_KEY

    def refresh(self) -> str:
        return REAL_KEY


@dataclass
class Rig:
    """``till`` reserves and settles beside the gateway, on the same table."""

    till: Till
    gateway: Gateway
    server: GatewayServer
    table: Table

    @property
    def url(self) -> str:
        return self.server.url

    def token(self, user_id: str = "ann", *, task_nanousd: int | None = None, valid: timedelta | None = None) -> str:
        return self.till.tokens.mint(TENANT, user_id, actor="ops", task_nanousd=task_nanousd, valid=valid)[0]

    def client(self, token: str | None = None, **more: Any) -> anthropic.Anthropic:
        return anthropic.Anthropic(
            auth_token=token or self.token(), api_key=None, base_url=self.url, **{"max_retries": 0, **more}
        )

    def books(self) -> Books:
        assert isinstance(self.table, MemoryTable)
        return Books.of(self.table.snapshot())

    def calls(self, state: str | None = None) -> list[Item]:
        """The ledger of all tokens, oldest first."""
        assert isinstance(self.table, MemoryTable)
        found = [item for item in self.table.snapshot() if item["sk"].startswith("CALL#")]
        return sorted((item for item in found if state in (None, item["state"])), key=lambda item: item["sk"])

    def wait_for(self, holds: Callable[[], bool], seconds: float = 20.0) -> None:
        """What comes soon after an answer, as the settlement of one that broke off does."""
        until = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < until, "it did not come to that"
            time.sleep(0.01)


def gateway_of(
    till: Till,
    provider: Callable[[], Provider],
    model_url: str,
    *,
    clock: Clock | None = None,
    wait_seconds: float = 10.0,
) -> Gateway:
    money = GatewayTill(
        purses=till.purses,
        tenants=till.tenants,
        prices=BundledPrices(),
        model=AnthropicModel(Key(), model_url),
        redactor=Redactor(),
        clock=clock or till.clock,
        lease_seconds=till.sessions.lease_seconds,
        wait_seconds=wait_seconds,
    )
    return Gateway(money, Callers(till.tokens, till.clock), provider)


@contextlib.contextmanager
def served(
    model_url: str,
    *,
    table: Table | None = None,
    provider: Callable[[], Provider] | None = None,
    wait_seconds: float = 10.0,
    lease_seconds: float = 60.0,
    **caps: Any,
) -> Iterator[Rig]:
    """A gateway in front of this model API; ``caps`` in nano-dollars, by scope."""
    table = table or MemoryTable()
    clock = SystemClock()
    till = Till(table, MemoryBlobs(), policy(plan=caps), clock, SystemIds(), lease_seconds=lease_seconds)
    provider = provider or (lambda: AnthropicProvider(Key(), model_url))
    gateway = gateway_of(till, provider, model_url, wait_seconds=wait_seconds)
    server = GatewayServer(gateway, host="127.0.0.1", port=0)
    server.start()
    try:
        yield Rig(till, gateway, server, table)
    finally:
        server.close()


@contextlib.contextmanager
def standin() -> Iterator[str]:
    with serving(make_app(StandIn(Scenario()))) as url:
        yield url
