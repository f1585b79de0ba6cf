"""Taking work in: new sessions, new inputs, sessions that go on, cancels. Used by the front door and by the worker.

What a session is given is composed here, once: agent, plan and role make the grant and the limits. Nothing in a
request's body can widen either.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from turnkeeper.core.agent import Agent, Placement
from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.continuation import Continuation
from turnkeeper.core.decide import go_on_note, resumable, resumed
from turnkeeper.core.errors import (
    AgentNotFound,
    Forbidden,
    InvalidRequest,
    SessionBusy,
    SessionEnded,
    SessionNotFound,
    TenantPaused,
)
from turnkeeper.core.ledger import iso
from turnkeeper.core.policy import Policy, Terms, compose_grant, limits_of, may_use, tightest
from turnkeeper.core.session import Breakers, Entry, Handoff, Head, Spec, Stop
from turnkeeper.core.transcript import Block, text_block, unanswered, user_content
from turnkeeper.ports import Clock, Ids, Prices
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.requests import definitions
from turnkeeper.runtime.store.sessions import Once, Sessions
from turnkeeper.runtime.store.tenants import Tenants

MOST_ITERATIONS = 1_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking, from the authorizer."""

    tenant_id: str
    user_id: str
    role: str


@dataclass(frozen=True, slots=True)
class NewSession:
    agent: str
    input: str | list[Block]
    metadata: Mapping[str, Any]
    placement: Placement | None = None


