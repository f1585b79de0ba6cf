"""Who calls: the holder of a token that the table knows, or of one that this process made for a lease."""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from turnkeeper.core.errors import CostCapExceeded, Forbidden, TenantPaused, TurnkeeperError, Unauthenticated
from turnkeeper.core.ledger import Payer
from turnkeeper.core.money import parse_usd
from turnkeeper.core.session import Head
from turnkeeper.ports import Clock
from turnkeeper.runtime.store.gateway_tokens import PREFIX, GatewayToken, GatewayTokens
from turnkeeper.runtime.store.purses import Purse
from turnkeeper.runtime.store.sessions import held
from turnkeeper.table import AnyOf, Cond

#: A token is read again after this long; that it was revoked holds at once, by the condition of each reservation.
_REMEMBERED_SECONDS = 30.0
_MOST_REMEMBERED = 10_000
_LEASE_PREFIX = "tkgl."


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose money a call spends, and what the ledger says of the caller."""

    purse: Purse
    detail: Mapping[str, str] = field(default_factory=dict)
    lease: Lease | None = None
    token: GatewayToken | None = None

    def check(self, now: datetime) -> None:
        """Raises Forbidden where it may make no call any more, however long ago its request began."""
        if self.token is not None:
            self.token.check(now)
        if self.lease is not None:
            self.lease.check()

    @property
    def tenant_id(self) -> str:
        return self.purse.payer.tenant_id


class Lease:
    """A session whose calls go through the gateway for as long as its runner has it."""

    def __init__(self, head: Head) -> None:
        self.tenant_id = head.tenant_id
        self.session_id = head.session_id
        own = head.limits.task_usd
        self.purse = Purse(
            Payer(head.tenant_id, head.user_id, head.agent, head.session_id),
            parse_usd(own) if own is not None else None,
            (held(head, _NOT_CANCELLED),),
        )
        #: What stopped its latest call, if anything of the gateway's own did.
        self.refusal: TurnkeeperError | None = None
        self._in_flight = 0
        self._closed = False
        self._changed = threading.Condition()

    def note(self, refusal: TurnkeeperError | None) -> None:
        """What became of its latest call. One that a cap or the kill switch has refused is remembered for good:
        whichever of the session's agents it was, the turn is to end, also where a smaller call still fits."""
        with self._changed:
            if not _is_final(self.refusal):
                self.refusal = refusal

    def check(self) -> None:
        """Raises Forbidden once it was closed."""
        if self._closed:
            raise Forbidden("the session's runner has let it go")

    def begin(self) -> None:
        with self._changed:
            self.check()
            self._in_flight += 1

    def close(self) -> None:
        with self._changed:
            self._closed = True

    def end(self) -> None:
        with self._changed:
            self._in_flight -= 1
            self._changed.notify_all()

    def wait_until_idle(self, seconds: float) -> bool:
        """Whether every call was resolved."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_flight, seconds)


def _is_final(refusal: TurnkeeperError | None) -> bool:
    return isinstance(refusal, TenantPaused) or (isinstance(refusal, CostCapExceeded) and not refusal.contended)


#: Nobody asked the session's runner to stop.
_NOT_CANCELLED = AnyOf((Cond("cancel_requested", "absent"), Cond("cancel_requested", "=", False)))


class Callers:
    def __init__(self, tokens: GatewayTokens, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, tuple[float, GatewayToken]] = OrderedDict()
        self._leases: dict[str, Lease] = {}

    def open(self, head: Head) -> str:
        token = _LEASE_PREFIX + secrets.token_urlsafe(32)
        with self._lock:
            self._leases[token] = Lease(head)
        return token

    def lease(self, token: str) -> Lease:
        """Raises KeyError where there is none."""
        with self._lock:
            return self._leases[token]

    def close(self, token: str) -> Lease:
        """Its next call is refused."""
        with self._lock:
            lease = self._leases.pop(token)
        lease.close()
        return lease

    def caller(self, headers: Mapping[str, str], *, anew: bool = False) -> Caller | None:
        """Who it is, as far as this process remembers; ``None`` where the table has to be read.

        Raises:
            Unauthenticated: no token.
            Forbidden: it is valid no more.
        """
        text = _shown(headers)
        if text.startswith(_LEASE_PREFIX):
            with self._lock:
                lease = self._leases.get(text)
            if lease is None:
                raise Forbidden("the session's runner has let it go")
            return Caller(lease.purse, {}, lease)
        with self._lock:
            read_at, token = self._remembered.get(_digest(text), (0.0, None))
        if anew or token is None or self._clock.monotonic() - read_at >= _REMEMBERED_SECONDS:
            return None
        return self._holding(token)

    def read(self, headers: Mapping[str, str]) -> Caller:
        """Who it is, read from the table.

        Raises:
            Unauthenticated: no token, or none of ours.
            Forbidden: it is valid no more.
        """
        text, now = _shown(headers), self._clock.monotonic()
        token = self._tokens.check(text)
        with self._lock:
            self._remembered[_digest(text)] = now, token
            while len(self._remembered) > _MOST_REMEMBERED:
                self._remembered.popitem(last=False)
        return self._holding(token)

    def _holding(self, token: GatewayToken) -> Caller:
        token.check(self._clock.now())
        return Caller(token.purse, {"label": token.label} if token.label else {}, token=token)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _shown(headers: Mapping[str, str]) -> str:
    """The token that the client shows: where it sends two, as with a key of its own that it was not meant to, ours."""
    kind, _, bearer = headers.get("authorization", "").partition(" ")
    sent = [bearer.strip() if kind.lower() == "bearer" else "", headers.get("x-api-key", "").strip()]
    shown = sorted(filter(None, sent), key=lambda text: not text.startswith((f"{PREFIX}.", _LEASE_PREFIX)))
    if not shown:
        raise Unauthenticated("no token: send it as `Authorization: Bearer` or as `x-api-key`")
    return shown[0]
