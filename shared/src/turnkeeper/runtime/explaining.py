"""Gathers what a session's story is told of: see :mod:`turnkeeper.core.story.telling`."""

from __future__ import annotations

from dataclasses import dataclass

from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle.losing import silent_since
from turnkeeper.core.session import Head
from turnkeeper.core.story.facts import Facts, Scored, Story
from turnkeeper.core.story.telling import tell
from turnkeeper.ports import Clock, Redacts
from turnkeeper.runtime.intake import Intake
from turnkeeper.runtime.store.scores import Scores
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.tenants import Tenants, audit_records
from turnkeeper.runtime.store.treasury import Treasury

_NEEDED = frozenset({"kind", "seq", "at"})


@dataclass(eq=False, repr=False)
class Explaining:
    sessions: Sessions
    scores: Scores
    tenants: Tenants
    treasury: Treasury
    intake: Intake
    redactor: Redacts
    clock: Clock

    def explain(self, head: Head, turn: int | None = None, *, admin: bool) -> Story:
        """The story of a session as it is stored now, or of one of its turns.

        Args:
            admin: told to somebody who may know of all of the tenant's money.

        Raises:
            InvalidRequest: the session has no such turn.
            SessionNotFound: it is gone.
        """
        tenant_id, session_id = head.tenant_id, head.session_id
        transcript = self.sessions.load(tenant_id, session_id)
        head = transcript.head
        if turn is not None and not 1 <= turn <= head.turn.number:
            where = [{"where": "query turn", "why": f"from 1 to {head.turn.number}"}]
            raise InvalidRequest(f"the session has the turns 1 to {head.turn.number}", errors=where)
        terms = self.tenants.terms(tenant_id)
        silent = silent_since(head, self.clock.now(), self.sessions.lease_seconds)
        records = audit_records(self.sessions.audit(tenant_id, session_id))
        scopes = self.treasury.states_of(head, terms)
        facts = Facts(
            head=head,
            entries=transcript.entries,
            calls=self.sessions.calls(tenant_id, session_id),
            # The trail is evidence, and may be anything: what is no record says nothing here.
            records=[record for record in records if record.keys() >= _NEEDED],
            scored=[
                Scored(made.turn, made.at, score)
                for made in self.scores.of_session(tenant_id, session_id)
                for score in made.scores
            ],
            scopes=scopes,
            paused=terms.tenant.paused,
            most_iterations=self.intake.most_iterations(head),
            capped_by_agent=scopes[0].cap != terms.caps.cap("task"),
            silent_since=iso(silent) if silent and not head.resting else None,
            admin=admin,
            now=self.clock.now(),
            redact=self.redactor.redact_text,
        )
        return tell(facts, turn)
