"""The money of a call: admitted before it, resolved after it, whatever becomes of the client."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from turnkeeper.adapters.price_options import ServerTool
from turnkeeper.core.errors import (
    CostCapExceeded,
    ProviderError,
    TurnkeeperError,
    Unavailable,
    Uncountable,
    UnpricedModel,
)
from turnkeeper.core.ledger import Reservation
from turnkeeper.core.lifecycle.change import Resolved
from turnkeeper.core.policy import Terms
from turnkeeper.core.usage import Usage
from turnkeeper.gateway.asking import Asked
from turnkeeper.gateway.bounds import Contexts, beginnings_of
from turnkeeper.gateway.callers import Caller
from turnkeeper.gateway.reading import Meter
from turnkeeper.ports import Clock, Model, ModelRequest, Prices, Rates, Redacts
from turnkeeper.runtime.model_step import MAX_INPUT_TOKENS
from turnkeeper.runtime.requests import with_room
from turnkeeper.runtime.store.holders import Want
from turnkeeper.runtime.store.purses import PurseCall, Purses
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.table import StoreBusy

T = TypeVar("T")
logger = logging.getLogger(__name__)

#: What one use of a server tool may bring for the provider to read.
_USE_TOKENS = 20_000
#: How long a settlement is tried while the table is away; then the sweep doubts the call.
_SETTLE_SECONDS = 300.0
#: Threads that write to the table; settlements have their own, so that calls that wait never stand in their way.
_ADMIT_THREADS, _SETTLE_THREADS = 16, 16
#: Of those that admit, how many may wait for the provider's count of tokens: the others admit what needs none.
_COUNTS = 8


class CountsBusy(Exception):
    """As many counts of tokens as there may be at once are under way."""


class ClientGone(Exception):
    """The client has left before its call was made: nothing was reserved."""


@dataclass
class Call:
    """A call that was admitted."""

    caller: Caller
    asked: Asked
    purse_call: PurseCall
    beginnings: list[bytes]

    @property
    def body(self) -> bytes:
        return self.asked.clamped(self.purse_call.reservation.max_tokens)


@dataclass
class Wanted:
    """What a call asks for, and how it begins."""

    want: Want
    beginnings: list[bytes]


@dataclass
class Failure:
    """Why there is no whole answer."""

    #: Nothing was billed, for certain.
    unbilled: bool
    why: str
    status_code: int | None = None


class Room:
    """Calls that wait for money in flight, in the order in which they came: each settlement wakes the first."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    async def wait(self, tenant_id: str, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._waiting.setdefault(tenant_id, deque())
        line.append(woken)
        try:
            with suppress(TimeoutError):
                await asyncio.wait_for(woken, seconds)
        finally:
            with suppress(ValueError):
                line.remove(woken)
            if not line:
                self._waiting.pop(tenant_id, None)

    def free(self, tenant_id: str) -> None:
        line = self._waiting.get(tenant_id, deque())
        while line:
            woken = line.popleft()
            if not woken.done():
                woken.set_result(None)
                return


