"""What of a transcript the model is sent: a pure function from entries to the messages of a request.

A transcript keeps what was wrong as faithfully as what was right. What the API would not take back is mended here, each
time that it is sent, and never in the transcript: ids that are not unique or not legal, names that no tool may have,
calls without results and results without calls, text that UTF-8 cannot hold, blocks that were refused or withdrawn.
What was left out to save room is not sent either; a summary stands where it was.

For any entries that a transcript can hold, the messages satisfy the rules of the Messages API. Each block that is sent
is known by its place in the transcript, so that a refusal that names it can be repaired.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core.admission import CALL_ID, MAX_DEPTH
from turnkeeper.core.canonical import sorted_json, without_surrogates
from turnkeeper.core.contents import FETCHED
from turnkeeper.core.fallbacks import answered_by
from turnkeeper.core.session import Entry
from turnkeeper.core.transcript import GO_ON, PAUSES, Block, Message, is_blank, text_block, tool_result

#: Stands where a result is missing: a transcript that was cut, or an entry that was left out.
NO_RESULT = "The result of this call is not in the conversation any more. Do not assume that it failed or worked."
#: Stands before an answer whose question is left out: a conversation begins with the user.
BEGINNING_GONE = "(The beginning of the conversation was left out.)"

_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9_-]")
_ROLES = frozenset({"user", "tool_results", "assistant", "compaction"})
#: Of a stored block, what is the kit's own and is not sent.
_OURS = frozenset({"cache_control", "raw_input", FETCHED})


@dataclass(frozen=True, slots=True)
class Place:
    """A block of the transcript."""

    seq: int
    index: int


@dataclass(frozen=True, slots=True)
class Projection:
    """``places`` has, for each block of each message, where in the transcript it is; ``None`` for the kit's words."""

    messages: Sequence[Message]
    places: Sequence[Sequence[Place | None]]

    @property
    def seqs(self) -> frozenset[int]:
        """The entries of which anything is sent."""
        return frozenset(place.seq for message in self.places for place in message if place is not None)

    def at(self, message: int, block: int | None) -> tuple[Place, ...]:
        """The blocks that a refusal is about, which names a message of the request and perhaps a block of it."""
        if not 0 <= message < len(self.places):
            return ()
        places = self.places[message]
        chosen = places if block is None else places[block : block + 1]
        return tuple(place for place in chosen if place is not None)


def project(entries: Sequence[Entry], *, model: str | None = None) -> Projection:
    """The conversation as the API takes it.

    Args:
        model: the one that is asked. Thoughts of another are left out: it could not check their signatures.
    """
    return Projecting.of(entries, model).finished()


@dataclass
class Projecting:
    """A conversation in the making: entries taken one after the other, each by what came before it."""

    sendable: Sendable
    model: str | None = None
    turns: list[Turn] = field(default_factory=list)
    #: Of the last answer, the calls that want a result: stored id to the ids that are sent for it, in order.
    calls: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Sequence[Entry], model: str | None) -> Projecting:
        projecting = cls(Sendable.of(entries), model)
        for entry in projecting.sendable.kept:
            projecting.take(entry)
        return projecting

    def take(self, entry: Entry) -> None:
        """The next entry that is part of the conversation."""
        if entry.type == "assistant":
            self.end()
            self.calls = _assistant(self.turns, entry, self.sendable, self.model)
        elif entry.type == "compaction":
            self.end()
            _summary(self.turns, entry, self.sendable)
        else:
            _user(self.turns, entry, self.sendable, self.calls)
            self.calls = {}

    def end(self) -> None:
        """Nothing answers the last calls."""
        _add(self.turns, Turn("user", _missing(self.calls)))
        self.calls = {}

    def finished(self) -> Projection:
        self.end()
        return _finished(self.turns, resumes=self.sendable.resumes)


@dataclass
class Turn:
    """A message, each of its blocks with its place."""

    role: str
    blocks: list[tuple[Block, Place | None]] = field(default_factory=list)


# ---- what is left out ----


