"""Metrics of what lands in the table: what each change of the stream says."""

from __future__ import annotations

from collections.abc import Iterator

from functions.observe.records import Changed
from turnkeeper.runtime.store.codec import LEDGER
from turnkeeper.runtime.store.gateway_tokens import ID_PREFIX
from turnkeeper.runtime.store.purses import Spent
from turnkeeper.telemetry import measuring
from turnkeeper.telemetry.metrics import Sample


def samples_of(change: Changed) -> Iterator[Sample]:
    """Raises ValueError where a head cannot be read."""
    if change.sk == "HEAD" and change.old_head is not None:
        yield from measuring.of_heads(change.old_head, change.head)
    elif change.sk == "TASK" and change.old is not None and change.session_id.startswith(ID_PREFIX):
        # A session's calls through the gateway are counted where its head tells them.
        was, now = Spent.of(change.old), Spent.of(change.new)
        calls, cost = now.calls - was.calls, now.spent_nanousd - was.spent_nanousd
        yield from measuring.of_token(was.usage, now.usage, calls=calls, cost_nanousd=cost)
    elif change.sk.startswith("CALL#"):
        was_open = change.old is None or change.old.get("state") == "pending"
        if was_open and change.new.get("state") != "pending":
            yield from measuring.of_resolved_call(change.new)
    elif change.inserted and LEDGER in change.new:
        # Resolved with the entry that it brought.
        yield from measuring.of_resolved_call(change.new[LEDGER])
    elif change.sk.startswith("AUDIT#") and change.inserted and change.new.get("kind") == "tool_call":
        yield from measuring.of_tool_call(change.new.get("outcome"))