@dataclass
class Till:
    purses: Purses
    tenants: Tenants
    prices: Prices
    #: Asked for counts of tokens.
    model: Model
    redactor: Redacts
    clock: Clock
    #: A process that is silent for longer is taken for dead.
    lease_seconds: float = 60.0
    #: How long a call waits for money in flight.
    wait_seconds: float = 30.0
    contexts: Contexts = field(default_factory=Contexts)
    room: Room = field(default_factory=Room)

    def __post_init__(self) -> None:
        self._admits = ThreadPoolExecutor(_ADMIT_THREADS, "gateway-admit")
        self._settles = ThreadPoolExecutor(_SETTLE_THREADS, "gateway-settle")
        self._counts = threading.BoundedSemaphore(_COUNTS)
        #: As they were last known; a call that they do not fit any more is refused by the counters, and reads them.
        self._terms: dict[str, Terms] = {}
        self._beat_at: float | None = None

    def close(self) -> None:
        self._admits.shutdown(wait=False)
        self._settles.shutdown(wait=False)

    async def in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._admits, work)

    # ---- before the call ----

    async def admit(self, caller: Caller, asked: Asked, gone: Callable[[], Awaitable[bool]]) -> Call:
        """Set the money aside; where only money in flight is in the way, wait for it.

        Raises:
            CostCapExceeded, TenantPaused, Forbidden, LeaseLost, UnpricedModel: not admitted.
            Unavailable: the table is busy or away, or its tokens could not be counted for want of room.
            ClientGone: nobody waits any more.
        """
        give_up_at = self.clock.monotonic() + self.wait_seconds
        began, tries = self.clock.monotonic(), 0
        wanted: list[Wanted] = []

        def reserve(waited_ms: int) -> Call:
            caller.check(self.clock.now())
            if not wanted:
                wanted.append(self._want(caller, asked))
            want = wanted[0]
            return Call(caller, asked, self._reserve(caller, asked, want.want, waited_ms), want.beginnings)

        while True:
            wait: Callable[[float], Awaitable[None]] = partial(self.room.wait, caller.tenant_id)
            waited_ms = int((self.clock.monotonic() - began) * 1000) if tries else 0
            try:
                call = await self.in_thread(partial(reserve, waited_ms))
            except CostCapExceeded as refused:
                if not refused.contended or self.clock.monotonic() >= give_up_at:
                    raise
            except StoreBusy as busy:
                if self.clock.monotonic() >= give_up_at:
                    raise Unavailable("the ledger is busy", retry_after_seconds=5) from busy
            except CountsBusy as busy:
                if self.clock.monotonic() >= give_up_at:
                    raise Unavailable("too many counts of tokens are under way", retry_after_seconds=5) from busy
                # Not in the line for money: whoever is woken there has to be able to take it.
                wait = asyncio.sleep
            else:
                # What was given back may be enough for more than one.
                self.room.free(caller.tenant_id)
                return call
            if await gone():
                raise ClientGone
            pause = (0.05 + 0.95 * random.random()) * min(0.1 * 2 ** min(tries, 5), 2.0)  # noqa: S311 - no secret
            await wait(pause)
            tries += 1

    def _want(self, caller: Caller, asked: Asked) -> Wanted:
        rates = self.prices.rates(asked.model, asked.options)
        beginnings = beginnings_of(asked.body, asked.betas, changes=asked.changes)
        tools = asked.server_tools
        bound = self.contexts.bound(caller.purse.name, asked.body, beginnings)
        count = self._counting(asked, bound, rates)
        want = Want(
            rates,
            _sampled(count() if bound is None else bound, tools),
            asked.max_tokens,
            None if bound is None else lambda: _sampled(count(), tools),
        )
        return Wanted(want, beginnings)

    def _counting(self, asked: Asked, bound: int | None, rates: Rates) -> Callable[[], int]:
        otherwise = bound if bound is not None else rates.window or MAX_INPUT_TOKENS

        def count() -> int:
            if asked.changes:
                return otherwise
            if not self._counts.acquire(blocking=False):
                raise CountsBusy
            try:
                return with_room(self.model.count_tokens(_counted(asked)))
            except Uncountable:
                return otherwise
            except ProviderError as error:
                logger.info("tokens could not be counted: %s", error)
                return otherwise
            finally:
                self._counts.release()

        return count

    def _reserve(self, caller: Caller, asked: Asked, want: Want, waited_ms: int) -> PurseCall:
        self._beat()
        tenant_id = caller.tenant_id
        terms = self._terms.get(tenant_id) or self.tenants.terms(tenant_id)
        known = {
            "via": "gateway",
            **caller.detail,
            **{f"hint_{name}": self.redactor.redact_text(word) for name, word in asked.hints.items()},
            **({"waited_ms": waited_ms} if waited_ms else {}),
        }

        def detail(reservation: Reservation) -> dict[str, Any]:
            sent = hashlib.sha256(asked.clamped(reservation.max_tokens)).hexdigest()
            return {**known, "body_sha256": sent}

        try:
            call = self.purses.reserve(caller.purse, terms, want, detail=detail)
        except TurnkeeperError:
            self._terms.pop(tenant_id, None)
            raise
        assert call.admitted is not None
        self._terms[tenant_id] = call.admitted.terms
        return call

    def _beat(self) -> None:
        """This process lives: said before the first call, and again in good time while there are some."""
        now = self.clock.monotonic()
        if self._beat_at is None or now - self._beat_at > self.lease_seconds / 3:
            self._beat_at = now
            try:
                self.purses.beat()
            except BaseException:
                self._beat_at = None
                raise

    async def keep_alive(self) -> None:
        """While calls are in flight: the sweep takes those of a process that is silent for dead."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._settles, self._beat)
        except TurnkeeperError as error:
            logger.warning("the gateway could not say that it lives: %s", error)

    # ---- after the call ----

    async def resolve(self, call: Call, meter: Meter, failure: Failure | None, request_id: str | None) -> None:
        """Settle, void or doubt it. Never raises: what cannot be written by then is left to the sweep."""
        resolved = self._resolved(call, meter, failure, request_id)
        usage = Usage.of(meter.billed)
        give_up_at = self.clock.monotonic() + _SETTLE_SECONDS
        for tries in range(10_000):
            try:
                done = await asyncio.get_running_loop().run_in_executor(
                    self._settles, lambda: self.purses.resolve(call.purse_call, resolved, usage)
                )
            except (StoreBusy, Unavailable) as error:
                if self.clock.monotonic() > give_up_at:
                    logger.error("call %d is left to the sweep: %s", resolved.reservation.call, error)
                    return
                await asyncio.sleep(min(0.1 * 2 ** min(tries, 5), 2.0))
            except Exception:
                logger.exception("call %d is left to the sweep", resolved.reservation.call)
                return
            else:
                if not done and not tries:
                    logger.warning("call %d was doubted by the sweep before its answer came", resolved.reservation.call)
                break
        if resolved.resolution == "settled":
            self.contexts.learn(call.caller.purse.name, call.asked.body, call.beginnings, usage.read_tokens)
        self.room.free(call.caller.tenant_id)

    def _resolved(self, call: Call, meter: Meter, failure: Failure | None, request_id: str | None) -> Resolved:
        """By docs/decisions/0003: what is certain is booked as it is, everything else in full."""
        reservation, asked = call.purse_call.reservation, call.asked
        detail: dict[str, Any] = {
            "usage": Usage.of(meter.billed or {}).model_dump(),
            "request_id": request_id[:200] if request_id else None,
            **({"stop_reason": meter.stop_reason} if meter.stop_reason else {}),
            **({"answered_by": meter.model} if meter.model and meter.model != asked.model else {}),
        }
        if failure is not None:
            detail |= {"error": self.redactor.redact_text(failure.why)[:500], "status_code": failure.status_code}
            if failure.unbilled:
                return Resolved(reservation, "voided", 0, detail)
        if usage := meter.billed:
            try:
                cost = self.prices.cost_nanousd(asked.model, usage, asked.options)
                return Resolved(reservation, "settled", cost, detail)
            except UnpricedModel as error:
                detail["error"] = error.detail[:500]
        return Resolved(reservation, "in_doubt", reservation.amount_nanousd, detail)


def _counted(asked: Asked) -> ModelRequest:
    body = dict(asked.body)
    prompt = {name: body.pop(name, None) for name in ("model", "max_tokens", "system", "tools", "messages", "stream")}
    return ModelRequest(
        model=asked.model,
        max_tokens=asked.max_tokens,
        system=prompt["system"] or [],
        tools=prompt["tools"] or [],
        messages=prompt["messages"],
        options={**body, **({"betas": list(asked.betas)} if asked.betas else {})},
    )


def _sampled(tokens: int, tools: Sequence[ServerTool]) -> int:
    """Each use of a server tool brings more to read, and all of it is read again."""
    uses = sum(tool.max_uses for tool in tools)
    brought = sum(tool.max_uses * max(_USE_TOKENS, tool.max_content_tokens) for tool in tools)
    return (tokens + brought) * (uses + 1)
