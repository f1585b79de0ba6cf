"""What is left out of a conversation before it is too long for the model. Pure.

The transcript keeps everything. What is decided here is which parts of it requests go without from now on: first old
results of tools, then the oldest part as a whole, in whose place a summary stands (:mod:`turnkeeper.core.summary`).
The user's own words stay, as far as there is room for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core.agent import Context
from turnkeeper.core.projection import Place, in_order, project
from turnkeeper.core.session import Entry, LeftOut
from turnkeeper.core.transcript import MESSAGES, Block, lean_json, text_block

#: About as many bytes of JSON make a token. Only decisions go by it, never money.
TOKEN_BYTES = 3
#: What an image is taken for, whatever its bytes are.
_IMAGE_TOKENS = 1_600
#: A result that is smaller is not worth leaving out.
_SMALL_TOKENS = 100
#: What is left out has to make room for this share of the window at least: it costs the cache, or a call.
_WORTH = 0.15
#: The share of the window that the user's own words may keep in front of a summary.
_USER_SHARE = 0.25
#: A summary takes one part of so many of the window at most, and so many tokens at least.
_SUMMARY_PART = 8
_LEAST_SUMMARY = 128
#: The share of the window that the text to be summarized may have.
_READ_SHARE = 0.6
#: Words that were cut to less than this say nothing any more.
_LEAST_CHARS = 200

OLD_RESULT = "an earlier result, left out to save room"
TOO_LONG = "this result is left out, since it is too long to read; ask for less of it"
SUMMARIZED = "summarized"


@dataclass(frozen=True, slots=True)
class Room:
    """How much a request may hold."""

    context: Context
    #: Tokens, all in all.
    window: int
    #: Of these, what stands around the conversation: system prompt and tools.
    around: int
    #: What the answer may take.
    max_tokens: int

    @property
    def clear_from(self) -> int:
        return min(int(self.window * self.context.clear_at), self.summarize_from)

    @property
    def summarize_from(self) -> int:
        """The share that the agent set, or so much less that the answer fits as well; half of the window at least."""
        answer_fits = max(self.window // 2, self.window - self.max_tokens)
        return min(int(self.window * self.context.summarize_at), answer_fits)

    @property
    def summary_tokens(self) -> int:
        """What a summary may have: as the agent says, but a small part of the window, and no more than an answer."""
        most = min(self.context.summary_tokens, self.max_tokens, self.window // _SUMMARY_PART)
        return max(_LEAST_SUMMARY, most)

    @property
    def read_tokens(self) -> int:
        """What may be shown to whoever summarizes: less than fits, since it is known about only."""
        return int(self.window * _READ_SHARE)

    @property
    def keep(self) -> int:
        return int(max(0, self.window - self.around) * self.context.keep)

    @property
    def for_the_user(self) -> int:
        return int(max(0, self.window - self.around) * _USER_SHARE)


@dataclass(frozen=True, slots=True)
class Compaction:
    """What requests go without from now on."""

    left_out: tuple[LeftOut, ...]
    #: What the summary has to say, in order; empty where none is needed.
    summarized: tuple[Passage, ...] = ()
    #: What the summary may have, and what may be read to write it, in tokens.
    summary_tokens: int = 0
    read_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Passage:
    """An entry as the model is sent it now: those of its blocks that are not left out."""

    entry: Entry
    blocks: tuple[tuple[Place, Block], ...]

    @property
    def tokens(self) -> int:
        return sum(tokens_of(block) for _, block in self.blocks)


def next_compaction(entries: Sequence[Entry], room: Room, *, tokens: int, refused: bool) -> Compaction | None:
    """What to leave out now; ``None`` where there is room, or nothing that could be left out.

    Args:
        tokens: what the next request would have.
        refused: the API said that it is too long. Then whatever can be left out is; it always is less than before.
    """
    passages = _passages(entries)
    if refused:
        return (
            _clear(passages, room.keep)
            or _summarize(entries, passages, room.keep, room)
            or _summarize(entries, passages, 0, room)
            or _shorten(passages)
        )
    if tokens <= room.clear_from:
        return None
    worth = int(room.window * _WORTH)
    cleared = _clear(passages, room.keep)
    gain = _gain(passages, cleared)
    if tokens > room.summarize_from and tokens - gain > room.clear_from:
        # Old results alone would not make room for long.
        summarized = _summarize(entries, passages, room.keep, room)
        if _gain(passages, summarized) - room.summary_tokens >= worth:
            return summarized
    return cleared if gain >= worth else None


def tokens_of(block: Block) -> int:
    """About what a block has."""
    return len(lean_json(block).decode()) // TOKEN_BYTES + _IMAGE_TOKENS * _images(block)


def _images(value: Any) -> int:
    """How many images are in a block."""
    if isinstance(value, list):
        return sum(map(_images, value))
    if not isinstance(value, dict):
        return 0
    return 1 if value.get("type") == "image" else _images(value.get("content")) + _images(value.get("source"))


# ---- ways to leave something out ----


def _passages(entries: Sequence[Entry]) -> list[Passage]:
    """The conversation as it is sent now, entry by entry; also results that are left out already, with their calls."""
    found: dict[int, list[tuple[Place, Block]]] = {}
    projection = project(entries)
    for message, places in zip(projection.messages, projection.places, strict=True):
        for block, place in zip(message["content"], places, strict=True):
            if place is not None:
                found.setdefault(place.seq, []).append((place, block))
    before: int | None = None
    for entry in entries:
        if entry.type == "tool_results" and before in found:
            found.setdefault(entry.seq, [])
        if entry.type in MESSAGES:
            before = entry.seq if entry.type == "assistant" else None
    return [Passage(entry, tuple(found[entry.seq])) for entry in in_order(entries) if entry.seq in found]


def _clear(passages: Sequence[Passage], keep: int) -> Compaction | None:
    """Without the results of older steps."""
    marks = [
        LeftOut(place.seq, place.index, OLD_RESULT)
        for passage in passages[: _boundary(passages, keep)]
        for place, block in passage.blocks
        if block.get("type") == "tool_result" and tokens_of(block) > _SMALL_TOKENS
    ]
    return Compaction(tuple(marks)) if marks else None


def _summarize(entries: Sequence[Entry], passages: Sequence[Passage], keep: int, room: Room) -> Compaction | None:
    """Without the older part, but for the user's own words."""
    older = passages[: _boundary(passages, keep)]
    spoken = [passage for passage in older if passage.entry.by_user]
    others = [passage for passage in older if not passage.entry.by_user]
    words = _Words(room.for_the_user)
    # What the user wants is in the first words, and what is wanted now in the latest.
    words.take_again(*_first_words(entries, passages))
    shortened = list(words.marks)
    for passage in [*spoken[:1], *reversed(spoken[1:])]:
        words.take(passage)
    gone = [LeftOut(seq, None, SUMMARIZED) for seq in _shortened_before(entries, {each.entry.seq for each in spoken})]
    if words.marks == shortened and not any(each.blocks for each in others if each.entry.type != "compaction"):
        # A summary of the summary would say the same.
        return Compaction((*gone, *shortened)) if gone or shortened else None
    marks = [*(LeftOut(passage.entry.seq, None, SUMMARIZED) for passage in others), *gone, *words.marks]
    return Compaction(tuple(marks), tuple(older), room.summary_tokens, room.read_tokens)


