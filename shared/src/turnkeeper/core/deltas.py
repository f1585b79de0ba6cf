"""The entry that is being made: what a runner tells of it before it lands, and what a reader is told of that.

A runner does not tell events, but how its entry stands (:class:`Forming`), again and again. Whoever reads takes what is
new since the last look (:class:`Heard`) and tells its client that (:class:`Told`), as *deltas*. So nothing depends on
each state being seen: what a reader missed comes with the next one, and when the entry itself lands, :meth:`Told.land`
holds it against what was streamed. Then what is missing is told, or a ``reset``: where an entry lands, its deltas since
the last ``reset`` are all of it, or none.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from turnkeeper.core.canonical import without_surrogates
from turnkeeper.core.session import Entry
from turnkeeper.core.transcript import Block

#: What a client is sent: ``type`` and ``seq`` (of the entry to come), and what the type has besides.
Delta = dict[str, Any]
Kind = Literal["text", "thinking", "tool_input", "other"]

#: Characters of an answer that a reader keeps track of. What goes beyond comes with the entry.
MOST_CHARS = 400_000
#: Of what a tool tells of its progress.
PROGRESS_CHARS = 200

#: How a call's arguments may have been written by whoever streamed them.
_WRITTEN = [
    {"separators": separators, "ensure_ascii": ascii}
    for separators in ((", ", ": "), (",", ":"))
    for ascii in (False, True)
]


@dataclass(frozen=True, slots=True)
class Part:
    """A block of an answer in the making, as far as it has come. ``other``: of a kind that is not streamed."""

    kind: Kind
    text: str = ""
    tool_use_id: str = ""
    tool: str = ""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of one block: the next that there is of it."""

    position: int
    part: Part


@dataclass(frozen=True, slots=True)
class ToolState:
    """How one tool call of the step stands. ``outcome`` is ``None`` while it runs."""

    tool_use_id: str
    tool: str
    outcome: str | None = None
    #: Times that it told of its progress, and what it said last.
    told: int = 0
    text: str = ""
    fraction: float | None = None


@dataclass(frozen=True, slots=True)
class Forming:
    """How the entry to come stands.

    Its streamed blocks, one behind the other, are one text, of which this holds the part from ``start`` on.
    """

    #: Seq that the entry will have.
    seq: int
    #: The attempt at it. Another one begins from nothing.
    run: str
    start: int = 0
    pieces: tuple[Piece, ...] = ()
    calls: tuple[ToolState, ...] = ()
    #: What it waits for: ``money`` in flight, or the ``provider``.
    waiting: str | None = None

    def dump(self) -> dict[str, Any]:
        pieces = [[piece.position, *_fields(piece.part)] for piece in self.pieces]
        calls = [[c.tool_use_id, c.tool, c.outcome, c.told, c.text, c.fraction] for c in self.calls]
        return {"seq": self.seq, "run": self.run, "start": self.start, "pieces": pieces, "calls": calls} | (
            {"waiting": self.waiting} if self.waiting else {}
        )

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Forming:
        pieces = tuple(Piece(position, Part(*part)) for position, *part in value["pieces"])
        calls = tuple(ToolState(*call) for call in value["calls"])
        return cls(value["seq"], value["run"], value["start"], pieces, calls, value.get("waiting"))


def _fields(part: Part) -> list[str]:
    return [part.kind, part.text, part.tool_use_id, part.tool]


def pieces_of(parts: Sequence[Part], start: int) -> tuple[Piece, ...]:
    """What of an answer's blocks stands behind a place of their text."""
    pieces, behind = [], 0
    for position, part in enumerate(parts):
        text = part.text[max(0, start - behind) :]
        behind += len(part.text)
        if text:
            pieces.append(Piece(position, replace(part, text=text)))
    return tuple(pieces)


def settled(text: str) -> str:
    """What of a text that still grows is what an entry will have: half a character waits for its other half."""
    return without_surrogates(text[:-1] if text and "\ud800" <= text[-1] <= "\udbff" else text)


# ---- the reader's side ----


@dataclass
class Heard:
    """What a process has heard of one attempt at an entry. Grows, so that all its readers can share it."""

    seq: int
    run: str
    pieces: list[Piece] = field(default_factory=list)
    calls: tuple[ToolState, ...] = ()
    waiting: str | None = None
    #: Of its text something was not seen: what follows cannot be told before the entry is there.
    lost: bool = False
    total: int = 0

    def is_of(self, forming: Forming) -> bool:
        return (self.seq, self.run) == (forming.seq, forming.run)

    def take(self, forming: Forming) -> bool:
        """Take in what is new in a later state of the same attempt; whether anything was."""
        before = (self.calls, self.waiting, self.lost, self.total)
        self.calls, self.waiting = forming.calls, forming.waiting
        if forming.start > self.total or self.total > MOST_CHARS:
            self.lost = True
        if not self.lost:
            at = forming.start
            for piece in forming.pieces:
                new = piece.part.text[max(0, self.total - at) :]
                at += len(piece.part.text)
                if new:
                    self.pieces.append(Piece(piece.position, replace(piece.part, text=new)))
                    self.total += len(new)
        return before != (self.calls, self.waiting, self.lost, self.total)


