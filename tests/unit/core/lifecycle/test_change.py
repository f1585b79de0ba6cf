"""What changes have in common: entries in their places, records on their chain."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.support.heads import head
from turnkeeper.core import audit
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle.change import chain, record_of, released, with_status, written
from turnkeeper.core.session import Entry, Stop

NOW = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)


def test_records_are_numbered_on_from_the_head_and_verify() -> None:
    before = head(fencing_token=2)
    first = [record_of(before, NOW, "session_created"), record_of(before, NOW, "grant", tools=["a"])]
    after, chained = chain(before, first)
    assert [record.seq for record in chained] == [1, 2]
    assert (after.audit_seq, after.audit_hash) == (2, chained[-1].hash)
    later, more = chain(after, [record_of(after, NOW, "cancel", actor="bob")])
    assert (later.audit_seq, [record.seq for record in more]) == (3, [3])
    records = [*chained, *more]
    assert audit.verify(records, later.audit_seq, later.audit_hash, tenant_id="acme", session_id="ses_1") == []
    foreign = audit.verify(records, later.audit_seq, later.audit_hash, tenant_id="other", session_id="ses_1")
    assert {problem.kind for problem in foreign} >= {"foreign"}


def test_without_records_the_chain_stays_as_it_is() -> None:
    before = head(audit_seq=4, audit_hash="a" * 64)
    assert chain(before, []) == (before, [])


def test_a_record_says_whose_session_and_which_runner_it_was() -> None:
    record = record_of(head(runner="fargate"), NOW, "grant", actor="bob", turn=2)
    assert (record.tenant_id, record.session_id, record.user_id) == ("acme", "ses_1", "ann")
    assert (record.at, record.kind, record.actor, record.runner) == (NOW, "grant", "bob", "fargate")
    assert record.detail == {"turn": 2}
    assert record_of(head(), NOW, "grant").detail is None


def test_entries_stand_behind_the_last_one() -> None:
    change = written(head(last_seq=7, claims=3), NOW, *(Entry(type="user", at="x") for _ in range(3)))
    assert [entry.seq for entry in change.entries] == [8, 9, 10]
    assert (change.head.last_seq, change.head.updated_at, change.head.lease.claims) == (10, iso(NOW), 0)


def test_lost_runners_are_counted_on_where_the_write_says_so() -> None:
    assert written(head(claims=3), NOW, claims=3).head.lease.claims == 3


@pytest.mark.parametrize(("status", "tells"), [("stopped", True), ("running", False), ("queued", False)])
def test_a_status_entry_tells_the_stop_only_at_rest(status: str, tells: bool) -> None:
    stop = Stop(reason="cost_cap")
    [entry] = with_status(head(status=status, stop=stop), NOW, (), runner="lambda").entries
    assert (entry.status, entry.stop) == (status, stop if tells else None)


def test_a_release_keeps_the_token() -> None:
    after = released(head(owner="me", fencing_token=4, expires_at=9))
    assert (after.lease.owner, after.lease.fencing_token, after.lease.expires_at) == (None, 4, 9)
