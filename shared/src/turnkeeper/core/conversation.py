"""A transcript with what of it the model is sent, kept from call to call.

What is sent is a projection of all entries (:func:`turnkeeper.core.projection.project`), and what comes behind them may
change any part of it. But nearly always that is an answer and its results, and nothing before them changes. Then the
messages of the last request are the beginning of the next, as they are, with their bytes: a step costs as much late in
a conversation as early in it. Anything else is projected anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from turnkeeper.core.projection import (
    BEGINNING_GONE,
    Place,
    Projecting,
    Projection,
    Turn,
    in_order,
    project,
    stands_alone,
)
from turnkeeper.core.sent import Sent
from turnkeeper.core.session import Entry
from turnkeeper.core.transcript import GO_ON, MESSAGES, PAUSES, text_block, tool_uses

_NEVER_SENT = frozenset({"status", "runner_lost", "other"})


class Conversation:
    """``entries`` are read freely, and grow by :meth:`extend` alone."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: list[Entry] = []
        #: Ids of all calls that were made in it.
        self.call_ids: set[str] = set()
        #: An answer told of a container.
        self.contained = False
        self._kept: _Kept | None = None
        self.extend(entries)

    def extend(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.entries.append(entry)
            self.call_ids.update(str(call.get("id")) for call in tool_uses(entry.content))
            self.contained = self.contained or entry.container is not None

    def project(self, waiting: Sequence[Entry], model: str) -> Projection:
        """What the model is sent of it, with entries behind it that are not written yet, which have no number."""
        kept = self._kept
        if kept is None or kept.projecting.model != model or not kept.grow(self.entries):
            kept = self._kept = _Kept.of(self.entries, model)
        projection = kept.with_waiting(waiting) if kept.grows else None
        return projection or project([*self.entries, *waiting], model=model)


@dataclass
class _Kept:
    """The projection of the first ``taken`` entries."""

    projecting: Projecting
    taken: int
    #: No number of an entry is higher, nor does a mark name one that is.
    highest: int
    #: What is sent does not change when more comes behind it.
    grows: bool
    #: A summary stands behind everything else, whatever comes there without a number.
    ends_with_summary: bool
    messages: list[Sent] = field(default_factory=list)
    places: list[list[Place | None]] = field(default_factory=list)
    #: Messages of the kit's own before those of the first turn.
    before: int = 0
    #: What was waiting at the last request, as it was sent: it comes back with a number.
    waited: Sent | None = None

    @classmethod
    def of(cls, entries: Sequence[Entry], model: str) -> _Kept:
        numbers = [entry.seq for entry in entries] + [mark.seq for entry in entries for mark in entry.left_out]
        kept = cls(
            Projecting.of(entries, model),
            len(entries),
            max(numbers, default=0),
            not any(map(_goes_back, entries)),
            bool(entries) and in_order(entries)[-1].type == "compaction",
        )
        kept.finish()
        return kept

    def grow(self, entries: Sequence[Entry]) -> bool:
        """Take those that are new. False where that would change what stands before them."""
        for entry in entries[self.taken :] if self.grows else ():
            if not self.may_follow(entry) or entry.seq <= self.highest:
                return False
            if entry.type in MESSAGES:
                self.projecting.take(entry)
                self.finish()
            self.highest = entry.seq
            self.ends_with_summary = False
            self.taken += 1
        return True

    def may_follow(self, entry: Entry) -> bool:
        known = entry.type in MESSAGES or entry.type in _NEVER_SENT
        return (
            known and not entry.left_out and not _goes_back(entry) and entry.seq not in self.projecting.sendable.named
        )

    def finish(self) -> None:
        """The messages of turns that are new."""
        for turn in self.projecting.turns[len(self.messages) - self.before :]:
            self.grows = self.grows and _stands_alone(turn)
            if not self.messages and turn.role == "assistant":
                self.before = 1
                self.append(Turn("user", [(text_block(BEGINNING_GONE), None)]))
            self.append(turn)

    def append(self, turn: Turn) -> None:
        message = _message(turn)
        # What was sent before it had a number has its bytes already.
        self.messages.append(self.waited if self.waited is not None and self.waited == message else message)
        self.places.append(_places(turn))

    def with_waiting(self, waiting: Sequence[Entry]) -> Projection | None:
        """``None`` where what waits changes what stands before it."""
        if waiting and (self.ends_with_summary or not all(map(self.may_wait, waiting))):
            return None
        calls = {stored: list(sent) for stored, sent in self.projecting.calls.items()}
        behind = Projecting(self.projecting.sendable, self.projecting.model, [], calls)
        for entry in waiting:
            behind.take(entry)
        behind.end()
        if not all(map(_stands_alone, behind.turns)):
            return None
        messages, places = [*self.messages, *map(_message, behind.turns)], [*self.places, *map(_places, behind.turns)]
        self.waited = messages[-1] if messages else None
        if messages and messages[-1]["role"] == "assistant":
            messages.append(Sent("user", [text_block(GO_ON)]))
            places.append([None])
        return Projection(messages, places)

    def may_wait(self, entry: Entry) -> bool:
        return entry.type in ("user", "tool_results") and self.may_follow(entry)


def _message(turn: Turn) -> Sent:
    return Sent(turn.role, [block for block, _ in turn.blocks])


def _places(turn: Turn) -> list[Place | None]:
    return [place for _, place in turn.blocks]


def _stands_alone(turn: Turn) -> bool:
    return stands_alone(block for block, _ in turn.blocks)


def _goes_back(entry: Entry) -> bool:
    """What it is to the conversation depends on what comes behind it."""
    return entry.stop_reason in PAUSES or entry.stop_reason == "refusal"