@dataclass
class Told:
    """What one reader was told of the entry to come."""

    _heard: Heard | None = None
    #: Pieces of it, and how calls stood.
    _pieces: int = 0
    _calls: dict[str, ToolState] = field(default_factory=dict)
    _waiting: str | None = None

    @property
    def _is_void(self) -> bool:
        return not self._pieces and not self._calls

    def deltas(self, heard: Heard) -> Iterator[Delta]:
        """What is new."""
        if heard is not self._heard:
            if self._heard is not None and not self._is_void:
                yield _reset(self._heard.seq, "attempt")
            self._begin(heard)
        seq = heard.seq
        if heard.lost and self._pieces:
            # Once: an entry's rest without its middle would be worse than nothing.
            yield _reset(seq, "lost")
            self._begin(heard)
        if not heard.lost:
            yield from (_text_delta(seq, piece) for piece in _joined(heard.pieces[self._pieces :]))
            self._pieces = len(heard.pieces)
        for call in heard.calls:
            yield from self._call(seq, call)
        if heard.waiting != self._waiting:
            self._waiting = heard.waiting
            if heard.waiting is not None:
                yield {"type": "waiting", "seq": seq, "for": heard.waiting}

    def land(self, entry: Entry) -> Iterator[Delta]:
        """Before an entry is told itself: what of it is missing in what was streamed, or that it was not so."""
        if self._heard is not None and not self._is_void:
            rest = self._rest(entry) if entry.seq == self._heard.seq else None
            yield from [_reset(self._heard.seq, "entry")] if rest is None else rest
        self._begin(None)

    def _begin(self, heard: Heard | None) -> None:
        self._heard, self._pieces, self._calls, self._waiting = heard, 0, {}, None

    def _call(self, seq: int, call: ToolState) -> Iterator[Delta]:
        before = self._calls.get(call.tool_use_id)
        self._calls[call.tool_use_id] = call
        about: Delta = {"seq": seq, "tool_use_id": call.tool_use_id, "tool": call.tool}
        if before is None:
            yield {"type": "tool_started", **about}
        if call.told > (before.told if before else 0):
            fraction = {} if call.fraction is None else {"fraction": call.fraction}
            yield {"type": "tool_progress", **about, "text": call.text, **fraction}
        if call.outcome is not None and (before is None or before.outcome is None):
            yield {"type": "tool_finished", **about, "outcome": call.outcome}

    def _rest(self, entry: Entry) -> list[Delta] | None:
        """What is missing; ``None`` where what was streamed is no beginning of the entry."""
        assert self._heard is not None
        if self._calls:
            return self._rest_of_calls(entry)
        return self._rest_of_answer(self._heard.pieces[: self._pieces], entry)

    def _rest_of_calls(self, entry: Entry) -> list[Delta] | None:
        outcomes = {(outcome.tool_use_id, outcome.tool): outcome.outcome for outcome in entry.outcomes}
        rest: list[Delta] = []
        for call in self._calls.values():
            outcome = outcomes.get((call.tool_use_id, call.tool))
            if outcome is None or call.outcome not in (None, outcome):
                return None
            rest += self._call(entry.seq, replace(call, outcome=outcome))
        return rest

    @staticmethod
    def _rest_of_answer(pieces: Sequence[Piece], entry: Entry) -> list[Delta] | None:
        if entry.type != "assistant":
            return None
        sent = {piece.position: piece.part for piece in _joined(pieces)}
        if max(sent) >= len(entry.content):
            return None
        rest: list[Delta] = []
        for position, block in enumerate(entry.content):
            part = sent.get(position)
            missing = _missing(part, block)
            if missing is None or (missing and position < max(sent)):
                return None
            if missing:
                rest.append(_text_delta(entry.seq, Piece(position, replace(_part_of(block), text=missing))))
        return rest


def _reset(seq: int, why: str) -> Delta:
    return {"type": "reset", "seq": seq, "reason": why}


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbours of the same block as one."""
    joined: list[Piece] = []
    texts: list[list[str]] = []
    for piece in pieces:
        if joined and joined[-1].position == piece.position:
            texts[-1].append(piece.part.text)
        else:
            joined.append(piece)
            texts.append([piece.part.text])
    return [
        replace(piece, part=replace(piece.part, text="".join(text))) for piece, text in zip(joined, texts, strict=True)
    ]


def _text_delta(seq: int, piece: Piece) -> Delta:
    part = piece.part
    about = {"tool_use_id": part.tool_use_id, "tool": part.tool} if part.kind == "tool_input" else {}
    return {"type": part.kind, "seq": seq, "index": piece.position, **about, "text": part.text}


def _part_of(block: Block) -> Part:
    """A kept block, as it would have been streamed whole; its arguments aside."""
    match block.get("type"):
        case "text":
            return Part("text", str(block.get("text") or ""))
        case "thinking":
            return Part("thinking", str(block.get("thinking") or ""))
        case "tool_use":
            return Part("tool_input", "", str(block.get("id")), str(block.get("name")))
    return Part("other")


def _missing(sent: Part | None, block: Block) -> str | None:
    """What of a kept block was not streamed; ``None`` where something else was."""
    kept = _part_of(block)
    if sent is None:
        # Arguments that were never begun to be told are not told now: some never are.
        return kept.text
    if replace(sent, text="") != replace(kept, text=""):
        return None
    if sent.kind == "tool_input":
        return _missing_input(sent.text, block)
    return kept.text[len(sent.text) :] if kept.text.startswith(sent.text) else None


def _missing_input(sent: str, block: Block) -> str | None:
    if "raw_input" in block:
        raw = str(block["raw_input"])
        return raw[len(sent) :] if raw.startswith(sent) else None
    for how in _WRITTEN:
        if (text := json.dumps(block.get("input"), **how)).startswith(sent):  # type: ignore[arg-type]
            return text[len(sent) :]
    try:
        return "" if json.loads(sent) == block.get("input") else None
    except ValueError:
        return None
