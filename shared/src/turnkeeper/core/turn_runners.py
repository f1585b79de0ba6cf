"""Where a turn was, when: its runners one after another, what lay between them, and which of them were lost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from turnkeeper.core.lost_runners import LostRunner
from turnkeeper.core.session import RESTING, Entry, Run, RunnerKind
from turnkeeper.core.spans import nanoseconds


@dataclass(slots=True, kw_only=True)
class Part:
    """What one runner did of a turn, without a break."""

    id: str
    kind: RunnerKind | None
    #: The entry that is the first sign of it.
    seq: int
    #: Since when the turn was on its way to it; ``None`` where it took the turn from one that was lost.
    asked_ns: int | None
    claimed_ns: int
    #: When it let go, or was last heard of.
    end_ns: int
    #: What the turn waited for on its way to it, where that was said.
    waited_for: str | None = None
    lost: LostRunner | None = None
    #: When somebody noticed that it was lost, and the entry that tells.
    noticed_ns: int = 0
    lost_seq: int = 0

    def heard(self, at_ns: int) -> None:
        """It did something then."""
        if self.lost is None or at_ns <= self.noticed_ns:
            self.end_ns = max(self.end_ns, at_ns)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    parts: tuple[Part, ...]
    #: The turn was on its way from then on, and no runner came before it ended.
    unclaimed_ns: int | None

    def at(self, at_ns: int) -> Part | None:
        """The runner that had the turn then."""
        return next((part for part in reversed(self.parts) if part.claimed_ns <= at_ns), None)


def whereabouts(entries: Sequence[Entry], begin_ns: int, busy_ns: Iterable[int]) -> Whereabouts:
    """Where a stretch of a turn was, by its entries.

    A runner that takes up open calls and hands them on before any of them has ended leaves no entry: its time counts as
    that of the one before it.

    Args:
        begin_ns: when the stretch began; it was on its way to a runner then.
        busy_ns: moments at which runners did something that no entry has the time of.
    """
    walk = _Walk(begin_ns)
    for entry in entries:
        walk.see(entry)
    found = Whereabouts(tuple(walk.parts), walk.on_its_way_ns)
    for moment in sorted(busy_ns):
        if (part := found.at(moment)) is not None and (part.lost is not None or part is found.parts[-1]):
            part.heard(moment)
    return found


class _Walk:
    def __init__(self, begin_ns: int) -> None:
        self.parts: list[Part] = []
        #: Of the runner that has the turn.
        self.current: Part | None = None
        self.on_its_way_ns: int | None = begin_ns
        self.waits_for: str | None = None

    def see(self, entry: Entry) -> None:
        at_ns = nanoseconds(entry.at)
        if entry.lost_runner is not None:
            self._lost(entry, entry.lost_runner, at_ns)
            return
        if entry.run is not None:
            self._claimed(entry.run, entry.seq)
        if self.current is not None:
            self.current.heard(at_ns)
        if entry.type == "status":
            self._let_go(entry, at_ns)

    def _let_go(self, entry: Entry, at_ns: int) -> None:
        rests = entry.status in RESTING
        if self.current is not None or not rests:
            self.on_its_way_ns = None if rests else at_ns
        self.waits_for = entry.reason
        self.current = None

    def _claimed(self, run: Run, seq: int) -> None:
        claimed_ns = nanoseconds(run.claimed_at)
        asked_ns = self.on_its_way_ns
        if asked_ns is None and run.asked_at is not None:
            # Handed on with calls open, which no entry tells.
            asked_ns = nanoseconds(run.asked_at)
            if self.current is not None:
                self.current.heard(asked_ns)
        self._begins(run.id, run.kind, seq, asked_ns, claimed_ns)

    def _lost(self, entry: Entry, lost: LostRunner, at_ns: int) -> None:
        own = entry.run if entry.run is not None and lost.taken_over_by == "sweep" else None
        if own is not None:
            self._claimed(own, entry.seq)
        elif lost.claimed_at is not None or self.current is None:
            # It left no entry of its own.
            claimed_ns = nanoseconds(lost.claimed_at or lost.last_heard_at)
            self._begins(lost.id, entry.runner, entry.seq, self.on_its_way_ns, claimed_ns)
        part = self.current
        assert part is not None, "each of the ways above has begun one"
        part.heard(min(nanoseconds(lost.last_heard_at), at_ns))
        part.lost, part.noticed_ns, part.lost_seq = lost, max(at_ns, part.end_ns), entry.seq
        self.current = None
        if lost.taken_over_by == "sweep":
            self.on_its_way_ns = at_ns
        elif entry.run is not None:
            self._begins(entry.run.id, entry.run.kind, entry.seq, None, nanoseconds(entry.run.claimed_at))

    def _begins(self, id: str, kind: RunnerKind | None, seq: int, asked_ns: int | None, claimed_ns: int) -> None:
        asked_ns = None if asked_ns is None else min(asked_ns, claimed_ns)
        self.current = Part(
            id=id, kind=kind, seq=seq, asked_ns=asked_ns, claimed_ns=claimed_ns, end_ns=claimed_ns,
            waited_for=self.waits_for,
        )  # fmt: skip
        self.parts.append(self.current)
        self.on_its_way_ns = self.waits_for = None
