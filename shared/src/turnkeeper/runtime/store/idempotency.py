"""Idempotency keys: what a caller did once is found again, for a day, instead of being done twice.

The key's item is written in the same transaction as what it protects. It is its caller's own: another user's key of the
same name is another key. The table takes an item away hours or days after its time, so that is looked at here: a key
whose day is over is free.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from turnkeeper.core.errors import IdempotencyMismatch
from turnkeeper.core.session import Head
from turnkeeper.runtime.store import keys
from turnkeeper.table import ABSENT, AnyOf, Cond, ConditionFailed, Operation, Put, Table

#: How long a key is remembered.
IDEMPOTENCY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A key with the hash of what it protects. ``user_id`` says whose it is, where that is not the session's user."""

    key: str
    body_sha256: str
    user_id: str | None = None
    #: Hashes that others may have written for the same: by another key, or in another release.
    otherwise: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a key stands for: the session and the turn that it made."""

    session_id: str
    turn: int
    #: The last entry of what was done; ``None`` where an earlier release wrote the key.
    seq: int | None = field(default=None, compare=False)


class AlreadyDone(Exception):
    """The key stands for an earlier turn: answer with that one."""

    def __init__(self, earlier: Earlier) -> None:
        super().__init__(earlier.session_id)
        self.earlier = earlier


def earlier(table: Table, tenant_id: str, user_id: str, key: IdempotencyKey, now: datetime) -> Earlier | None:
    """What was done under a key, as long as it is remembered.

    Raises:
        IdempotencyMismatch: it was used with another body.
    """
    item = table.get(keys.idempotency_key(tenant_id, user_id, key.key))
    return _earlier(item, key) if item is not None and item["expires_at_epoch"] > now.timestamp() else None


def claim_key(head: Head, key: IdempotencyKey | None, now: datetime) -> list[Operation]:
    """What takes the key for this turn, as the last operation of its transaction."""
    if key is None:
        return []
    second = int(now.timestamp())
    item = {
        "session_id": head.session_id,
        "turn": head.turn.number,
        "seq": head.last_seq,
        "body_sha256": key.body_sha256,
        "expires_at_epoch": second + IDEMPOTENCY_SECONDS,
    }
    is_free = AnyOf((ABSENT, Cond("expires_at_epoch", "<=", second)))
    return [Put(keys.idempotency_key(head.tenant_id, key.user_id or head.user_id, key.key), item, (is_free,))]


def raise_if_done(failed: ConditionFailed, operations: int, key: IdempotencyKey | None) -> None:
    """Where a transaction of so many operations failed because its key was taken.

    Raises:
        AlreadyDone: by an earlier request.
        IdempotencyMismatch: by another one.
    """
    item = failed.failures.get(operations - 1)
    if key is not None and item is not None and "body_sha256" in item:
        raise AlreadyDone(_earlier(item, key)) from failed


def _earlier(item: Mapping[str, Any], key: IdempotencyKey) -> Earlier:
    if item["body_sha256"] not in {key.body_sha256, *key.otherwise}:
        raise IdempotencyMismatch("this Idempotency-Key was used with another request")
    return Earlier(item["session_id"], item["turn"], item.get("seq"))