@dataclass
class Sendable:
    """Entries that are part of the conversation, and what of them is not."""

    kept: list[Entry]
    #: Numbers of entries that something was marked in, or would be, and of those that are left out whole.
    named: frozenset[int]
    #: Why, by place.
    left_out: Mapping[tuple[int, int], str]
    #: Names that were made unique, over the whole conversation.
    ids: set[str]
    #: The last message was paused by the API and goes on by being sent back.
    resumes: bool

    @classmethod
    def of(cls, entries: Sequence[Entry]) -> Sendable:
        withdrawn = {mark.seq for entry in entries if entry.type == "rewind" for mark in entry.left_out}
        # What a summary was made of comes back where the summary itself is taken back.
        marks = [
            mark
            for entry in entries
            if entry.type != "compaction" or entry.seq not in withdrawn
            for mark in entry.left_out
        ]
        whole = {mark.seq for mark in marks if mark.index is None} | _refused(entries)
        kept = [each for each in in_order(entries) if each.type in _ROLES and each.seq not in whole]
        # One without a summary only says what is left out.
        kept = [each for each in kept if each.content or each.type != "compaction"]
        last = kept[-1] if kept else None
        resumes = last is not None and last.type == "assistant" and last.stop_reason in PAUSES
        left_out = {(mark.seq, mark.index): mark.what for mark in marks if mark.index is not None}
        return cls(kept, frozenset(whole | {mark.seq for mark in marks}), left_out, set(), resumes)

    def unique(self, wanted: Any, place: Place) -> str:
        """An id that no other call has: the call's own where it is legal and the first of its kind."""
        legal = wanted if isinstance(wanted, str) and CALL_ID.fullmatch(wanted) else "call"
        unique = legal if legal == wanted and legal not in self.ids else f"{legal[:100]}_{place.seq}_{place.index}"
        self.ids.add(unique)
        return unique


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """As they are sent: a summary stands behind all that it was made of, and before what came after that. All else is
    in the order that it has; what is not written yet has no seq."""
    summaries = [entry for entry in entries if entry.type == "compaction"]
    ordered = [entry for entry in entries if entry.type != "compaction"]
    known = {entry.seq for entry in summaries}
    for summary in summaries:
        last = max((mark.seq for mark in summary.left_out if mark.seq not in known), default=0)
        later = (at for at, entry in enumerate(ordered) if entry.seq > last and entry.seq not in known)
        ordered.insert(next(later, len(ordered)), summary)
    return ordered


def _refused(entries: Sequence[Entry]) -> set[int]:
    """What the model declined to answer. Once the user has said something else, the turn that it declined is withdrawn
    with its answer: repeated, it would be declined again, and whatever is asked with it."""
    withdrawn: set[int] = set()
    turn: list[int] = []
    refused = False
    for entry in entries:
        if entry.by_user:
            withdrawn |= set(turn) if refused else set()
            turn, refused = [], False
        turn.append(entry.seq)
        if entry.type == "assistant":
            refused = entry.stop_reason == "refusal"
    return withdrawn


def _is_server_call(block: Block) -> bool:
    return block.get("type") in ("server_tool_use", "mcp_tool_use")


def _is_server_result(block: Block) -> bool:
    kind = str(block.get("type"))
    return kind != "tool_result" and kind.endswith("_tool_result")


# ---- messages ----


def _assistant(turns: list[Turn], entry: Entry, sendable: Sendable, model: str | None) -> dict[str, list[str]]:
    """Adds an answer; the calls of it that want a result, as in :class:`Projecting`."""
    message = Turn("assistant")
    calls: dict[str, list[str]] = {}
    foreign = model is not None and not answered_by(entry, model)
    for index, block in enumerate(entry.content):
        place = Place(entry.seq, index)
        kind = block.get("type")
        if (place.seq, place.index) in sendable.left_out or is_blank(block):
            continue
        if kind in ("thinking", "redacted_thinking") and foreign:
            continue
        clean = _clean(block)
        if kind == "tool_use":
            clean["id"] = sendable.unique(block.get("id"), place)
            clean["name"] = _NOT_IN_A_NAME.sub("_", str(block.get("name") or "unnamed"))[:128]
            clean["input"] = clean["input"] if isinstance(clean.get("input"), dict) else {}
            calls.setdefault(str(block.get("id")), []).append(clean["id"])
        message.blocks.append((clean, place))
    _add(turns, message)
    return calls


def _user(turns: list[Turn], entry: Entry, sendable: Sendable, calls: Mapping[str, list[str]]) -> None:
    """Adds what was said to the model; results first, as the API wants them: one for each of the calls before it."""
    results: list[tuple[Block, Place | None]] = []
    others: list[tuple[Block, Place | None]] = []
    for index, block in enumerate(entry.content):
        place = Place(entry.seq, index)
        why = sendable.left_out.get((place.seq, place.index))
        if block.get("type") == "tool_result":
            if not (sent := calls.get(str(block.get("tool_use_id")))):
                continue  # Nothing asks for it any more.
            shown = _clean(block) if why is None else {**_without_content(block), "content": [_note(why)]}
            results.append(({**shown, "tool_use_id": sent.pop(0)}, place if why is None else None))
        elif why is not None:
            others.append((_note(why), None))
        elif not is_blank(block):
            others.append((_clean(block), place))
    _add(turns, Turn("user", [*results, *_missing(calls), *others]))


def _summary(turns: list[Turn], entry: Entry, sendable: Sendable) -> None:
    """What the older part came down to, beside the user's words that were said before."""
    blocks: list[tuple[Block, Place | None]] = [
        (_clean(block), Place(entry.seq, index))
        for index, block in enumerate(entry.content)
        if not is_blank(block) and (entry.seq, index) not in sendable.left_out
    ]
    if turns and turns[-1].role == "user":
        turns[-1].blocks += blocks
    else:
        _add(turns, Turn("user", blocks))


