"""What an erasure takes away, what it keeps, and that it may die at any point."""

from __future__ import annotations

import hashlib
import json
import threading
import zlib
from typing import Any

import pytest

from tests.support.heads import as_once
from tests.support.kit import WHO, MemoryKit
from tests.support.scripted import begin, reply, scripted_kit, use
from turnkeeper import tool
from turnkeeper.core import audit
from turnkeeper.core.errors import LeaseLost
from turnkeeper.core.session import OUTCOME, Head, ToolOutcome
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.tenants import audit_records
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import ConditionFailed, Key, Put, StoreBusy, Update
from turnkeeper.testing.faulty_table import Crash

SECRET = "xyzzy-plugh"
SCRIPT = f'[[tool write_note {{"text": "{SECRET}"}}]] [[tool read_note {{"title": "{SECRET}"}}]] [[say {SECRET}]]'


def finished(kit: MemoryKit, text: str = SCRIPT, **more: Any) -> Head:
    request = NewSession(agent="helper", input=text, metadata={"note": SECRET}, **more)
    return kit.run(kit.intake.create(WHO, request))


def everything(kit: MemoryKit) -> str:
    """All of the table and the bucket, readable."""
    items = map(codec.flattened, kit.table.snapshot())
    values = [value for item in items for value in item.values()] + list(kit.blobs.contents.values())
    return "\n".join(_plain(value) if isinstance(value, bytes) else json.dumps(value) for value in values)


def _plain(data: bytes) -> str:
    return (zlib.decompress(data) if data[:1] == b"\x78" else data).decode()


def chain_problems(kit: MemoryKit, head: Head) -> list[Any]:
    items = audit_records(kit.sessions.audit(head.tenant_id, head.session_id))
    return audit.verify(items, head.audit_seq, head.audit_hash, tenant_id=head.tenant_id, session_id=head.session_id)


def test_contents_go_and_spend_and_audit_stay() -> None:
    kit = MemoryKit(runner="none")
    head = finished(kit, f"{SCRIPT} " + SECRET + "".join(f" {n * 7919:x}" for n in range(40_000)))
    assert SECRET in everything(kit)
    assert kit.blobs.contents
    calls = kit.sessions.calls(head.tenant_id, head.session_id)

    kit.erasure.erase(head, actor="ann")

    assert SECRET not in everything(kit)
    assert not kit.blobs.contents
    after = kit.head(head.session_id)
    assert (after.status, after.stop, after.account.cost_nanousd, after.metadata) == (
        "erased",
        None,
        head.account.cost_nanousd,
        {},
    )
    assert kit.entries(head.session_id)[-1].status == "erased"
    assert [call["spent_nanousd"] for call in kit.sessions.calls(head.tenant_id, head.session_id)] == [
        call["spent_nanousd"] for call in calls
    ]
    assert [entry.type for entry in kit.entries(head.session_id)][:2] == ["user", "assistant"]
    assert chain_problems(kit, after) == []
    kinds = [item["kind"] for item in kit.sessions.audit(head.tenant_id, head.session_id)]
    assert kinds[-1] == "erase"
    assert "tool_call" in kinds


def test_what_its_calls_through_the_gateway_sent_cannot_be_tried() -> None:
    kit = MemoryKit(runner="none")
    head = finished(kit)
    call = keys.call_key("acme", head.session_id, 9)
    told = {"hint_user": SECRET, "body_sha256": hashlib.sha256(SECRET.encode()).hexdigest(), "error": SECRET}
    kit.table.write([Put(call, {"state": "settled", "spent_nanousd": 7, **told})])
    kit.erasure.erase(head, actor="ann")
    left = kit.table.get(call) or {}
    assert (left["state"], left["spent_nanousd"]) == ("settled", 7)
    assert not told.keys() & left.keys()


def test_twice_is_once() -> None:
    kit = MemoryKit(runner="none")
    head = finished(kit)
    kit.erasure.erase(head, actor="ann")
    before = kit.table.snapshot()
    kit.erasure.erase(head, actor="ann")
    kit.erasure.erase(kit.head(head.session_id), actor="ann")
    assert kit.table.snapshot() == before


