"""A session on the runner's desk: the head as it is stored and as it will be, and what waits for the next write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.conversation import Conversation
from turnkeeper.core.errors import LeaseLost, Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle.change import Change
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import Entry, Head, Plan, Spec, ToolOutcome, Transcript
from turnkeeper.core.transcript import Block, text_block, unanswered
from turnkeeper.ports import Clock, Ids
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.pauses import pause
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.table import StoreBusy
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)


class Worksheet:
    """Collects what happened until the next write takes all of it along.

    ``head`` runs ahead of what is stored: a head that :mod:`turnkeeper.core.lifecycle` makes may be put there between
    two writes, and is written with the next one.
    """

    def __init__(
        self,
        sessions: Sessions,
        clock: Clock,
        ids: Ids,
        lease: Lease,
        transcript: Transcript,
        spec: Spec,
        time_is_up: Callable[[], bool],
    ) -> None:
        self.head: Head = transcript.head
        self.spec: Spec = spec
        #: The grant as this runner found it.
        self.granted_before = frozenset(transcript.head.granted_tools)
        self.kept = Conversation(transcript.entries)
        self.early: Mapping[str, Any] = transcript.early_results
        #: Answers to the last message's calls, not yet written, and what the kit tells the model beside them.
        self.answers: list[tuple[Block, ToolOutcome]] | None = None
        self.warnings: list[str] = []
        #: What the step has changed the plan to, not yet written, and the plan as it was kept last.
        self.plan: Plan | None = None
        self.kept_plan: Plan | None = transcript.plan
        self.audit: list[AuditRecord] = []
        #: A system prompt that was made, not yet written.
        self.prompt: str | None = None
        #: The entry of the answers and warnings that it was made of.
        self._unwritten: tuple[object, int, tuple[Entry, ...]] = (None, 0, ())
        self._stored = transcript.head
        self._sessions = sessions
        self._clock = clock
        self._ids = ids
        self._lease = lease
        self._time_is_up = time_is_up

    @property
    def stored(self) -> Head:
        """The head as it was last read or written."""
        return self._stored

    @property
    def entries(self) -> list[Entry]:
        """What is written of the transcript."""
        return self.kept.entries

    def conversation(self) -> list[Entry]:
        """The entries with the answers that wait. Of when those will be written it says nothing: they are put
        together once, however often a step asks."""
        answers, warnings, waiting = self._unwritten
        if answers is not self.answers or warnings != len(self.warnings):
            waiting = self.waiting()
            self._unwritten = (self.answers, len(self.warnings), waiting)
        return [*self.entries, *waiting]

    def open_calls(self) -> list[Block]:
        """The calls of the last message that is part of the conversation."""
        return unanswered(self.entries)

    def waiting(self) -> tuple[Entry, ...]:
        """The answers that wait, as the entry that they will be."""
        return () if self.answers is None else (self.results_entry(self.answers),)

    def results_entry(self, answers: list[tuple[Block, ToolOutcome]]) -> Entry:
        return Entry(
            type="tool_results",
            at=iso(self.now()),
            content=(*(block for block, _ in answers), *map(text_block, self.warnings)),
            outcomes=tuple(outcome for _, outcome in answers),
        )

    # ---- writing ----

    def keep(self, change: Change) -> None:
        """A change without entries or money, for the next write to take along."""
        self.head = change.head
        self.prompt = change.prompt or self.prompt
        self.audit.extend(change.audit)

    def write(self, change: Change) -> None:
        """One fenced transaction: the change, and all that waits. Believed only once it is written: where it raises,
        nothing has changed here either.

        An answer is paid for and a tool's call was made, so a table that is busy, out of reach or refuses this for now
        is tried again for as long as the lease lasts.

        Raises:
            LeaseLost: another runner took the session, or our own lease is about to end.
            CountersRefused: a counter did not admit the reservation.
            StoreBusy: the table could not be written until this runner's time was up.
            Unavailable: the same, or answers were lost; it may have been written.
        """
        whole = replace(change, plan=self.plan, prompt=self.prompt, audit=(*self.audit, *change.audit))
        self._stored = self.head = self._commit(whole)
        fields.note(**fields.of_head(self.head))
        self.kept.extend(change.entries)
        self.kept_plan = self.plan or self.kept_plan
        self.audit, self.plan, self.prompt = [], None, None
        if any(entry.type == "tool_results" for entry in change.entries):
            self.answers, self.warnings, self.early = None, [], {}

    def _commit(self, change: Change) -> Head:
        attempt = 0
        while True:
            self.raise_if_lost()
            try:
                return self._sessions.commit(self._stored, change)
            except (StoreBusy, Unavailable) as error:
                # What may have been written is refused the second time, where it has entries.
                may_repeat = isinstance(error, StoreBusy) or bool(change.entries)
                if self._time_is_up() or not may_repeat:
                    raise
                if not attempt:
                    # Its operator may have to mend it, while this waits.
                    logger.warning("a step cannot be written, and is tried again: %s", error)
            pause(self._clock, self._ids, attempt)
            attempt += 1

    def drop_waiting(self) -> None:
        """Forget what waits for the next write, because it cannot be written."""
        self.answers, self.warnings, self.plan, self.prompt = None, [], None, None
        # What the head says already is written whatever happens, and so is the record of it.
        self.audit = [record for record in self.audit if record.kind != "tool_call"]

    def raise_if_lost(self) -> None:
        if self._lease.lost:
            raise LeaseLost("the lease ended", session_id=self.head.session_id)

    def cancel_actor(self) -> str | None:
        """Who asked for the cancel; it may have been asked for since the head was read."""
        return self._sessions.cancel_actor(self.head)

    def now(self) -> datetime:
        return self._clock.now()

    def elapsed_seconds(self) -> float:
        """Since the turn began, over all runners."""
        return (self._clock.now() - datetime.fromisoformat(self.head.turn.started_at)).total_seconds()