def _missing(calls: Mapping[str, list[str]]) -> list[tuple[Block, Place | None]]:
    """Results for calls that nothing else answers."""
    ids = [one for sent in calls.values() for one in sent]
    return [(tool_result(one, [text_block(NO_RESULT)], is_error=True), None) for one in ids]


def _add(turns: list[Turn], message: Turn) -> None:
    if message.blocks:
        turns.append(message)


def _without_orphans(turns: Sequence[Turn], *, resumes: bool) -> list[Turn]:
    """Without what server tools left unfinished: a call that was cut off before its result, a result without its call.
    A call stays where the API paused in it, and while it waits for a tool that it has called itself."""
    orphans: set[tuple[int, int]] = set()
    open_calls: dict[str, tuple[int, int]] = {}
    waiting: set[str] = set()
    for at, turn in enumerate(turns):
        if turn.role == "user":
            gone = [name for name in open_calls if name not in waiting]
            orphans |= {open_calls.pop(name) for name in gone}
            continue
        if at and turns[at - 1].role == "user":
            waiting = set()
        for index, (block, _) in enumerate(turn.blocks):
            if _is_server_call(block):
                name = str(block.get("id"))
                orphans |= {open_calls[name]} if name in open_calls else set()
                open_calls[name] = (at, index)
            elif _is_server_result(block) and open_calls.pop(str(block.get("tool_use_id")), None) is None:
                orphans.add((at, index))
            elif block.get("type") == "tool_use" and isinstance(caller := block.get("caller"), dict):
                waiting.add(str(caller.get("tool_id")))
    orphans |= set() if resumes else set(open_calls.values())
    kept = [
        Turn(turn.role, [each for index, each in enumerate(turn.blocks) if (at, index) not in orphans])
        for at, turn in enumerate(turns)
    ]
    return [turn for turn in kept if turn.blocks]


def _finished(turns: list[Turn], *, resumes: bool) -> Projection:
    turns = _without_orphans(turns, resumes=resumes)
    if turns and turns[0].role == "assistant":
        turns.insert(0, Turn("user", [(text_block(BEGINNING_GONE), None)]))
    if turns and turns[-1].role == "assistant" and not resumes:
        turns.append(Turn("user", [(text_block(GO_ON), None)]))
    _cite_all(block for turn in turns for block, _ in turn.blocks)
    return Projection(
        [{"role": turn.role, "content": [block for block, _ in turn.blocks]} for turn in turns],
        [[place for _, place in turn.blocks] for turn in turns],
    )


# ---- blocks ----


def _note(why: str) -> Block:
    return text_block(f"[{why}]")


def _without_content(block: Block) -> Block:
    return {name: value for name, value in _clean(block).items() if name != "content"}


def _clean(block: Block) -> Block:
    """The block without what is the kit's own, as JSON that any parser takes."""
    holds_blocks = block.get("type") == "tool_result" and isinstance(block.get("content"), list)
    clean: Block = {
        str(name): _result(value) if holds_blocks and name == "content" else _plain(value, 1)
        for name, value in block.items()
        if name not in _OURS
    }
    source = block.get("source")
    if block.get("type") == "document" and isinstance(source, dict) and isinstance(source.get("content"), list):
        clean["source"]["content"] = [_clean(part) for part in source["content"] if isinstance(part, dict)]
    return clean


def _result(parts: list[Any]) -> list[Block]:
    shown = [_clean(part) for part in parts if isinstance(part, dict) and not is_blank(part)]
    return shown or [text_block("(empty)")]


def _plain(value: Any, depth: int) -> Any:
    """Without lone surrogates, numbers that JSON has no word for, and nesting that a parser would refuse."""
    match value:
        case str():
            return without_surrogates(value)
        case float() if not math.isfinite(value):
            return str(value)
        case dict() | list() | tuple() if depth > MAX_DEPTH:
            # As text: the API's parser takes about as much, and nobody means more.
            return without_surrogates(sorted_json(value).decode("utf-8", "replace"))
        case dict():
            return {without_surrogates(str(key)): _plain(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item, depth + 1) for item in value]
    return value


def stands_alone(blocks: Iterable[Block]) -> bool:
    """Nothing that is sent before or after these depends on what they are, but for calls and their results: they are no
    part of what server tools did, nor documents that ask for citations."""
    blocks = list(blocks)
    served = any(_is_server_call(each) or _is_server_result(each) or "caller" in each for each in blocks)
    return not served and not any(map(is_cited, _sources(blocks)))


def is_cited(source: Block) -> bool:
    return bool((source.get("citations") or {}).get("enabled"))


def _cite_all(blocks: Iterable[Block]) -> None:
    """Citations are asked for in all documents of a request or in none: where one has them, all get them."""
    sources = list(_sources(blocks))
    if any(map(is_cited, sources)):
        for source in sources:
            source["citations"] = {"enabled": True}


def _sources(blocks: Iterable[Block]) -> Iterator[Block]:
    for block in blocks:
        if block.get("type") in ("document", "search_result"):
            yield block
        elif block.get("type") == "tool_result" and isinstance(block.get("content"), list):
            yield from _sources(block["content"])