def test_a_running_session_is_taken_from_its_runner_and_its_call_is_booked_in_full(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kit = MemoryKit(runner="none")
    head = kit.intake.create(WHO, NewSession(agent="helper", input="[[say hello]]", metadata={}))

    def erase_meanwhile(request: Any, *, timeout_seconds: float, **_: Any) -> Any:
        kit.erasure.erase(kit.head(head.session_id), actor="ann")
        raise RuntimeError("whatever comes of the call, it cannot be written any more")

    monkeypatch.setattr(kit.model, "call", erase_meanwhile)
    with pytest.raises(LeaseLost):
        kit.run(head)

    after = kit.head(head.session_id)
    [call] = kit.sessions.calls(head.tenant_id, head.session_id)
    assert (after.status, after.account.pending, after.lease.owner) == ("erased", None, None)
    assert call["state"] == "in_doubt"
    assert call["spent_nanousd"] == after.account.cost_nanousd == call["amount_nanousd"] > 0
    states = {state.scope: state for state in kit.treasury.states(kit.tenants.terms("acme"), after.user_id, [])}
    assert all(state.reserved == 0 for state in states.values())
    assert states["user_daily"].spent == states["tenant_monthly"].spent == after.account.cost_nanousd
    assert chain_problems(kit, after) == []


def test_it_dies_half_way_and_the_sweep_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = MemoryKit(runner="none")
    head = finished(kit)
    write = kit.table.write
    writes = 0

    def dies_at_the_second(operations: Any) -> None:
        nonlocal writes
        writes += 1
        if writes == 2:
            raise StoreBusy("busy")
        write(operations)

    monkeypatch.setattr(kit.table, "write", dies_at_the_second)
    with pytest.raises(StoreBusy):
        kit.erasure.erase(head, actor="ann")
    monkeypatch.undo()
    assert SECRET in everything(kit)

    half = kit.head(head.session_id)
    assert half.status == "erased"
    kit.erasure.finish(half)
    assert SECRET not in everything(kit)
    head_item = next(item for item in kit.table.snapshot() if item["sk"] == "HEAD")
    assert "due_at" not in head_item


def test_a_result_that_comes_too_late_is_not_put_down() -> None:
    kit = MemoryKit(runner="none")
    head = finished(kit)
    kit.erasure.erase(head, actor="ann")
    kit.sessions.put_result(head, "toolu_late", {"result": SECRET})
    assert SECRET not in everything(kit)


def test_a_queued_session_is_not_run_any_more() -> None:
    kit = MemoryKit(runner="none")
    head = kit.intake.create(WHO, NewSession(agent="slow", input="[[say hello]]", metadata={}))
    kit.dispatch.send(head)
    kit.erasure.erase(head, actor="ann")
    assert kit.work(allowance=Allowance(runner="fargate")) == 1
    assert kit.head(head.session_id).status == "erased"
    assert kit.sessions.calls(head.tenant_id, head.session_id) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "stopped"),
        ("fencing_token", 8),
        ("lease_owner", "another"),
        ("last_seq", 8),
        ("revision", 8),
        ("calls", 8),
        ("pending", None),
        ("cost_nanousd", 8),
        ("audit_seq", 8),
    ],
)
def test_what_was_written_meanwhile_is_looked_at_again(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that the transaction builds on is as it was read, or it is not written."""
    kit = MemoryKit(runner="none")
    head = kit.intake.create(WHO, NewSession(agent="plain", input="[[say hello]]", metadata={}))
    monkeypatch.setattr(kit.model, "call", lambda *_, **__: (_ for _ in ()).throw(Crash("dead")))
    with pytest.raises(Crash):
        kit.run(head)
    key = keys.head_key("acme", head.session_id)
    if name in ("calls", "pending", "cost_nanousd", "audit_seq"):
        as_once(kit.table, key)
    head = kit.head(head.session_id)
    assert head.account.pending is not None
    write, attempts = kit.table.write, 0

    def changed_before_the_first(operations: Any) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            kit.table.update(Update(key, remove=(name,)) if value is None else Update(key, set={name: value}))
        write(operations)

    monkeypatch.setattr(kit.table, "write", changed_before_the_first)
    kit.erasure.erase(head, actor="ann")
    assert attempts > 2, "the first attempt was not written"
    after = kit.head(head.session_id)
    assert after.status == "erased"


def test_one_that_is_written_too_often_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = MemoryKit(runner="none")
    head = kit.intake.create(WHO, NewSession(agent="plain", input="[[say hello]]", metadata={}))

    def refused(_: Any) -> None:
        raise ConditionFailed({0: None})

    monkeypatch.setattr(kit.table, "write", refused)
    with pytest.raises(StoreBusy, match="written too often"):
        kit.erasure.erase(head, actor="ann")


def test_calls_that_its_runner_may_be_making_leave_a_trace() -> None:
    """One has put its result down already, of the other nobody knows: the arguments of both are taken away."""
    put = threading.Event()

    @tool(effect="once", name="first")
    def first(secret: str) -> str:
        """Act."""
        put.wait(10)
        return "acted"

    @tool(effect="once", name="second")
    def second(secret: str) -> str:
        """Act, while the session is erased."""
        kit.sessions.put_result(head, calls[0]["id"], {"outcome": OUTCOME.dump_python(done, mode="json")})
        put.set()
        kit.erasure.erase(kit.head(head.session_id), actor="ann")
        return "acted"

    calls = [use("first", secret=SECRET), use("second", secret=SECRET)]
    done = ToolOutcome(tool_use_id=calls[0]["id"], tool="first", outcome="ok", duration_ms=7, result_bytes=5)
    kit = scripted_kit(reply(*calls), tools=[first, second])
    head = begin(kit)
    with pytest.raises(LeaseLost):
        kit.run(head)
    after = kit.head(head.session_id)
    records = [item for item in kit.sessions.audit("acme", head.session_id) if item["kind"] == "tool_call"]
    assert [(item["tool"], item["tool_use_id"], item["outcome"]) for item in records] == [
        ("first", calls[0]["id"], "ok"),
        ("second", calls[1]["id"], "unknown"),
    ]
    assert records[0]["duration_ms"] == 7
    assert SECRET not in everything(kit)
    assert chain_problems(kit, after) == []


@pytest.mark.parametrize("sk", ["ENTRY#000000001", "ENTRY#000000002", "RESULT#"], ids=["input", "calls", "result"])
@pytest.mark.parametrize("damage", [b"\x78damaged", b"{}", b"[7]", 7, b'{"content": 7}'])
def test_what_cannot_be_read_is_no_reason_to_keep_it(sk: str, damage: Any) -> None:
    @tool(effect="once", name="act")
    def act(secret: str) -> str:
        """Act, while an operator damages the session by hand and its user erases it."""
        key = keys.result_key("acme", head.session_id, call["id"]) if sk == "RESULT#" else Key(pk, sk)
        kit.table.write([Update(key, set={"tool_use_id": call["id"], "data": damage})])
        kit.erasure.erase(kit.head(head.session_id), actor="ann")
        return "acted"

    call = use("act", secret=SECRET)
    kit = scripted_kit(reply(call), tools=[act])
    head = begin(kit)
    pk = keys.session_pk("acme", head.session_id)
    with pytest.raises(LeaseLost):
        kit.run(head)
    assert kit.head(head.session_id).status == "erased"
    assert SECRET not in everything(kit)
    assert chain_problems(kit, kit.head(head.session_id)) == []
    known = [item["tool_use_id"] for item in kit.sessions.audit("acme", head.session_id) if item["kind"] == "tool_call"]
    assert known == ([] if sk == "ENTRY#000000002" else [call["id"]])


def test_a_companion_whose_head_cannot_be_read_keeps_nothing_and_no_other() -> None:
    kit = MemoryKit(runner="none")
    head, damaged, other = finished(kit), finished(kit), finished(kit)
    kit.table.write(
        [
            *(
                Put(
                    keys.companion_key("acme", head.session_id, each.session_id),
                    {"companion_tenant": "acme", "companion_session": each.session_id},
                )
                for each in (damaged, other)
            ),
            Put(keys.head_key("acme", damaged.session_id), {"status": "from a later version"}),
        ]
    )
    assert everything(kit).count(SECRET)
    for _ in range(2):
        with pytest.raises(ValueError, match="status"):
            kit.erasure.erase(kit.head(head.session_id), actor="ann")
        assert SECRET not in everything(kit)
    assert "due_at" in (kit.table.get(keys.head_key("acme", head.session_id)) or {}), "the sweep comes again"
