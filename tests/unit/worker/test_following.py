from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fargate_worker.following import outlook
from turnkeeper.core.ledger import iso
from turnkeeper.core.session import Handoff, Head

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
MILLIS = int(NOW.timestamp() * 1000)


def head(**fields: Any) -> Head:
    at = iso(NOW)
    return Head(
        **{
            "tenant_id": "acme",
            "session_id": "ses_1",
            "user_id": "ann",
            "role": "user",
            "agent": "plain",
            "placement": "background",
            "created_at": at,
            "updated_at": at,
            "turn_started_at": at,
            "status": "running",
            "turn": 3,
            "fencing_token": 7,
            "lease_owner": "somebody",
            "lease_expires_at": MILLIS + 10_000,
            **fields,
        }
    )


def handed_off(seconds_ago: float, **fields: Any) -> Head:
    handoff = Handoff(to="queue", at=iso(NOW - timedelta(seconds=seconds_ago)), **fields)
    return head(status="queued", lease_owner=None, handoff=handoff)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (head(), "wait"),
        (head(status="idle", lease_owner=None), "over"),
        (head(status="stopped", lease_owner=None), "over"),
        (head(turn=4), "over"),
        (head(fencing_token=8), "over"),
        (head(lease_expires_at=MILLIS - 1_000), "wait"),  # clocks differ by seconds
        (head(lease_expires_at=MILLIS - 3_001), "take"),
        (head(fencing_token=8, lease_expires_at=MILLIS - 3_001), "take"),
        (handed_off(1), "wait"),
        (handed_off(11), "take"),
        (handed_off(11, delay_seconds=15), "wait"),
        (handed_off(26, delay_seconds=15), "take"),
        (head(lease_owner=None), "take"),
    ],
)
def test_what_becomes_of_a_followed_message(state: Head, expected: str) -> None:
    assert outlook(state, 3, 7, NOW) == expected


def test_a_jobs_message_names_no_turn() -> None:
    assert outlook(head(turn=4), None, 7, NOW) == "wait"
