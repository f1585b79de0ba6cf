"""What has to be true of every transcript, whatever happened to it on the way. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

Document = Mapping[str, Any]

_TOKENS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def faults(session: Document, events: Sequence[Document]) -> list[str]:
    """What is wrong with a transcript as the API tells it; an empty list when nothing is."""
    return [*_gaps(session, events), *_unpaired(session, events), *_sums(session, events)]


def _gaps(session: Document, events: Sequence[Document]) -> list[str]:
    seqs = [event["seq"] for event in events]
    found = []
    if seqs != list(range(1, len(seqs) + 1)):
        found.append(f"the sequence has gaps: {seqs}")
    if session["last_seq"] != len(seqs):
        found.append(f"last_seq is {session['last_seq']}, and there are {len(seqs)} entries")
    return found


def _unpaired(session: Document, events: Sequence[Document]) -> list[str]:
    """Each tool_use has one result, in the next entry; no result is of nothing. A call that is running has none yet."""
    found = []
    asked: list[str] = []
    for event in events:
        answered = [result["tool_use_id"] for result in event.get("results", ())]
        if event["type"] == "status":
            continue
        if answered != asked:
            found.append(f"entry {event['seq']}: asked for {asked}, answered {answered}")
        asked = []
        if event["type"] == "assistant":
            asked = [block["id"] for block in event["content"] if block.get("type") == "tool_use"]
    if asked and session["status"] not in {"running", "queued"}:
        found.append(f"never answered: {asked}")
    return found


def _sums(session: Document, events: Sequence[Document]) -> list[str]:
    found = []
    total = sum((Decimal(event.get("cost_usd") or 0) for event in events), Decimal(0))
    if total != Decimal(session["cost_usd"]):
        found.append(f"the session cost {session['cost_usd']}, its entries {total}")
    answers = [event for event in events if event["type"] == "assistant"]
    if session["steps"] != len(answers):
        found.append(f"steps is {session['steps']}, and there are {len(answers)} answers")
    for name in _TOKENS:
        counted = sum(int((event.get("usage") or {}).get(name) or 0) for event in answers)
        if counted != int((session.get("usage") or {}).get(name) or 0):
            found.append(f"{name}: the session says {session['usage'].get(name)}, its entries {counted}")
    return found


def read_tokens(event: Document) -> int:
    """All that the model was sent for this answer."""
    usage = event.get("usage") or {}
    return sum(int(usage.get(name) or 0) for name in _TOKENS if name != "output_tokens")
