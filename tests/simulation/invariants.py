"""What must hold after any run, whatever died when. The list is explained in docs/invariants.md."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from tests.simulation.world import TENANT, Simulation
from turnkeeper.core import audit
from turnkeeper.core.ledger import Reservation
from turnkeeper.core.scopes import SCOPES, SHARDED
from turnkeeper.core.session import Entry, Head, Usage
from turnkeeper.ports import Key
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.counters import payer_of
from turnkeeper.runtime.store.tenants import audit_records


def check(simulation: Simulation) -> None:
    """Raises AssertionError for the first invariant that does not hold."""
    spent: Counter[Key] = Counter()
    for session_id in simulation.session_ids():
        sessions = simulation.quiet_sessions
        transcript = sessions.load(TENANT, session_id)
        calls = sessions.calls(TENANT, session_id)
        check_transcript(transcript.entries)
        check_inputs(transcript.entries, simulation.accepted.get(session_id, []))
        check_totals(transcript.head, transcript.entries, calls)
        check_audit(simulation, transcript.head, transcript.entries)
        for call in calls:
            reservation = Reservation.model_validate({name: call[name] for name in Reservation.model_fields})
            assert reservation.periods.keys() == SCOPES.keys() - {"task"}, "every scope is capped here"
            for counter in reservation.counters:
                spent[keys.counter_key(payer_of(transcript.head), counter)] += call["spent_nanousd"]
    check_effects(simulation)
    check_counters(simulation, spent)


def check_transcript(entries: tuple[Entry, ...]) -> None:
    """Numbered without gaps; every tool_use answered by exactly one tool_result, in order, in the very next entry."""
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1)), "seq has gaps"
    seen: set[str] = set()
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


def check_inputs(entries: tuple[Entry, ...], texts: list[str]) -> None:
    """Every input that was accepted is there, in order, and none twice. (More may be there than somebody lived to hear
    of.)"""
    said = [entry.content[0]["text"] for entry in entries if entry.type == "user" and not entry.by_kit]
    assert len(set(said)) == len(said), f"an input stands twice: {said}"
    assert [text for text in said if text in texts] == texts, f"accepted {texts}, stored {said}"


def check_totals(head: Head, entries: tuple[Entry, ...], calls: list[dict[str, Any]]) -> None:
    """Totals are the sum of the entries and of the ledger; nothing is pending; one settled call an answer."""
    assert head.resting and head.account.pending is None and head.lease.owner is None
    answers = [entry for entry in entries if entry.type == "assistant"]
    assert head.steps == len(answers)
    usage = Usage()
    for entry in answers:
        usage += Usage.of(entry.usage)
    assert head.account.usage == usage
    assert head.account.cost_nanousd == sum(entry.cost_nanousd for entry in entries), (
        "cost is not the sum of the entries"
    )
    states = Counter(call["state"] for call in calls)
    assert states["pending"] == 0, "a reservation is pending at rest"
    assert head.account.cost_nanousd == sum(call["spent_nanousd"] for call in calls), (
        "cost is not the sum of the ledger"
    )
    assert [call["call"] for call in calls] == list(range(1, head.account.calls + 1))
    assert all(call["spent_nanousd"] <= call["amount_nanousd"] for call in calls)
    assert states["settled"] >= len(answers)


def check_audit(simulation: Simulation, head: Head, entries: tuple[Entry, ...]) -> None:
    """The chain verifies, and holds one record for each tool call."""
    records = simulation.quiet_sessions.audit(TENANT, head.session_id)
    problems = audit.verify(
        audit_records(records), head.audit_seq, head.audit_hash, tenant_id=TENANT, session_id=head.session_id
    )
    assert not problems, problems
    audited = [record["tool_use_id"] for record in records if record["kind"] == "tool_call"]
    called = [outcome.tool_use_id for entry in entries for outcome in entry.outcomes]
    assert audited == called


def check_effects(simulation: Simulation) -> None:
    """``once`` happened at most once a call; a repeated ``idempotent`` call had the same key."""
    happened: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for effect, session_id, tool_use_id, key in simulation.outside:
        happened[effect, session_id, tool_use_id].append(key)
    for (effect, _, tool_use_id), used in happened.items():
        assert len(set(used)) == 1, f"{tool_use_id} ran with several keys"
        if effect == "once":
            assert len(used) == 1, f"{tool_use_id} ran {len(used)} times"


def check_counters(simulation: Simulation, spent: Counter[Key]) -> None:
    """With nothing in flight nothing is reserved, counters agree with the ledger, and no cap was passed."""
    caps = simulation.policy.plans["simulated"].caps
    by_place = {(row.holder, row.period): caps[scope].amount for scope, row in SCOPES.items()}
    months: Counter[str] = Counter()
    for item in simulation.table.snapshot():
        if "spent" not in item:
            continue
        key = Key(item["pk"], item["sk"])
        assert item.get("reserved", 0) == 0, f"{key}: something is still reserved"
        assert item["spent"] == spent.pop(key, 0), f"{key} does not agree with the ledger"
        if "shard" in item:
            months[key.sk] += item["spent"]
            assert item["remaining"] == item["share"] - item["spent"]
        else:
            assert item["committed"] == item["spent"]
            holder = {"U": "user", "A": "agent"}[key.pk.split("#")[2]]
            cap = by_place[holder, key.sk.split("#")[0].lower()]
            assert cap is not None and item["spent"] <= cap, f"{key}: over the cap"
    assert not spent, f"not counted: {spent}"
    cap = caps[SHARDED.name].amount
    assert cap is not None and all(month <= cap for month in months.values()), "over the tenant's cap"
