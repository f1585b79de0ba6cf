"""Traces of turns: asked for when a turn rests, made and sent by a function that nothing waits for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, Protocol

from turnkeeper.core.agent import secret_arguments
from turnkeeper.core.errors import SessionNotFound, TurnkeeperError, Unavailable
from turnkeeper.core.ledger import ScopeState
from turnkeeper.core.session import Breakers, Entry, Head, Stop
from turnkeeper.core.spans import Trace
from turnkeeper.core.turn_trace import Rested, trace_of
from turnkeeper.ports import Clock, Redacts
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.store import codec
from turnkeeper.runtime.store.records import Records
from turnkeeper.runtime.store.scores import Scores
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.runtime.store.traced import Traced
from turnkeeper.runtime.store.treasury import Treasury
from turnkeeper.runtime.threads import Parallel, run_one
from turnkeeper.runtime.trace_contents import Shown
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)

SCHEMA = "turnkeeper/trace@1"
#: In the list of agents whose traces may hold contents: all of them.
ALL_AGENTS = "*"

#: What came of a message: its trace was sent, now or before, or its session was erased meanwhile; or it was sent, and
#: some of its spans were refused for good.
Told = Literal["sent", "sent_before", "erased", "refused_in_part"]
#: How long a receiver may take for a trace, all its requests together. The function that sends has a little longer.
SEND_SECONDS = 40.0


class TraceQueue(Protocol):
    """A port: where turns wait whose traces are to be made. All methods raise Unavailable."""

    def send(self, body: str, *, group: str) -> None:
        """At least once; no order. No group holds up another."""

    def put_off(self, receipt: str, receives: int) -> None:
        """Have a message back later, the later the more often it was received."""


class TraceReceiver(Protocol):
    """A port: whoever keeps traces."""

    def send(self, trace: Trace) -> int:
        """How many of its spans were refused for good: sent again, they would be once more. Raises Unavailable where it
        was not taken, or not all of it."""


class PatientReceiver:
    """Waits for the receiver so long: one that answers by a byte now and then keeps no other trace from being put off.
    It is sent nothing more before it has come back, so that it holds one thread and not more."""

    def __init__(self, receiver: TraceReceiver, parallel: Parallel) -> None:
        self._receiver = receiver
        self._parallel = parallel
        self._away = False

    def send(self, trace: Trace) -> int:
        if self._away:
            raise Unavailable("the receiver of traces has not come back from an earlier one", retry_after_seconds=30)

        def sent() -> int:
            try:
                return self._receiver.send(trace)
            finally:
                self._away = False

        self._away = True
        if (done := run_one(self._parallel, sent, seconds=SEND_SECONDS)) is None:
            raise Unavailable(
                f"the receiver of traces took longer than {SEND_SECONDS:.0f} seconds", retry_after_seconds=30
            )
        return done.result()


class NoTrace(TurnkeeperError):
    """A message that asks for no trace, or one of a later version."""

    code = "no_trace"


def request_of(head: Head) -> str:
    """What asks for the trace of a turn that has come to rest: its head as it is now, since the session may go on
    before anybody reads this; without anything that somebody said."""
    scope = head.stop.detail.get("scope") if head.stop is not None else None
    stop = head.stop and Stop(reason=head.stop.reason, detail={"scope": scope} if scope else {})
    turn = replace(head.turn, breakers=Breakers())
    bare = replace(head, prompt=None, metadata={}, flags=(), stop=stop, turn=turn, granted_tools=())
    return json.dumps({"schema": SCHEMA, "head": codec.flat_item(bare)}, separators=(",", ":"))


def head_of_request(body: str) -> Head:
    """Raises NoTrace."""
    try:
        message = json.loads(body)
        if message["schema"] != SCHEMA:
            raise NoTrace(f"a message of another schema: {str(message['schema'])[:60]}")
        return codec.head_of(message["head"])
    except (ValueError, KeyError, TypeError) as error:
        raise NoTrace(f"a message that asks for no trace: {type(error).__name__}") from error


@dataclass(eq=False, repr=False)
class Tracer:
    """Makes traces and sends them."""

    records: Records
    scores: Scores
    tenants: Tenants
    treasury: Treasury
    catalog: Catalog
    traced: Traced
    receiver: TraceReceiver
    redactor: Redacts
    clock: Clock
    provider: str
    #: Agents whose traces may hold what was said.
    contents: tuple[str, ...] = ()

    def tell(self, body: str) -> Told:
        """Send the trace that a message asks for, and note that it was sent. A crash in between leaves it sent twice,
        with the same ids.

        Raises:
            NoTrace: it asks for none.
            Unavailable, StoreBusy: later it may be read, or sent.
        """
        head = head_of_request(body)
        fields.note(**fields.of_head(head))
        if self.traced.is_sent(head):
            return "sent_before"
        try:
            now = self.records.head(head.tenant_id, head.session_id)
        except SessionNotFound:
            return "erased"
        if now.status == "erased":
            return "erased"
        refused = self.receiver.send(trace_of(self._rested(head, now)))
        if not self.traced.note_sent(head, self.clock.now()):
            return "sent_before"
        if refused:
            logger.warning("of a trace that was sent %d spans were refused for good", refused)
            return "refused_in_part"
        return "sent"

    def _rested(self, head: Head, now: Head) -> Rested:
        tenant, session = head.tenant_id, head.session_id
        secret = partial(secret_arguments, self.catalog.find(head.agent))
        assessed = [made for made in self.scores.of_session(tenant, session) if made.turn == head.turn.number]
        return Rested(
            head=head,
            entries=list(self._entries(head)),
            calls=self.records.calls(tenant, session, since=head.turn.first_call, after=head.turn.seq),
            scores=[score for made in assessed for score in made.scores],
            caps=self._caps(now),
            provider="aws.bedrock" if self.provider == "bedrock" else self.provider,
            shows=Shown(self.redactor, secret) if self._may_show(head) else None,
        )

    def _entries(self, head: Head) -> Iterator[Entry]:
        after = head.turn.seq - 1
        while after < head.last_seq and (page := self.records.entries(head.tenant_id, head.session_id, after=after)):
            yield from page
            after = page[-1].seq

    def _caps(self, now: Head) -> list[ScopeState]:
        terms = self.tenants.terms(now.tenant_id)
        return self.treasury.states_of(now, terms)

    def _may_show(self, head: Head) -> bool:
        """A judge and a shadow hold what was said to another agent."""
        about = {head.agent, head.companion.agent if head.companion is not None else head.agent}
        return ALL_AGENTS in self.contents or about <= set(self.contents)
