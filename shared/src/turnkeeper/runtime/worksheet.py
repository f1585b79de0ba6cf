"""A session on the runner's desk: the head as it is stored and as it will be, and what waits for the next write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.errors import LeaseLost
from turnkeeper.core.ledger import iso
from turnkeeper.core.policy import Caps
from turnkeeper.core.session import Entry, Head, Plan, Reservation, RunnerKind, Spec, Status, Stop, Transcript
from turnkeeper.core.transcript import Block, text_block, tool_uses
from turnkeeper.ports import Clock
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.store.changes import Change, Resolved
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.toolbox import Answer


class Worksheet:
    """Collects what happened until the next write takes all of it along.

    ``head`` runs ahead of what is stored: whatever is changed in it between two writes is written with the next one.
    """

    def __init__(
        self, sessions: Sessions, clock: Clock, lease: Lease, transcript: Transcript, runner: RunnerKind
    ) -> None:
        self.head: Head = transcript.head
        self.spec: Spec = transcript.spec
        self.entries: list[Entry] = list(transcript.entries)
        self.early: Mapping[str, Any] = transcript.early_results
        #: Answers to the last message's calls, not yet written, and what the kit tells the model beside them.
        self.answers: list[Answer] | None = None
        self.warnings: list[str] = []
        self.plan: Plan | None = None
        self.audit: list[AuditRecord] = []
        self._stored = transcript.head
        self._sessions = sessions
        self._clock = clock
        self._lease = lease
        self._runner: RunnerKind = runner

    @property
    def stored(self) -> Head:
        """The head as it was last read or written."""
        return self._stored

    def change(self, **fields: Any) -> None:
        """Change the head; the next write takes it along."""
        self.head = self.head.model_copy(update=fields)

    def conversation(self) -> list[Entry]:
        """The entries with the answers that wait."""
        return [*self.entries, *self.waiting()]

    def open_calls(self) -> list[Block]:
        """The calls of the last message that has any say."""
        last = next((entry for entry in reversed(self.entries) if entry.type != "status"), None)
        return tool_uses(last.content) if last is not None and last.type == "assistant" else []

    # ---- entries ----

    def waiting(self) -> tuple[Entry, ...]:
        """The answers that wait, as the next entry."""
        if self.answers is None:
            return ()
        return (self.results_entry(self.head.last_seq + 1, self.answers),)

    def results_entry(self, seq: int, answers: Sequence[Answer]) -> Entry:
        return Entry(
            seq=seq,
            type="tool_results",
            at=self.now(),
            content=(*(block for block, _ in answers), *map(text_block, self.warnings)),
            outcomes=tuple(outcome for _, outcome in answers),
        )

    def note_entry(self, seq: int, note: str) -> Entry:
        return Entry(seq=seq, type="user", at=self.now(), content=(text_block(note),), by_kit=True)

    def status_entry(self, seq: int, status: Status, stop: Stop | None = None) -> Entry:
        """Where the session went; it also tells the cost that no answer could."""
        return Entry(
            seq=seq,
            type="status",
            at=self.now(),
            status=status,
            stop=stop,
            runner=self._runner,
            cost_nanousd=self.head.untold_nanousd,
        )

    # ---- writing ----

    def write(
        self,
        *entries: Entry,
        reserved: Reservation | None = None,
        caps: Caps | None = None,
        price_version: str | None = None,
        resolved: Resolved | None = None,
        **fields: Any,
    ) -> None:
        """One fenced transaction: the head with ``fields``, the entries, and all that waits. Believed only once it is
        written: where it raises, nothing has changed here either.

        Raises:
            LeaseLost: another runner took the session, or our own lease is about to end.
            CountersRefused: a counter did not admit the reservation.
            StoreBusy: the table cannot be written.
        """
        self.raise_if_lost()
        last_seq = entries[-1].seq if entries else self.head.last_seq
        after = self.head.model_copy(update={"updated_at": self.now(), "last_seq": last_seq, "claims": 0, **fields})
        written = self._sessions.commit(
            Change(
                self._stored,
                after,
                entries=entries,
                plan=self.plan,
                reserved=reserved,
                caps=caps,
                price_version=price_version,
                resolved=resolved,
                audit=tuple(self.audit),
            )
        )
        self._stored = self.head = written
        self.entries.extend(entries)
        self.audit, self.plan = [], None
        if any(entry.type == "tool_results" for entry in entries):
            self.answers, self.warnings, self.early = None, [], {}

    def drop_waiting(self) -> None:
        """Forget what waits for the next write, because it cannot be written."""
        self.answers, self.warnings, self.audit, self.plan = None, [], [], None

    def raise_if_lost(self) -> None:
        if self._lease.lost:
            raise LeaseLost("the lease ended", session_id=self.head.session_id)

    def now(self) -> str:
        return iso(self._clock.now())

    def elapsed_seconds(self) -> float:
        """Since the turn began, over all runners."""
        return (self._clock.now() - datetime.fromisoformat(self.head.turn_started_at)).total_seconds()