@dataclass(frozen=True)
class Intake:
    sessions: Sessions
    tenants: Tenants
    policy: Policy
    catalog: Catalog
    prices: Prices
    auditor: Auditor
    clock: Clock
    ids: Ids

    # ---- new sessions ----

    def create(
        self,
        who: Identity,
        request: NewSession,
        *,
        once: Once | None = None,
        session_id: str | None = None,
        even_paused: bool = False,
    ) -> Head:
        """A session with its first input, on its way to a runner: ``handoff`` says to which.

        Args:
            even_paused: take the input in also while the tenant is paused: its first call stops it, resumable.

        Raises:
            AgentNotFound: no such agent, or the tenant's plan does not hold it.
            TenantPaused: the kill switch is on.
            UnpricedModel: nobody can price its model; nothing was spent.
            SessionBusy: a session of this id exists.
            AlreadyDone: the idempotency key was used.
        """
        agent = self.catalog.get(request.agent)
        terms = self.tenants.terms(who.tenant_id)
        if not may_use(agent.name, terms.plan):
            raise AgentNotFound(f"there is no agent {agent.name!r}", agent=agent.name)
        if terms.tenant.paused and not even_paused:
            raise TenantPaused(f"tenant {who.tenant_id} is paused by its operator")
        self.prices.rates(agent.model, agent.model_options)
        head, spec = self._compose(who, agent, terms, request, session_id or self.ids.session_id())
        entry = Entry(seq=1, type="user", at=head.created_at, content=user_content(request.input))
        records = (
            self.auditor.record(head, "session_created", agent=agent.name, placement=head.placement, role=who.role),
            self.auditor.record(head, "grant", tools=list(head.granted_tools), role=who.role),
        )
        return self.sessions.create(head, spec, entry, records, once)

    def _compose(
        self, who: Identity, agent: Agent, terms: Terms, request: NewSession, session_id: str
    ) -> tuple[Head, Spec]:
        role = self.policy.role(who.role)
        tools = agent.all_tools()
        granted = compose_grant(tools, terms.plan, role)
        now = iso(self.clock.now())
        placement = request.placement or agent.placement
        head = Head(
            tenant_id=who.tenant_id,
            session_id=session_id,
            user_id=who.user_id,
            role=who.role,
            agent=agent.name,
            placement=placement,
            metadata=dict(request.metadata),
            created_at=now,
            updated_at=now,
            turn_started_at=now,
            last_seq=1,
            granted_tools=granted,
            limits=limits_of(agent, terms.plan, role),
            done=agent.done,
            **_on_its_way(placement, now),
        )
        spec = Spec(
            model=agent.model,
            system=agent.system,
            tools=definitions([tool for tool in tools if tool.name in granted], agent.done),
            model_options=agent.model_options,
        )
        return head, spec

    # ---- turns ----

    def post(
        self, head: Head, value: str | list[Block], *, who: Identity | None = None, once: Once | None = None
    ) -> Head:
        """A user's next input to a session at rest.

        Args:
            who: whoever says it. With a lesser role than the session was made with, the turn has fewer tools.

        Raises:
            SessionBusy: a turn is running.
            SessionEnded: it has ended; ``status`` says how.
            AlreadyDone: the idempotency key was used.
        """
        if head.ended:
            raise SessionEnded(f"the session is {head.status}", session_id=head.session_id, status=head.status)
        if not head.resting:
            raise SessionBusy("a turn is running", session_id=head.session_id, status=head.status)
        now = iso(self.clock.now())
        seq = head.last_seq + 1
        after = head.model_copy(
            update={
                "turn": head.turn + 1,
                "turn_seq": seq,
                "turn_started_at": now,
                "last_seq": seq,
                "stop": None,
                "iterations": 0,
                "breakers": Breakers(),
                "attempts": 0,
                "nudged": False,
                "cancel_requested": False,
                "cancel_actor": None,
                "put_backs": 0,
                "updated_at": now,
                **_on_its_way(head.placement, now),
            }
        )
        entry = Entry(seq=seq, type="user", at=now, content=user_content(value))
        after, records = self._by(after, who)
        return self.sessions.start_turn(head, after, (entry,), once, audit=records)

    def _by(self, head: Head, who: Identity | None) -> tuple[Head, tuple[AuditRecord, ...]]:
        """The head of a turn that this caller begins, and a record where that changes what it is given."""
        role = who.role if who is not None and who.role != head.role else None
        if role == head.turn_role:
            return head, ()
        after = head.model_copy(update={"turn_role": role})
        actor = who.user_id if who is not None else None
        return after, (self.auditor.record(head, "grant", actor=actor, turn=head.turn, role=role or head.role),)

    def resume(
        self,
        head: Head,
        *,
        max_iterations: int | None = None,
        clear_flags: bool = False,
        actor: str | None = None,
        who: Identity | None = None,
        once: Once | None = None,
    ) -> Head:
        """A stopped session goes on in the same turn, as far as the limit that ended it allows now. A limit that is
        raised and flags that are cleared go onto the session's audit chain, in the same write.

        Args:
            actor: the operator whose word it is; ``None`` where it is the session's own user.
            who: as for :meth:`post`.

        Raises:
            SessionBusy: somebody else did so first, or it is running.
            SessionEnded: there is nothing to go on with.
            InvalidRequest: fewer iterations than one.
            Forbidden: more iterations than the tenant's plan and the session's role allow.
            AlreadyDone: the idempotency key was used.
        """
        if not head.resting:
            raise SessionBusy("a turn is running", session_id=head.session_id, status=head.status)
        if not resumable(head):
            raise SessionEnded(f"the session is {head.status}", session_id=head.session_id, status=head.status)
        now = iso(self.clock.now())
        after = resumed(head).model_copy(update={"updated_at": now, **_on_its_way(head.placement, now)})
        if max_iterations is not None:
            if max_iterations < 1:
                raise InvalidRequest("max_iterations is at least 1")
            most = self._most_iterations(head)
            if max_iterations > most:
                raise Forbidden(f"max_iterations is at most {most} for this session")
            after = after.model_copy(
                update={"limits": head.limits.model_copy(update={"max_iterations": max_iterations})}
            )
        if head.stop is not None and head.stop.reason == "deadline":
            after = after.model_copy(update={"turn_started_at": now})
        if clear_flags:
            after = after.model_copy(update={"flags_cleared_seq": head.last_seq})
        after, records = self._by(after, who)
        if actor is not None or max_iterations is not None or clear_flags:
            records = (*records, self._operated(head, "resume", actor, max_iterations, clear_flags))
        note = go_on_note(self.sessions.load(head.tenant_id, head.session_id).entries)
        entries: tuple[Entry, ...] = ()
        if note is not None:
            entry = Entry(seq=head.last_seq + 1, type="user", at=now, content=(text_block(note),), by_kit=True)
            entries, after = (entry,), after.model_copy(update={"last_seq": entry.seq})
        return self.sessions.start_turn(head, after, entries, once, audit=records)

    def clear_flags(self, head: Head, *, actor: str) -> Head:
        """Let ``once`` tools run again in a session that rests and may be spoken to: nothing else changes.

        Raises:
            SessionBusy: a turn is running.
            SessionEnded: it has ended.
        """
        if head.ended:
            raise SessionEnded(f"the session is {head.status}", session_id=head.session_id, status=head.status)
        if not head.resting:
            raise SessionBusy("a turn is running", session_id=head.session_id, status=head.status)
        after = head.model_copy(update={"flags_cleared_seq": head.last_seq, "updated_at": iso(self.clock.now())})
        record = self._operated(head, "clear_flags", actor, None, True)
        return self.sessions.start_turn(head, after, (), None, audit=(record,))

    def _operated(
        self, head: Head, action: str, actor: str | None, max_iterations: int | None, clear_flags: bool
    ) -> AuditRecord:
        detail: dict[str, Any] = {"action": action}
        if max_iterations is not None:
            detail |= {"max_iterations": max_iterations, "before": head.limits.max_iterations}
        if clear_flags:
            detail |= {"clear_flags": True, "up_to_seq": head.last_seq}
        return self.auditor.record(head, "operator_action", actor=actor, **detail)

    def _most_iterations(self, head: Head) -> int:
        """The agent's own limit can be raised for a session; those of its tenant's plan and its role cannot."""
        plan = self.tenants.terms(head.tenant_id).plan
        role = self.policy.role(head.role)
        return tightest(MOST_ITERATIONS, plan.limits.max_iterations, role.limits.max_iterations) or MOST_ITERATIONS

    # ---- whose session ----

    def owned(self, who: Identity, session_id: str) -> Head:
        """The head of a session that this caller may see; another tenant's or user's does not exist for it.

        Raises:
            SessionNotFound
        """
        head = self.sessions.head(who.tenant_id, session_id)
        if head.user_id != who.user_id and not self.policy.role(who.role).admin:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return head

    def continued(self, who: Identity, token: Continuation) -> Head:
        """The head of the session that a continuation token is for.

        Raises:
            SessionNotFound: it is another tenant's or user's.
        """
        if (token.tenant_id, token.user_id) != (who.tenant_id, who.user_id):
            raise SessionNotFound("there is no such session")
        return self.sessions.head(token.tenant_id, token.session_id)

    # ---- cancel ----

    def cancel(self, head: Head, *, actor: str) -> Head:
        """Ask a running session to stop at the next safe point; one that needs no runner for it is cancelled at once.

        Raises:
            SessionEnded: it has ended already.
        """
        while not head.ended:
            try:
                if head.resting or self._can_end_in_queue(head):
                    return self._cancel_now(head, actor)
                return self.sessions.request_cancel(head.tenant_id, head.session_id, actor)
            except (SessionBusy, SessionEnded):  # A runner took it, or it came to rest, between the two.
                head = self.sessions.head(head.tenant_id, head.session_id)
        raise SessionEnded(f"the session is {head.status}", session_id=head.session_id, status=head.status)

    def _can_end_in_queue(self, head: Head) -> bool:
        """No runner has it, and it was put back at a safe point: nothing waits for an answer or for its money."""
        if head.status != "queued" or head.lease_owner is not None or head.pending is not None:
            return False
        return not unanswered(self.sessions.load(head.tenant_id, head.session_id).entries)

    def _cancel_now(self, head: Head, actor: str) -> Head:
        now = iso(self.clock.now())
        stop = Stop(reason="cancelled")
        cost = head.untold_nanousd
        entry = Entry(seq=head.last_seq + 1, type="status", at=now, status="cancelled", stop=stop, cost_nanousd=cost)
        resting = {"status": "cancelled", "stop": stop, "handoff": None, "put_backs": 0, "untold_nanousd": 0}
        after = head.model_copy(update={**resting, "last_seq": entry.seq, "updated_at": now})
        record = self.auditor.record(head, "cancel", actor=actor, reason="cancelled")
        return self.sessions.start_turn(head, after, (entry,), None, audit=(record,))


def _on_its_way(placement: Placement, now: str) -> dict[str, Any]:
    """The head's fields of a session that a runner is about to be asked for."""
    if placement == "background":
        return {"status": "queued", "handoff": Handoff(to="queue", at=now)}
    return {"status": "running", "handoff": Handoff(to="function", at=now)}
