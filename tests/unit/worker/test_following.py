from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fargate_worker.following import outlook
from tests.support.heads import head
from turnkeeper.core.ledger import iso
from turnkeeper.core.session import Handoff, Head

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
MILLIS = int(NOW.timestamp() * 1000)


def held(**fields: Any) -> Head:
    lease = {"owner": "somebody", "fencing_token": 7, "expires_at": MILLIS + 10_000}
    return head(**{"number": 3, **lease, **fields})


def handed_off(seconds_ago: float, **fields: Any) -> Head:
    handoff = Handoff(to="queue", at=iso(NOW - timedelta(seconds=seconds_ago)), **fields)
    return held(status="queued", owner=None, handoff=handoff)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (held(), "wait"),
        (held(status="idle", owner=None), "over"),
        (held(status="stopped", owner=None), "over"),
        (held(number=4), "over"),
        (held(fencing_token=8), "over"),
        (held(expires_at=MILLIS - 1_000), "wait"),  # clocks differ by seconds
        (held(expires_at=MILLIS - 3_001), "take"),
        (held(fencing_token=8, expires_at=MILLIS - 3_001), "take"),
        (handed_off(1), "wait"),
        (handed_off(11), "take"),
        (handed_off(11, delay_seconds=15), "wait"),
        (handed_off(26, delay_seconds=15), "take"),
        (held(owner=None), "take"),
    ],
)
def test_what_becomes_of_a_followed_message(state: Head, expected: str) -> None:
    assert outlook(state, 3, 7, NOW) == expected


def test_a_jobs_message_names_no_turn() -> None:
    assert outlook(held(number=4), None, 7, NOW) == "wait"
