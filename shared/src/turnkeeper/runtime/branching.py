"""Ways on for a conversation that went wrong: take its end back, or go on in a copy of an earlier state."""

from __future__ import annotations

from dataclasses import dataclass, replace

from turnkeeper.core import branching
from turnkeeper.core.branching import OnceCall
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.lifecycle import taking
from turnkeeper.core.lifecycle.change import ended
from turnkeeper.core.session import Head
from turnkeeper.core.transcript import Block
from turnkeeper.runtime.intake import Identity, Intake, NewSession
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.idempotency import IdempotencyKey
from turnkeeper.table import Check, Cond


@dataclass(frozen=True, slots=True)
class Rewound:
    """What a rewind of a session took out of later requests, and what of it cannot be taken back."""

    left_out: tuple[int, ...]
    once_calls: tuple[OnceCall, ...]


@dataclass(eq=False, repr=False)
class Branching:
    intake: Intake

    def rewind(
        self,
        who: Identity,
        head: Head,
        *,
        turns: int | None = None,
        to_seq: int | None = None,
        key: IdempotencyKey | None = None,
    ) -> Head:
        """Take the latest turns, or everything behind an entry, out of later requests.

        Raises:
            InvalidRequest: the session has no such entry.
            SessionBusy, SessionEnded: it does not rest, or has ended: then a fork is the way on.
            AlreadyDone: the idempotency key was used.
        """
        _must_be_of_the_kit(head.engine, "taken back in")
        sessions = self.intake.sessions
        transcript = sessions.load(head.tenant_id, head.session_id)
        entries = transcript.entries
        if to_seq is None:
            to_seq = branching.before_turns(entries, turns or 1)
        if to_seq > head.last_seq:
            raise InvalidRequest(f"the session has no entry {to_seq}; its last is {head.last_seq}")
        left_out = branching.withdrawal(entries, to_seq)
        change = taking.rewind(head, self.intake.clock.now(), left_out, who.user_id)
        if transcript.plan is not None:
            plan = branching.plan_of([*entries, *change.entries])
            change = replace(change, plan=plan, unplanned=plan is None)
        return sessions.write_at_rest(head, change, key)

    def rewound(self, head: Head, seq: int | None = None) -> Rewound:
        """What the latest rewind did, of those up to an entry where one is named; nothing where there was none."""
        transcript = self.intake.sessions.load(head.tenant_id, head.session_id)
        rewinds = [entry for entry in transcript.entries if entry.type == "rewind"]
        latest = next((entry for entry in reversed(rewinds) if seq is None or entry.seq <= seq), None)
        marks = latest.left_out if latest else ()
        effects = {definition.name: definition.effect for definition in self.intake.sessions.spec_of(transcript).tools}
        calls = branching.once_calls(transcript.entries, marks, effects)
        return Rewound(tuple(mark.seq for mark in marks), tuple(calls))

    def fork(
        self,
        who: Identity,
        source: Head,
        *,
        at_seq: int | None = None,
        value: str | list[Block] | None = None,
        agent: str | None = None,
        key: IdempotencyKey | None = None,
    ) -> Head:
        """A new session of this caller with the conversation up to an entry: its own money, and never more tools than
        the other session has.

        Args:
            at_seq: the last entry that is copied; ``None`` for all.
            value: its first input of its own; without one it waits for it.

        Raises:
            InvalidRequest: the session has no such entry.
            SessionEnded: its contents were erased.
            SessionBusy: they were while it was copied.
            AgentNotFound, UnpricedModel, ContentUnusable, AlreadyDone: as for a new session.
        """
        if source.status == "erased":
            raise ended(source)
        if at_seq is not None and at_seq > source.last_seq:
            raise InvalidRequest(f"the session has no entry {at_seq}; its last is {source.last_seq}")
        intake = self.intake
        definition, terms = intake.admitted(who, agent or source.agent)
        _must_be_of_the_kit(source.engine or definition.engine, "copied from or to")
        content = None if value is None else intake.content_of(value)
        request = NewSession(definition.name, value or "", source.metadata)
        head = intake.compose(who, definition, terms, request, intake.ids.session_id())
        loaded = intake.sessions.load(source.tenant_id, source.session_id)
        if loaded.head.status == "erased":  # Since its head was read.
            raise ended(loaded.head)
        copies = branching.copied(loaded.entries, source.last_seq if at_seq is None else at_seq)
        change = taking.fork(head, intake.clock.now(), source, copies, content)
        change = replace(change, plan=branching.plan_of(copies))
        change = change if content is None else intake.held_back(change, terms)
        # What was erased must not come back in a copy that was begun before.
        not_erased = Check(keys.head_key(source.tenant_id, source.session_id), (Cond("status", "<>", "erased"),))
        return intake.sessions.create(change, key, beside=[not_erased])


def _must_be_of_the_kit(engine: str | None, what: str) -> None:
    """What another engine remembers of a conversation is not here to be cut or copied."""
    if engine is not None:
        raise InvalidRequest(f"turns cannot be {what} a session of {engine}: begin a new one")
