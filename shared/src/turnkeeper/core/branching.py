"""Taking the latest part of a conversation back, and going on from an earlier part of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from turnkeeper.core.session import Entry, LeftOut, Plan
from turnkeeper.core.tools import UPDATE_PLAN, Effect, Outcome
from turnkeeper.core.transcript import MESSAGES, tool_uses


@dataclass(frozen=True, slots=True)
class OnceCall:
    """A call that took effect, or may have, and that no rewind takes back."""

    seq: int
    tool: str
    tool_use_id: str
    outcome: Outcome


def withdrawal(entries: Sequence[Entry], to_seq: int) -> tuple[LeftOut, ...]:
    """What is left out so that the conversation ends with an entry; what is left out already is not named again.

    A summary that was written later goes too, and what it was made of comes back up to there."""
    sent = _sent(entries)
    return tuple(LeftOut(entry.seq, None, "withdrawn") for entry in entries if entry.seq > to_seq and entry.seq in sent)


def before_turns(entries: Sequence[Entry], turns: int) -> int:
    """The last entry before the latest so many turns; 0 where there are no more than these."""
    sent = _sent(entries)
    inputs = [entry.seq for entry in entries if entry.by_user and entry.seq in sent]
    return inputs[-turns] - 1 if turns <= len(inputs) else 0


def once_calls(entries: Sequence[Entry], left_out: Sequence[LeftOut], effects: Mapping[str, Effect]) -> list[OnceCall]:
    """Calls of ``once`` tools in what was left out, that ran or may have run."""
    seqs = {mark.seq for mark in left_out}
    return [
        OnceCall(entry.seq, outcome.tool, outcome.tool_use_id, outcome.outcome)
        for entry in entries
        if entry.seq in seqs
        for outcome in entry.outcomes
        if effects.get(outcome.tool) == "once" and outcome.outcome != "denied"
    ]


def plan_of(entries: Sequence[Entry]) -> Plan | None:
    """The plan that the latest call kept which was not taken back."""
    gone = _taken_back(entries)
    left = [entry for entry in entries if entry.seq not in gone]
    told = [outcome for entry in left for outcome in entry.outcomes if outcome.tool == UPDATE_PLAN]
    kept = {outcome.tool_use_id for outcome in told if outcome.outcome == "ok"}
    calls = [call for entry in left for call in tool_uses(entry.content) if call.get("id") in kept]
    return next((plan for call in reversed(calls) if (plan := Plan.of_call(call)) is not None), None)


def copied(entries: Sequence[Entry], at_seq: int) -> tuple[Entry, ...]:
    """The entries of a copy: as they were said, without what they cost, which the first session has paid and its ledger
    tells, without its runners, without the prompt, which was made for it, and without its container, where two sessions
    would find each other's files. An answer whose calls have no results yet is not copied: they would be made again."""
    kept = [entry for entry in entries if entry.seq <= at_seq]
    while (last := next((entry for entry in reversed(kept) if entry.type in MESSAGES), None)) is not None:
        if last.type != "assistant" or not tool_uses(last.content):
            break
        kept = [entry for entry in kept if entry.seq < last.seq]
    return tuple(replace(entry, **_OF_THE_FIRST) for entry in kept)


#: What of an entry is the first session's alone.
_OF_THE_FIRST: Mapping[str, Any] = {
    **{"cost_nanousd": 0, "in_doubt_nanousd": 0},
    **dict.fromkeys(("usage", "attempts", "call", "run", "prompt", "container")),
}


def _sent(entries: Sequence[Entry]) -> set[int]:
    """What the model was sent at any time and was not taken back: also what is only summarized now, and summaries."""
    from turnkeeper.core.projection import project

    compactions = {entry.seq for entry in entries if entry.type == "compaction"} - _taken_back(entries)
    return compactions | set(project([entry for entry in entries if entry.type != "compaction"]).seqs)


def _taken_back(entries: Sequence[Entry]) -> set[int]:
    return {mark.seq for entry in entries if entry.type == "rewind" for mark in entry.left_out}