def _first_words(entries: Sequence[Entry], passages: Sequence[Passage]) -> tuple[Sequence[Block], list[LeftOut]]:
    """The user's first words, and which of them are sent as a beginning only: the latest mark of each says how much."""
    first = next((entry for entry in entries if entry.by_user), None)
    if first is None:
        return (), []
    whole = {place for passage in passages for place, _ in passage.blocks}
    marks = {mark.index: mark for entry in entries for mark in entry.left_out if mark.seq == first.seq}
    if None in marks:
        return (), []
    # Of words that the store has lost, fewer blocks are there than were marked.
    there = [Place(first.seq, index) for index in range(len(first.content))]
    return first.content, [marks[place.index] for place in there if place.index in marks and place not in whole]


def _shortened_before(entries: Sequence[Entry], sent: set[int]) -> list[int]:
    """Words of the user's of which only a beginning was sent: the summary before has them, and they would add up. The
    first ones stay: they say what it is all about."""
    said = [entry.seq for entry in entries if entry.by_user]
    marks = [mark for entry in entries if entry.type == "compaction" for mark in entry.left_out]
    whole = {mark.seq for mark in marks if mark.index is None}
    parts = {mark.seq for mark in marks if mark.index is not None}
    return [seq for seq in said[1:] if seq in parts and seq not in whole and seq not in sent]


def _shorten(passages: Sequence[Passage]) -> Compaction | None:
    """Without the largest result of the latest step: nothing else is left to go without."""
    results = [each for passage in passages for each in passage.blocks if each[1].get("type") == "tool_result"]
    large = [each for each in results if tokens_of(each[1]) > _SMALL_TOKENS]
    if not large:
        return None
    place, _ = max(large, key=lambda each: tokens_of(each[1]))
    return Compaction((LeftOut(place.seq, place.index, TOO_LONG),))


def _boundary(passages: Sequence[Passage], keep: int) -> int:
    """How many of the passages are old. The latest message is not, and calls stay together with their results."""
    at = max(0, len(passages) - 1)
    kept = passages[at].tokens if passages else 0
    while at > 0 and (kept := kept + passages[at - 1].tokens) <= keep:
        at -= 1
    while at > 0 and passages[at].entry.type == "tool_results":
        at -= 1
    return at


def _gain(passages: Iterable[Passage], compaction: Compaction | None) -> int:
    """About how many tokens it saves."""
    if compaction is None:
        return 0
    whole = {mark.seq for mark in compaction.left_out if mark.index is None}
    parts = {(mark.seq, mark.index) for mark in compaction.left_out if mark.index is not None}
    return sum(
        tokens_of(block)
        for passage in passages
        for place, block in passage.blocks
        if place.seq in whole or (place.seq, place.index) in parts
    )


@dataclass
class _Words:
    """The user's own words, as long as there is room for them."""

    tokens: int
    marks: list[LeftOut] = field(default_factory=list)

    def take(self, passage: Passage) -> None:
        for place, block in passage.blocks:
            size = tokens_of(block)
            if size <= self.tokens:
                self.tokens -= size
                continue
            self.marks.append(LeftOut(place.seq, place.index, self._rest_of(block)))

    def take_again(self, content: Sequence[Block], shortened: Sequence[LeftOut]) -> None:
        """Words of which only a beginning is left: less of them, where that is too long as well."""
        for mark in shortened:
            size = tokens_of(text_block(mark.what))
            if mark.index is None or size <= self.tokens:
                self.tokens -= size
            elif len(rest := self._rest_of(content[mark.index])) < len(mark.what):
                self.marks.append(LeftOut(mark.seq, mark.index, rest))

    def _rest_of(self, block: Block) -> str:
        text = str(block.get("text") or "")
        chars = self.tokens * TOKEN_BYTES
        if block.get("type") != "text" or chars < _LEAST_CHARS:
            return f"an earlier {block.get('type')} of the user's, left out to save room"
        self.tokens = 0
        return f"{text[:chars]} ... {len(text) - chars} more characters of the user's, left out to save room"
