from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from turnkeeper.core.audit import AuditRecord, as_stored, chain, genesis, hash_of, verify

T0 = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)


def record(seq: int, **changes: Any) -> AuditRecord:
    fields: dict[str, Any] = {
        "tenant_id": "acme",
        "session_id": "ses_01",
        "user_id": "u1",
        "seq": seq,
        "at": T0 + timedelta(seconds=seq),
        "kind": "tool_call",
        "runner": "lambda",
        "tool": "get_invoice",
        "tool_use_id": f"toolu_{seq}",
        "arguments_redacted": {"invoice_id": f"I-{seq}", "amount": 1.5},
        "arguments_salt": f"salt{seq}",
        "result_bytes": 12,
        "duration_ms": 3,
        "outcome": "ok",
    }
    return AuditRecord(**{**fields, **changes})


def chained(count: int, **changes: Any) -> list[AuditRecord]:
    records: list[AuditRecord] = []
    previous = genesis("acme", "ses_01")
    for seq in range(1, count + 1):
        records.append(chain(previous, record(seq, **changes)))
        previous = str(records[-1].hash)
    return records


GOOD = chained(6)
HEAD = str(GOOD[-1].hash)


def problems(records: list[Any], count: int = 6, head: str = HEAD) -> list[str]:
    found = verify(records, count, head, tenant_id="acme", session_id="ses_01")
    return [f"{item.kind} {item.first}-{item.last}" for item in found]


def test_a_whole_chain_has_no_problem() -> None:
    assert problems(GOOD) == []
    assert verify([], 0, "", tenant_id="acme", session_id=None) == []
    assert GOOD[0].previous_hash == genesis("acme", "ses_01")


def test_the_start_binds_tenant_and_session() -> None:
    assert len({genesis("a", "b"), genesis("b", "a"), genesis("a", None), genesis("a", "None"), genesis("ab", "")}) == 5


def erased(record: AuditRecord) -> AuditRecord:
    """As an erasure leaves it."""
    return replace(record, arguments_redacted=None, arguments_salt=None)


def swap(records: list[AuditRecord], index: int, rehash: bool = False, **changes: Any) -> list[AuditRecord]:
    changed = replace(records[index], **changes)
    if rehash:
        changed = chain(str(changed.previous_hash), changed)
    return [*records[:index], changed, *records[index + 1 :]]


CASES: list[tuple[str, Callable[[], list[AuditRecord]], list[str]]] = [
    ("altered", lambda: swap(GOOD, 2, outcome="denied"), ["altered 3-3"]),
    ("altered arguments", lambda: swap(GOOD, 2, arguments_redacted={"invoice_id": "X"}), ["altered 3-3"]),
    ("altered salt", lambda: swap(GOOD, 2, arguments_salt="y"), ["altered 3-3"]),
    ("stripped arguments", lambda: swap(GOOD, 2, arguments_redacted=None), ["altered 3-3"]),
    ("altered and hashed again", lambda: swap(GOOD, 2, rehash=True, outcome="denied"), ["altered 3-3"]),
    ("last altered and hashed again", lambda: swap(GOOD, 5, rehash=True, outcome="denied"), ["head 6-6"]),
    ("missing", lambda: GOOD[:2] + GOOD[3:], ["missing 3-3"]),
    ("several missing", lambda: GOOD[:1] + GOOD[4:], ["missing 2-4"]),
    ("first missing", lambda: GOOD[1:], ["missing 1-1"]),
    ("cut at the end", lambda: GOOD[:4], ["truncated 5-6"]),
    ("all gone", lambda: [], ["truncated 1-6"]),
    ("reordered", lambda: [*GOOD[:1], GOOD[2], GOOD[1], *GOOD[3:]], ["reordered 2-2"]),
    ("duplicated", lambda: [*GOOD[:3], GOOD[2], *GOOD[3:]], ["duplicated 3-3"]),
    (
        "two numbers swapped and hashed again",
        lambda: swap(swap(GOOD, 1, rehash=True, seq=3), 2, rehash=True, seq=2),
        ["altered 1-1", "reordered 2-2", "altered 2-2", "altered 3-3"],
    ),
    ("of another session", lambda: swap(GOOD, 3, rehash=True, session_id="ses_02"), ["foreign 4-4"]),
    ("of another tenant", lambda: swap(GOOD, 3, rehash=True, tenant_id="other"), ["foreign 4-4"]),
    ("without its hash", lambda: swap(GOOD, 3, hash=None), ["altered 4-4"]),
    ("start replaced", lambda: swap(GOOD, 0, rehash=True, previous_hash="0" * 64), ["altered 1-1", "altered 1-1"]),
]


