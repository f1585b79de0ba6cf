"""The gateway as its process has it: what it serves, and what a runner asks of it for a session on another engine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from turnkeeper.core.errors import ProviderError, TenantPaused, TurnkeeperError
from turnkeeper.core.session import Head
from turnkeeper.gateway.asking import Asked
from turnkeeper.gateway.callers import Caller, Callers
from turnkeeper.gateway.money import Call, Failure, Till
from turnkeeper.gateway.provider import Answer, Provider
from turnkeeper.gateway.reading import Meter
from turnkeeper.runtime.store.purses import CALL_SECONDS, Spent
from turnkeeper.table import Item

logger = logging.getLogger(__name__)

MESSAGES = "/v1/messages"
COUNT_TOKENS = "/v1/messages/count_tokens"
#: How long the end of a lease may wait for its last calls to be settled.
_CLOSE_SECONDS = 30.0
#: How long the end of an answer may wait for its call to be settled, so that who has it finds it in the ledger.
_SETTLED_SECONDS = 3.0


class Gateway:
    """``provider`` makes one: it is used in the loop that serves, and nowhere else."""

    def __init__(self, till: Till, callers: Callers, provider: Callable[[], Provider]) -> None:
        self.till = till
        self._callers = callers
        self._make_provider = provider
        self._provider: Provider | None = None
        #: Where it is served, once it is.
        self.url: str | None = None
        self._reading: set[asyncio.Task[None]] = set()
        #: Calls that were made and are not resolved yet: the sweep lets them be while this process says that it lives.
        self._open = 0
        self._alive: asyncio.Task[None] | None = None

    # ---- for a runner ----

    def lease_token(self, head: Head) -> str:
        """A token for the calls of a session that this runner has claimed: as long as the lease holds, nobody has asked
        for a cancel, and :meth:`close_lease` was not called. Every scope counts them; the task's money is counted in an
        item of the session's own, which holds all that the session ever spent here, whoever ran it."""
        return self._callers.open(head)

    def close_lease(self, token: str, *, wait_seconds: float = _CLOSE_SECONDS) -> Spent:
        """No call is admitted with it any more. What the session has spent here by now, all its leases together; calls
        in flight are waited for, and those that are not done by then are reserved still.

        Raises:
            KeyError: it was closed before.
        """
        lease = self._callers.close(token)
        lease.wait_until_idle(wait_seconds)
        return self.till.purses.spent(lease.tenant_id, lease.session_id)

    def refusal(self, token: str) -> TurnkeeperError | None:
        """What the gateway answered to the lease's latest call instead of asking the model: a CostCapExceeded, a
        TenantPaused and so on; ``None`` where it asked."""
        return self._callers.lease(token).refusal

    def spent(self, head: Head) -> Spent:
        """What a session has spent through the gateway, ever. An account of the head that is brought up to this has
        counted every call once, however often that is done."""
        return self.till.purses.spent(head.tenant_id, head.session_id)

    def calls_since(self, head: Head, after: int = 0) -> list[Item]:
        """Records of the ledger, oldest first, of calls behind the one of this number: ``call``, ``model``, ``state``,
        ``spent_nanousd``, ``usage``, ``request_id``, ``stop_reason``."""
        return self.till.purses.calls(head.tenant_id, head.session_id, after=after)

    # ---- for whoever serves it; all of it in one loop ----

    async def caller(self, headers: dict[str, str], *, anew: bool = False) -> Caller:
        """``anew``: what the process remembers does not do, for want of a reservation that would refuse a token that
        was revoked."""
        known = self._callers.caller(headers, anew=anew)
        return known if known is not None else await self.till.in_thread(partial(self._callers.read, headers))

    async def count(self, caller: Caller, asked: Asked) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers and body. It costs nothing, so nothing is reserved. Raises TenantPaused, ProviderError."""
        terms = await self.till.in_thread(lambda: self.till.tenants.terms(caller.tenant_id))
        if terms.tenant.paused:
            raise TenantPaused(f"tenant {caller.tenant_id} is paused by its operator")
        answer = await self.provider.ask(COUNT_TOKENS, asked, asked.raw)
        try:
            return answer.status, answer.headers, b"".join([chunk async for chunk in answer.chunks()])
        finally:
            await answer.close()

    async def admit(self, caller: Caller, asked: Asked, gone: Callable[[], Awaitable[bool]]) -> Call:
        """See :meth:`Till.admit`. From here to its end the call is one of its lease's, whose end waits for it."""
        lease = caller.lease
        if lease is None:
            return await self.till.admit(caller, asked, gone)
        lease.begin()
        try:
            return await self.till.admit(caller, asked, gone)
        except BaseException:
            lease.end()
            raise

    async def ask(self, call: Call) -> Answer:
        """One attempt.

        Raises:
            ProviderError: there is no answer; its money is resolved.
        """
        self._open += 1
        self._keep_alive()
        try:
            return await self.provider.ask(MESSAGES, call.asked, call.body)
        except BaseException as error:
            ours = isinstance(error, TurnkeeperError) and not isinstance(error, ProviderError)
            unbilled = ours or (isinstance(error, ProviderError) and error.certainty == "unbilled")
            await self.resolve(call, Meter(), Failure(unbilled, str(error)), None)
            raise

    async def resolve(self, call: Call, meter: Meter, failure: Failure | None, request_id: str | None) -> None:
        try:
            await self.till.resolve(call, meter, failure, request_id)
        finally:
            self._open -= 1
            if call.caller.lease is not None:
                call.caller.lease.end()

    async def refused(self, call: Call, answer: Answer) -> bytes:
        """The provider's own refusal, which it does not bill."""
        body = b""
        try:
            async for chunk in answer.chunks():
                body += chunk
        except ProviderError as error:
            logger.info("a refusal broke off: %s", error)
        finally:
            await _closed(answer)
            failure = Failure(True, "the model API refused the call", answer.status)
            await self.resolve(call, Meter(), failure, answer.headers.get("request-id"))
        return body

    def read_on(self, call: Call, answer: Answer, pass_on: Callable[[bytes | None], None]) -> asyncio.Task[None]:
        """Read the answer to its end, whether anybody still listens, and settle it.

        Args:
            pass_on: is given each piece as it comes, and at last, when the money is settled, ``None``; not so where the
                answer broke off.
        """
        task = asyncio.create_task(self._read(call, answer, pass_on))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)
        return task

    async def _read(self, call: Call, answer: Answer, pass_on: Callable[[bytes | None], None]) -> None:
        meter, pieces, failure = Meter(), b"", None
        streams = "event-stream" in answer.headers.get("content-type", "").lower()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                async for chunk in answer.chunks():
                    pass_on(chunk)
                    if streams:
                        meter.feed(chunk)
                    else:
                        pieces += chunk
            if not streams:
                meter.whole(pieces)
        except (ProviderError, TimeoutError) as error:
            failure = Failure(False, str(error) or "the answer took longer than a call may")
        except BaseException as error:
            failure = Failure(False, f"the gateway broke off ({type(error).__name__})")
            raise
        finally:
            if meter.error is not None:
                failure = failure or Failure(False, f"the stream told an error: {meter.error}")
            await _closed(answer)
            settling = asyncio.ensure_future(self.resolve(call, meter, failure, answer.headers.get("request-id")))
            # The client has all of its answer: it is not to wait for a table that is away.
            await asyncio.wait({settling}, timeout=_SETTLED_SECONDS)
        if failure is None or meter.error is not None:
            pass_on(None)
        await settling

    @property
    def provider(self) -> Provider:
        if self._provider is None:
            self._provider = self._make_provider()
        return self._provider

    def in_flight(self) -> int:
        return len(self._reading)

    async def drain(self, seconds: float) -> None:
        """Wait for calls in flight. Those that are not done by then are left to the sweep."""
        if self._reading:
            await asyncio.wait(set(self._reading), timeout=seconds)

    def _keep_alive(self) -> None:
        if self._alive is None or self._alive.done():
            self._alive = asyncio.create_task(self._beats())

    async def _beats(self) -> None:
        """As long as there are calls, and a little longer."""
        idle = 0
        while idle < 3:
            await asyncio.sleep(self.till.lease_seconds / 3)
            await self.till.keep_alive()
            idle = 0 if self._open else idle + 1


async def _closed(answer: Answer) -> None:
    """A connection that does not close well changes nothing of what the call costs."""
    try:
        await answer.close()
    except Exception as error:  # noqa: BLE001 - whatever it is
        logger.info("an answer could not be closed: %s", type(error).__name__)
