"""What must hold of any session at rest, however it came there."""

from __future__ import annotations

from collections import Counter
from typing import Any

from turnkeeper.core.session import Entry, Head
from turnkeeper.core.usage import Usage


def check_transcript(entries: tuple[Entry, ...]) -> None:
    """Numbered without gaps; every tool_use answered by exactly one tool_result, in order, in the very next entry,
    but for words about runners that were lost in between."""
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), "seq has gaps"
    seen: set[str] = set()
    entries = tuple(entry for entry in entries if entry.type != "runner_lost")
    for index, entry in enumerate(entries):
        uses = [block["id"] for block in entry.content if block.get("type") == "tool_use"]
        assert not seen & set(uses), "a tool_use stands twice"
        seen |= set(uses)
        if uses:
            after = entries[index + 1] if index + 1 < len(entries) else None
            assert after is not None and after.type == "tool_results", f"tool_use at {entry.seq} is not answered"
            results = [b["tool_use_id"] for b in after.content if b.get("type") == "tool_result"]
            assert results == uses, f"tool_use at {entry.seq}: {uses} answered by {results}"
            assert [outcome.tool_use_id for outcome in after.outcomes] == uses


def check_totals(head: Head, entries: tuple[Entry, ...], calls: list[dict[str, Any]]) -> None:
    """Totals are the sum of the entries and of the ledger; nothing is pending; a settled call for each answer and each
    summary that the model wrote."""
    answers = [entry for entry in entries if entry.type == "assistant"]
    assert head.steps == len(answers)
    usage = Usage()
    for entry in entries:
        usage += Usage.of(entry.usage)
    assert head.account.usage == usage
    cost = sum(entry.cost_nanousd for entry in entries)
    assert head.account.cost_nanousd == cost, "cost is not the sum of the entries"
    doubted = sum(entry.in_doubt_nanousd for entry in entries)
    assert head.account.in_doubt_nanousd == doubted, "what is in doubt is not the sum of the entries"
    check_ledger(head, calls)
    wrote = [entry for entry in entries if entry.usage is not None]
    assert Counter(call["state"] for call in calls)["settled"] >= len(wrote)


def check_ledger(head: Head, calls: list[dict[str, Any]]) -> None:
    """Nobody has the session, no money is set aside for it, and its cost is the sum of its ledger."""
    assert head.resting and head.account.pending is None and head.lease.owner is None
    assert all(call["state"] != "pending" for call in calls), "a reservation is pending at rest"
    spent = sum(call["spent_nanousd"] for call in calls)
    assert head.account.cost_nanousd == spent, "cost is not the sum of the ledger"
    doubted = sum(call["spent_nanousd"] for call in calls if call["state"] == "in_doubt")
    assert head.account.in_doubt_nanousd == doubted, "what is in doubt is not that of the ledger"
    assert [call["call"] for call in calls] == list(range(1, head.account.calls + 1))
    assert all(call["spent_nanousd"] <= call["amount_nanousd"] for call in calls)
