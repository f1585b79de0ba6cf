"""How state becomes items and comes back: the same, whatever is in it, and whoever wrote it."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.heads import NOW, head, reservation
from turnkeeper.core.agent import Limits
from turnkeeper.core.canonical import without_surrogates
from turnkeeper.core.session import Breakers, Entry, Flag, Handoff, Head, Plan, PlanItem, Spec, Stop, ToolDefinition
from turnkeeper.core.usage import Usage
from turnkeeper.runtime.store import codec, contents, keys
from turnkeeper.runtime.store.contents import INLINE_BYTES, Damaged
from turnkeeper.testing.memory_blobs import MemoryBlobs

PREFIX = "claims/acme/ses_1/"
#: What no compression makes smaller.
NOISE = random.Random(1).randbytes(INLINE_BYTES).hex()

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


# ---- contents ----


@given(json_values)
def test_what_is_packed_is_unpacked(value: Any) -> None:
    blobs = MemoryBlobs()
    assert contents.unpack(contents.pack(value, blobs, PREFIX), blobs) == value
    assert blobs.contents == {}


def test_a_short_content_stays_readable_and_a_long_one_is_compressed() -> None:
    blobs = MemoryBlobs()
    assert contents.pack({"a": "é"}, blobs, PREFIX) == {"data": '{"a":"é"}'.encode()}
    just_below, just_long_enough = "a" * 509, "a" * 510
    assert contents.pack(just_below, blobs, PREFIX) == {"data": f'"{just_below}"'.encode()}
    assert contents.pack(just_long_enough, blobs, PREFIX)["data"][:1] == b"\x78"
    assert contents.unpack(contents.pack(just_long_enough, blobs, PREFIX), blobs) == just_long_enough


def test_a_large_content_is_a_claim_check_under_its_own_hash() -> None:
    blobs = MemoryBlobs()
    item = contents.pack(NOISE, blobs, PREFIX)
    [(key, data)] = blobs.contents.items()
    digest = hashlib.sha256(data).hexdigest()
    assert item == {"blob": f"{PREFIX}{digest}", "blob_sha256": digest, "blob_bytes": len(data)}
    assert key == item["blob"]
    assert contents.unpack(item, blobs) == NOISE


def test_a_claim_check_that_was_changed_is_damaged() -> None:
    blobs = MemoryBlobs()
    item = contents.pack(NOISE, blobs, PREFIX)
    blobs.put(item["blob"], b"something else")
    with pytest.raises(Damaged) as damaged:
        contents.unpack(item, blobs)
    assert damaged.value.data == {"key": item["blob"]}


def test_what_was_cut_off_is_damaged_and_what_was_erased_is_nothing() -> None:
    blobs = MemoryBlobs()
    whole = contents.pack("a" * 5_000, blobs, PREFIX)["data"]
    with pytest.raises(Damaged):
        contents.unpack({"data": whole[:-8]}, blobs)
    assert contents.unpack({"seq": 1}, blobs) is None


def test_what_would_fill_the_memory_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = MemoryBlobs()
    item = contents.pack("a" * 5_000, blobs, PREFIX)
    monkeypatch.setattr(contents, "MAX_CONTENT_BYTES", 5_001)
    with pytest.raises(Damaged):
        contents.unpack(item, blobs)
    monkeypatch.setattr(contents, "MAX_CONTENT_BYTES", 5_003)
    assert contents.unpack(item, blobs) == "a" * 5_000


# ---- heads ----


FULL = head(
    metadata={"order": "1", "half": "\ud83d"},
    status="stopped",
    stop=Stop(reason="cost_cap", detail={"scope": "task"}),
    last_seq=9,
    steps=3,
    number=2,
    seq=5,
    role="reader",
    iterations=4,
    attempts=1,
    breakers=Breakers(window=("a", "b"), error_streak=2),
    nudged=True,
    put_backs=2,
    cancel_requested=True,
    cancel_actor="bob",
    owner="me",
    fencing_token=7,
    expires_at=1_772_443_800_000,
    claims=3,
    usage=Usage(input_tokens=1, output_tokens=2, cache_read_input_tokens=3, cache_creation_input_tokens=4),
    context_tokens=8,
    cost_nanousd=99,
    untold_nanousd=1,
    pending=reservation(6),
    calls=6,
    runner="fargate",
    handoff=Handoff(to="queue", at=NOW, sends=2, delay_seconds=15),
    unbegun=True,
    step_millis=(900, 800),
    flags=(Flag(seq=3, tool_use_id="t", tool="fetch", score=9, reasons=("why",)),),
    flags_cleared_seq=2,
    granted_tools=("add", "pay"),
    limits=Limits(max_iterations=9, task_usd="1.50"),
    done="end_task",
    audit_seq=4,
    audit_hash="a" * 64,
)


def test_a_head_comes_back_as_it_was() -> None:
    # The turn's own role is named like the session's, and head() gives it to the turn.
    full = replace(FULL, role="writer")
    item = codec.head_item(full)
    json.dumps(item).encode()
    # Half a character, which UTF-8 cannot hold, is the only thing that is not kept.
    kept = replace(full, metadata={name: without_surrogates(value) for name, value in full.metadata.items()})
    assert codec.head_of(item) == kept
    assert codec.head_of({**item, "pk": "p", "sk": "HEAD", "due_at": "x"}) == kept


@given(
    st.tuples(*[st.lists(st.sampled_from(["0" * 8, "89abcdef", "ffffffff"]), max_size=30).map(tuple)] * 2),
    st.one_of(
        st.integers(0, 30).map(lambda number: number),
        st.lists(st.sampled_from(["0" * 8, "0123456789abcdef", "a", "\u00e9"]), max_size=5).map(tuple),
    ),
    st.integers(1, 10**6),
    st.booleans(),
)
def test_a_packed_head_comes_back_as_it_was(seen: Any, window: Any, revision: int, bare: bool) -> None:
    calls, results = seen
    # The window of what was made since something changed is nearly always the end of what was made at all.
    window = calls[len(calls) - min(window, len(calls)) :] if isinstance(window, int) else window
    breakers = Breakers(window=window, calls=calls, results=results)
    before = head() if bare else replace(FULL, metadata={"k": "\u00e9"}, user_id="a#b/\u00e9", tenant_id="a.b")
    packed = replace(before, revision=revision, turn=replace(before.turn, breakers=breakers))
    item = codec.head_item(packed)
    assert codec.head_of(item) == packed
    assert codec.head_of(codec.flattened(item)) == packed
    assert not item.keys() & {"calls", "pending", "breakers", "audit_seq", "metadata"}


def test_what_conditions_and_indexes_read_are_attributes_of_their_own() -> None:
    item = codec.head_item(FULL)
    assert {name: item[name] for name in ("turn", "turn_seq", "turn_role", "lease_owner", "lease_expires_at")} == {
        "turn": 2,
        "turn_seq": 5,
        "turn_role": "reader",
        "lease_owner": "me",
        "lease_expires_at": 1_772_443_800_000,
    }
    assert (item["status"], item["fencing_token"], item["last_seq"], item["cancel_requested"]) == (
        "stopped",
        7,
        9,
        True,
    )
    assert (item["user_key"], item["tenant_key"]) == ("T#acme#U#ann", "T#acme#S")
    assert item["status_key"] == "T#acme#S#stopped"
    assert item["created_key"] == f"{NOW}#ses_1"


def test_what_is_not_there_is_left_out() -> None:
    item = codec.head_item(head(status="idle"))
    assert not item.keys() & {"stop", "handoff", "pending", "lease_owner", "turn_role", "runner", "due_at", "due_shard"}
    assert codec.head_of(item) == head(status="idle")


def test_what_is_no_head_is_refused() -> None:
    with pytest.raises(ValueError, match="status"):
        codec.head_of({**codec.head_item(FULL), "status": "dreaming"})


# ---- when the sweep looks after it ----


@pytest.mark.parametrize(
    ("fields", "due"),
    [
        ({"status": "idle", "updated_at": NOW}, None),
        ({"status": "stopped", "updated_at": NOW, "pending": reservation()}, NOW),
        ({"owner": "me", "expires_at": 1_772_443_830_000}, "2026-03-02T09:30:30.000Z"),
        ({"handoff": Handoff(to="queue", at=NOW)}, "2026-03-02T09:31:00.000Z"),
        ({"handoff": Handoff(to="queue", at=NOW, delay_seconds=15)}, "2026-03-02T09:31:15.000Z"),
        ({"handoff": Handoff(to="queue", at=NOW, sends=2)}, "2026-03-02T09:32:00.000Z"),
        ({"handoff": Handoff(to="queue", at=NOW, sends=4)}, "2026-03-02T09:38:00.000Z"),
        ({"handoff": Handoff(to="queue", at=NOW, sends=5)}, "2026-03-02T09:45:00.000Z"),
        ({"handoff": Handoff(to="queue", at=NOW, sends=50, delay_seconds=1)}, "2026-03-02T09:45:01.000Z"),
        ({"updated_at": NOW}, "2026-03-02T09:31:00.000Z"),
    ],
)
def test_a_session_that_does_not_rest_is_due(fields: dict[str, Any], due: str | None) -> None:
    session = head(**fields)
    assert codec.due_at(session) == due
    item = codec.head_item(session)
    assert (item.get("due_at"), item.get("due_shard")) == (due, due and keys.due_shard("ses_1"))


@pytest.mark.parametrize("status", ["idle", "stopped", "completed", "failed", "cancelled"])
def test_a_session_at_rest_is_kept_for_so_many_days(status: Any) -> None:
    item = codec.head_item(head(status=status, updated_at=NOW, retention_days=30))
    assert (item["due_at"], item["due_shard"]) == ("2026-04-01T09:30:00.000Z", keys.kept_shard("ses_1"))
    assert item["due_shard"].startswith("KEPT#")


@pytest.mark.parametrize("fields", [{"status": "erased"}, {"status": "idle", "retention_days": None}])
def test_a_session_that_is_erased_or_kept_for_good_is_not(fields: dict[str, Any]) -> None:
    assert "due_at" not in codec.head_item(head(**{"retention_days": 30, "updated_at": NOW, **fields}))


def test_what_is_due_comes_before_what_is_kept() -> None:
    running = head(owner="me", expires_at=1_772_443_830_000, retention_days=1)
    left_behind = head(status="stopped", updated_at=NOW, pending=reservation(), retention_days=1)
    for session in (running, left_behind):
        assert codec.head_item(session)["due_shard"] == keys.due_shard("ses_1")


def test_a_lease_is_due_when_it_ends() -> None:
    moment = datetime(2026, 3, 2, 9, 30, 0, 250_000, UTC)
    assert codec.lease_due(int(moment.timestamp() * 1000)) == "2026-03-02T09:30:00.250Z"


# ---- the rest ----


@pytest.mark.parametrize("text", ["short", NOISE])
def test_an_entry_comes_back_as_it_was(text: str) -> None:
    blobs = MemoryBlobs()
    entry = Entry(
        seq=3,
        type="assistant",
        at=NOW,
        content=({"type": "text", "text": text},),
        model="m",
        usage={"input_tokens": 1},
        cost_nanousd=5,
        stop_reason="end_turn",
        duration_ms=7,
        attempts=2,
    )
    item = codec.entry_item(entry, blobs, PREFIX)
    assert (item["seq"], item["type"], item["at"]) == (3, "assistant", NOW)
    assert codec.entry_of(item, blobs) == entry


def test_an_entry_whose_content_was_taken_away_keeps_its_place() -> None:
    assert codec.entry_of({"seq": 3, "type": "user", "at": NOW}, MemoryBlobs()) == Entry(seq=3, type="user", at=NOW)


def test_specs_and_plans_come_back_and_may_be_gone() -> None:
    blobs = MemoryBlobs()
    spec = Spec(
        model="m",
        system="Be.",
        tools=(ToolDefinition(name="add", description="Add.", input_schema={"type": "object"}, effect="read"),),
        model_options={"thinking": {"type": "enabled"}},
    )
    plan = Plan(goal="done", items=(PlanItem(title="one", state="done"),))
    assert codec.spec_of(contents.pack(spec.model_dump(mode="json"), blobs, PREFIX), blobs) == spec
    assert codec.plan_of(contents.pack(plan.model_dump(mode="json"), blobs, PREFIX), blobs) == plan
    assert codec.spec_of({}, blobs) is None
    assert codec.plan_of({}, blobs) is None


ODD: Sequence[Any] = (None, "", "x", "[]", "{}", "null", "[" * 100_000, 0, -1, True, b"", b"\x78x", [1], {"a": 1})


@pytest.mark.parametrize("stored", [FULL, replace(FULL, revision=3)], ids=["flat", "packed"])
def test_whatever_a_head_was_made_into_it_can_be_read_or_is_refused_as_one_that_cannot(stored: Head) -> None:
    """Readers of many heads, the sweep among them, pass over one that cannot be read: any other error would take the
    others from them, too."""
    item = codec.head_item(stored)
    for name, odd in product(item, ODD):
        changed = {key: value for key, value in item.items() if key != name or odd is not None}
        with suppress(ValueError):
            codec.head_of({**changed, name: odd} if odd is not None else changed)
