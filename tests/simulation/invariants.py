"""What must hold after any run, whatever died when. The list is explained in docs/invariants.md."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from itertools import chain

from tests.simulation.world import Simulation
from tests.support.checks import check_ledger, check_totals, check_transcript
from tests.support.money import counters_in, place_of
from tests.support.traces import check_stretches
from turnkeeper.core import audit
from turnkeeper.core.ledger import Reservation
from turnkeeper.core.lifecycle.change import must_take_input
from turnkeeper.core.projection import project
from turnkeeper.core.scopes import SCOPES, SHARDED
from turnkeeper.core.session import Entry, Head, Transcript
from turnkeeper.core.transcript import text_block
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.counters import payer_of
from turnkeeper.runtime.store.tenants import audit_records
from turnkeeper.table import Item, Key
from turnkeeper_local.standin.validate import validate_message

#: Attributes that hold what was said, or what a tool was called with.
CONTENTS = {"data", "blob", "arguments_redacted", "arguments_salt", "error"}


def check(simulation: Simulation) -> None:
    """Raises AssertionError for the first invariant that does not hold."""
    assert not simulation.violations, simulation.violations[0]
    accepted = simulation.users.accepted
    assert accepted.keys() <= set(simulation.session_ids()), "an accepted input has no session"
    spent: Counter[Key] = Counter()
    for session_id in simulation.session_ids():
        sessions = simulation.quiet_sessions
        transcript = sessions.load(simulation.tenant_id, session_id)
        calls = sessions.calls(simulation.tenant_id, session_id)
        check_session(simulation, transcript, calls)
        for call in calls:
            reservation = Reservation.model_validate(
                {name: call[name] for name in Reservation.model_fields if name in call}
            )
            assert reservation.periods.keys() == SCOPES.keys() - {"task"}, "every scope is capped here"
            for counter in reservation.counters:
                spent[place_of(payer_of(transcript.head), counter)] += call["spent_nanousd"]
    check_effects(simulation)
    check_counters(simulation, spent)
    check_resumes(simulation)
    check_dead_letters(simulation)
    check_alerts(simulation)


def check_session(simulation: Simulation, transcript: Transcript, calls: list[Item]) -> None:
    head, entries = transcript.head, transcript.entries
    check_end(head, damaged=head.session_id in simulation.users.damaged)
    if head.status == "erased":
        check_ledger(head, calls)
        check_erased(simulation, head)
        check_audit(simulation, head)
    else:
        assert head.session_id not in simulation.users.erased, "it was erased, and is back"
        check_transcript(entries)
        check_inputs(entries, simulation.users.accepted.get(head.session_id, []))
        check_totals(head, entries, calls)
        check_way_on(head, entries)
        if head.session_id not in simulation.users.damaged:
            check_stretches(simulation.heads.ends[head.session_id], entries, calls)
        audited = check_audit(simulation, head)
        assert audited == [outcome.tool_use_id for entry in entries for outcome in entry.outcomes]


def check_end(head: Head, *, damaged: bool) -> None:
    """No turn ends by an error of our own, but where too many runners in a row were lost."""
    if head.stop is not None and head.stop.reason == "internal_error" and not damaged:
        assert "runners in a row" in str(head.stop.detail), f"an error of our own: {head.stop.detail}"


def check_way_on(head: Head, entries: tuple[Entry, ...]) -> None:
    """Unless it has ended, the session takes an input, and with it what is sent is what the API takes."""
    if head.ended:
        return
    must_take_input(head)
    said = Entry(seq=head.last_seq + 1, type="user", at=head.updated_at, content=(text_block("and now?"),))
    body = {"model": "m", "max_tokens": 5, "messages": project([*entries, said]).messages}
    validate_message(json.loads(json.dumps(body, allow_nan=False)), beta=False)


def check_inputs(entries: tuple[Entry, ...], texts: list[str]) -> None:
    """Every input that was accepted is there, in order, and none twice. (More may be there than somebody lived to hear
    of.)"""
    inputs = [entry.content[0]["text"] for entry in entries if entry.type == "user" and not entry.by_kit]
    assert len(set(inputs)) == len(inputs), f"an input stands twice: {inputs}"
    assert [text for text in inputs if text in texts] == texts, f"accepted {texts}, stored {inputs}"


def check_erased(simulation: Simulation, head: Head) -> None:
    """Nothing is left of what was said, what tools were called with, and what they returned."""
    last = keys.entry_key(head.tenant_id, head.session_id, head.last_seq)  # It only says that it was erased.
    for item in simulation.table.query_all(last.pk):
        left = CONTENTS & item.keys()
        assert not left or item["sk"] == last.sk, f"{item['sk']} of an erased session still has {left}"
    prefix = keys.blob_prefix(head.tenant_id, head.session_id)
    assert not [key for key in simulation.blobs.contents if key.startswith(prefix)], "an erased session still has blobs"


def check_audit(simulation: Simulation, head: Head) -> list[str]:
    """The chain verifies, and holds every call that a tool was made for; the calls that it holds."""
    records = simulation.quiet_sessions.audit(simulation.tenant_id, head.session_id)
    problems = audit.verify(
        audit_records(records),
        head.audit_seq,
        head.audit_hash,
        tenant_id=simulation.tenant_id,
        session_id=head.session_id,
    )
    assert not problems, problems
    audited = [record["tool_use_id"] for record in records if record["kind"] == "tool_call"]
    ran = {tool_use_id for _, session_id, tool_use_id, _ in simulation.tools.done if session_id == head.session_id}
    assert ran <= set(audited), f"tools ran without a record: {ran - set(audited)}"
    return audited


def check_effects(simulation: Simulation) -> None:
    """``once`` happened at most once a call; a repeated ``idempotent`` call had the same key."""
    happened: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for effect, session_id, tool_use_id, key in simulation.tools.done:
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
    counted = [counters_in(item) for item in simulation.table.snapshot() if "spent" in item]
    for key, item in chain.from_iterable(each.items() for each in counted):
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


def check_resumes(simulation: Simulation) -> None:
    """A stopped session is resumed by the token of that very stop, once, and by no other."""
    for session_id, (at_least, at_most) in simulation.users.resumes.items():
        if session_id not in simulation.users.damaged:
            resumed = simulation.heads.departures[session_id]
            assert at_least <= resumed <= at_most, f"{session_id} was resumed {resumed} times"


def check_dead_letters(simulation: Simulation) -> None:
    """What can never work is there, with its reason, and nothing else."""
    letters = {letter.body: letter.error_code for letter in simulation.queue.dead_letters}
    users = simulation.users
    assert users.nonsense_sent <= letters.keys() <= users.nonsense, letters
    assert set(letters.values()) <= {"unknown_schema"}, letters


def check_alerts(simulation: Simulation) -> None:
    """Money is left behind at rest only where somebody's hand did it; then the sweep says so."""
    alerted = {(alert.kind, alert.data["session_id"]) for alert in simulation.alerts.alerts}
    assert alerted <= {("stale_reservation", session_id) for session_id in simulation.users.damaged}, alerted