@pytest.mark.parametrize(("tampered", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_tampering_is_found_and_named(tampered: Callable[[], list[AuditRecord]], expected: list[str]) -> None:
    assert problems(tampered()) == expected


def test_a_head_that_disagrees_is_found() -> None:
    assert problems(GOOD, 5, str(GOOD[4].hash)) == ["extra 6-6"]
    assert problems(GOOD, 6, "0" * 64) == ["head 6-6"]
    assert problems([], 0, "0" * 64) == ["head None-None"]
    # A head may claim anything; that must not make the check run forever.
    assert problems(GOOD, 10**12) == [f"truncated 7-{10**12}"]


def test_a_chain_rewritten_from_one_on_is_found_by_its_head() -> None:
    rewritten = list(GOOD[:3])
    for seq in range(4, 7):
        rewritten.append(chain(str(rewritten[-1].hash), record(seq, outcome="denied")))
    assert problems(rewritten) == ["head 6-6"]


def test_stored_mappings_verify_and_unreadable_ones_are_named() -> None:
    stored: list[dict[str, Any]] = [as_stored(item) for item in GOOD]
    assert problems(stored) == []
    assert problems([*stored[:2], {**stored[2], "kind": "nonsense"}, *stored[3:]]) == ["altered 3-3"]
    assert problems([*stored[:2], {**stored[2], "note": "x"}, *stored[3:]]) == ["altered 3-3"]


@pytest.mark.parametrize("at", [Decimal(int(T0.timestamp()) + 3), int(T0.timestamp()) + 3, b"2026-11-22T09:00:03Z"])
def test_a_moment_of_another_type_is_found_and_hides_nothing(at: object) -> None:
    """It reads as the same moment, but records are stored with texts."""
    stored: list[dict[str, Any]] = [as_stored(item) for item in GOOD]
    for changed in ({"at": at}, {"at": at, "duration_ms": "3"}):
        assert problems([*stored[:2], {**stored[2], **changed}, *stored[3:]]) == ["altered 3-3"]


def test_decimals_of_the_table_change_nothing() -> None:
    def decimals(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: decimals(item) for key, item in value.items()}
        return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value

    stored = [decimals(as_stored(item)) for item in chained(2, detail={"limit": 5})]
    head = str(stored[-1]["hash"])
    assert verify(stored, 2, head, tenant_id="acme", session_id="ses_01") == []


def test_an_erased_chain_verifies_only_if_it_says_so() -> None:
    erase = chain(HEAD, record(7, kind="erase", tool=None, arguments_redacted=None, arguments_salt=None))
    assert problems([*map(erased, GOOD), erase], 7, str(erase.hash)) == []
    assert problems(list(map(erased, GOOD))) == [f"altered {seq}-{seq}" for seq in range(1, 7)]
    assert hash_of(erased(GOOD[0])) == GOOD[0].hash
    # Records whose arguments are gone do not hide what is wrong with those behind them.
    altered = [*map(erased, GOOD[:4]), replace(GOOD[4], outcome="denied"), erased(GOOD[5]), erase]
    assert problems(altered, 7, str(erase.hash)) == ["altered 5-5"]
    assert "I-1" not in str(as_stored(erased(GOOD[0])))


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(0, 5), st.integers(0, 3))
def test_any_single_change_is_found(rng: random.Random, index: int, how: int) -> None:
    records = list(GOOD)
    if how == 0:
        del records[index]
    elif how == 1:
        records.insert(rng.randrange(7), records[index])
    elif how == 2:
        other = (index + 1 + rng.randrange(5)) % 6
        records[index], records[other] = records[other], records[index]
    else:
        records = swap(records, index, rehash=rng.random() < 0.5, duration_ms=99)
    assert problems(records)


def test_a_record_is_frozen_strict_and_utc() -> None:
    with pytest.raises(FrozenInstanceError):
        record(1).seq = 2  # type: ignore[misc]
    with pytest.raises(ValidationError):
        record(0)
    with pytest.raises(ValidationError):
        record(1, at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(ValidationError):
        record(1, surprise=1)
    with pytest.raises(ValidationError):
        record(1, arguments_redacted={"x": object()})
    elsewhere = T0.astimezone(timezone(timedelta(hours=2))) + timedelta(seconds=1)
    assert hash_of(record(1, at=elsewhere)) == hash_of(record(1))


def test_a_problem_reads_well() -> None:
    (problem,) = verify(GOOD[:2] + GOOD[4:], 6, HEAD, tenant_id="acme", session_id="ses_01")
    assert str(problem) == "missing 3-4: taken out"
