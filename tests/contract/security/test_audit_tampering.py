"""Whoever changes the audit trail in the table is found, and what is done is in it to begin with."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from functions.observe.tampering import Guard
from tests.support.api import MemoryKit
from tests.support.http import Caller
from tests.support.kit import POLICY, WHO
from tests.support.scripted import begin, check_session, play, reply, say, scripted_kit, use
from turnkeeper import Agent, Limits, ToolDenied, tool
from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.adapters.dynamodb_requests import DynamoRequests
from turnkeeper.adapters.table_values import item_to_wire
from turnkeeper.core.audit import as_stored, verify
from turnkeeper.core.called import NO_TOOL
from turnkeeper.core.policy import policy_of
from turnkeeper.core.session import Head
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.tenants import audit_records
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Item, Key, Put
from turnkeeper.testing.recorders import RecordedAlerts
from turnkeeper.testing.schema import create_table
from turnkeeper_local.cli.audits import AuditOffice
from turnkeeper_local.cli.operator import Operator

Records = list[dict[str, Any]]


@tool(effect="once", secret_arguments={"pin"})
def pay(amount: int, pin: str = "") -> str:
    """Pay."""
    return f"paid {amount}"


@tool
def refuse(what: str) -> str:
    """Refuse."""
    raise ToolDenied("Nothing is allowed.")


def calls() -> list[Any]:
    return [
        reply(use("pay", amount=1), use("refuse", what="x")),
        reply(use("pay", amount=2), use("no_such_tool")),
        reply(say("done")),
    ]


@pytest.fixture(scope="module")
def sessions() -> tuple[MemoryKit, Head, Head]:
    kit = scripted_kit(*calls(), *calls(), tools=[pay, refuse])
    return kit, play(kit), play(kit)


def chain_of(kit: MemoryKit, head: Head) -> Records:
    return audit_records(kit.sessions.audit(head.tenant_id, head.session_id))


def problems(head: Head, records: Records) -> list[tuple[str, int | None, int | None]]:
    found = verify(records, head.audit_seq, head.audit_hash, tenant_id=head.tenant_id, session_id=head.session_id)
    return [(problem.kind, problem.first, problem.last) for problem in found]


# ---- every change there is, on the records as the table gives them ----


def changed(value: Any) -> list[Any]:
    """Other values of the same type, and of others."""
    match value:
        case bool():
            return [not value, None]
        case int():
            return [value + 1, -1, str(value) + "0", 1.5]
        case str():
            return [value + "x", "", value[:-1], value.upper() if value.upper() != value else value + "y", 7]
        case Mapping():
            return [{**value, "more": 1}, {}, [], "{}"]
        case list():
            return [[*value, "x"], {}]
    return ["x"]


def test_every_field_of_every_record(sessions: tuple[MemoryKit, Head, Head]) -> None:
    kit, head, _ = sessions
    records = chain_of(kit, head)
    assert problems(head, records) == []
    assert len(records) == 6
    tried = 0
    for at, record in enumerate(records):
        for name in record:
            others = [{**record, name: other} for other in changed(record[name]) if other != record[name]]
            for other in [*others, {key: item for key, item in record.items() if key != name}]:
                found = problems(head, [*records[:at], other, *records[at + 1 :]])
                assert found, (record["seq"], name, other.get(name))
                if name != "seq":
                    assert any(first == record["seq"] for _, first, _ in found), (record["seq"], name, found)
                tried += 1
        assert problems(head, [*records[:at], {**record, "note": "added"}, *records[at + 1 :]])
    assert tried > 200


def without(records: Records, *seqs: int) -> Records:
    return [record for record in records if record["seq"] not in seqs]


def test_records_taken_out_moved_doubled_put_in_and_cut_off(sessions: tuple[MemoryKit, Head, Head]) -> None:
    kit, head, other = sessions
    mine, theirs = chain_of(kit, head), chain_of(kit, other)
    assert problems(head, without(mine, 3)) == [("missing", 3, 3)]
    assert problems(head, without(mine, 1, 2)) == [("missing", 1, 2)]
    assert problems(head, without(mine, 5, 6)) == [("truncated", 5, 6)]
    assert problems(head, []) == [("truncated", 1, 6)]
    assert ("reordered", 2, 2) in problems(head, [mine[0], mine[2], mine[1], *mine[3:]])
    assert ("duplicated", 2, 2) in problems(head, [*mine[:2], mine[1], *mine[2:]])
    assert ("foreign", 3, 3) in problems(head, [*mine[:2], theirs[2], *mine[3:]])
    assert {kind for kind, _, _ in problems(head, theirs)} >= {"foreign"}
    swapped = [{**mine[2], "seq": 4}, {**mine[3], "seq": 3}]
    assert {first for _, first, _ in problems(head, [*mine[:2], swapped[1], swapped[0], *mine[4:]])} >= {3, 4}
    assert ("extra", 7, 7) in problems(head, [*mine, {**mine[5], "seq": 7}])
    # Arguments may go where the chain itself says that it was erased, and nowhere else.
    bare = {key: item for key, item in mine[2].items() if not key.startswith(("arguments_r", "arguments_salt"))}
    assert problems(head, [*mine[:2], bare, *mine[3:]]) == [("altered", 3, 3)]


def test_a_record_rewritten_with_its_own_hash_and_those_behind_it(sessions: tuple[MemoryKit, Head, Head]) -> None:
    from turnkeeper.core.audit import RECORD, chain

    kit, head, _ = sessions
    records = chain_of(kit, head)
    forged, previous = [*records[:2]], str(records[1]["hash"])
    for at, record in enumerate(records[2:]):
        change = {"outcome": "denied"} if at == 0 else {}
        made = chain(previous, RECORD.validate_python({**record, **change}))
        previous = str(made.hash)
        forged.append(as_stored(made))
    # One record with a right hash of its own: the next one tells.
    assert problems(head, [*records[:2], forged[2], *records[3:]]) == [("altered", 3, 3)]
    # All of them: the head tells, which is another item.
    assert problems(head, forged) == [("head", 6, 6)]


# ---- in the table, through the command's own code ----


class Raw:
    """The table as somebody with its credentials has it."""

    def __init__(self, kit: MemoryKit, requests: DynamoRequests | None = None, name: str = "") -> None:
        self._kit, self._requests, self._name = kit, requests, name

    def put(self, item: Item) -> None:
        if self._requests is not None:
            put = {"Put": {"TableName": self._name, "Item": item_to_wire(item)}}
            self._requests.transact_write_items(TransactItems=[put])
            return
        self._kit.table.write([Put(Key(item["pk"], item["sk"]), item)])

    def delete(self, item: Item) -> None:
        if self._requests is not None:
            key = {name: {"S": item[name]} for name in ("pk", "sk")}
            self._requests.transact_write_items(TransactItems=[{"Delete": {"TableName": self._name, "Key": key}}])
            return
        # Tables of the kit cannot delete: so one without the item takes this one's place.
        left = [one for one in self._kit.table.snapshot() if (one["pk"], one["sk"]) != (item["pk"], item["sk"])]
        self._kit.table.__init__()  # type: ignore[misc]
        for one in left:
            self.put(one)


@pytest.fixture(params=["memory", pytest.param("dynamodb", marks=pytest.mark.emulator)])
def tampered(request: pytest.FixtureRequest) -> Iterator[tuple[MemoryKit, Raw]]:
    kit = scripted_kit(*calls(), *calls(), tools=[pay, refuse])
    if request.param == "memory":
        yield kit, Raw(kit)
        return
    endpoint = request.getfixturevalue("emulator")
    aws = Aws(endpoint_url=endpoint, region="us-east-1")
    name = f"audit-{uuid.uuid4().hex[:8]}"
    create_table(aws.dynamodb, name)
    kit.__dict__["table"] = DynamoTable(aws.table_requests, name)
    yield kit, Raw(kit, aws.table_requests, name)


Attack = Callable[[MemoryKit, Raw, Head, Head], None]


def record_of(kit: MemoryKit, head: Head, seq: int) -> Item:
    return next(item for item in kit.sessions.audit(head.tenant_id, head.session_id) if item["seq"] == seq)


def _alter(kit: MemoryKit, raw: Raw, head: Head, _: Head) -> None:
    raw.put({**record_of(kit, head, 3), "outcome": "error"})


def _delete(kit: MemoryKit, raw: Raw, head: Head, _: Head) -> None:
    raw.delete(record_of(kit, head, 3))


def _truncate(kit: MemoryKit, raw: Raw, head: Head, _: Head) -> None:
    raw.delete(record_of(kit, head, 6))


def _swap(kit: MemoryKit, raw: Raw, head: Head, other: Head) -> None:
    mine, theirs = record_of(kit, head, 3), record_of(kit, other, 3)
    raw.put({**theirs, "pk": mine["pk"]})


def _two_places(kit: MemoryKit, raw: Raw, head: Head, _: Head) -> None:
    third, fourth = record_of(kit, head, 3), record_of(kit, head, 4)
    raw.put({**third, "sk": fourth["sk"]})
    raw.put({**fourth, "sk": third["sk"]})


def _double(kit: MemoryKit, raw: Raw, head: Head, _: Head) -> None:
    raw.put({**record_of(kit, head, 3), "sk": "AUDIT#000000003x"})


def _insert(kit: MemoryKit, raw: Raw, head: Head, _: Head) -> None:
    raw.put({**record_of(kit, head, 6), "sk": "AUDIT#000000007", "seq": 7})


def _head_counts_less(kit: MemoryKit, raw: Raw, head: Head, _: Head) -> None:
    raw.delete(record_of(kit, head, 6))
    item = kit.table.get(keys.head_key(head.tenant_id, head.session_id))
    assert item is not None
    raw.put({**codec.flattened(item), "audit_seq": 5})


def _head_gone(kit: MemoryKit, raw: Raw, head: Head, _: Head) -> None:
    key = keys.head_key(head.tenant_id, head.session_id)
    raw.delete({"pk": key.pk, "sk": key.sk})


def _head_broken(kit: MemoryKit, raw: Raw, head: Head, _: Head) -> None:
    item = kit.table.get(keys.head_key(head.tenant_id, head.session_id))
    assert item is not None
    raw.put({**item, "audit_seq": "many", "status": "gone"})


ATTACKS: dict[str, tuple[Attack, set[tuple[str, int | None]]]] = {
    "alter": (_alter, {("altered", 3)}),
    "delete": (_delete, {("missing", 3)}),
    "truncate": (_truncate, {("truncated", 6)}),
    "swap with another session": (_swap, {("foreign", 3)}),
    "two in each other's place": (_two_places, {("reordered", 3)}),
    "double": (_double, {("duplicated", 3)}),
    "insert": (_insert, {("extra", 7)}),
    "truncate and lower the head": (_head_counts_less, {("head", 5)}),
    "take the head away": (_head_gone, {("missing", None)}),
    "break the head": (_head_broken, {("head", None)}),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_verify_finds_it_and_says_which(tampered: tuple[MemoryKit, Raw], attack: str) -> None:
    kit, raw = tampered
    first, second = kit.run(begin(kit)), kit.run(begin(kit))
    audits = AuditOffice(kit)
    assert not [chain for chain in audits.verify_all(WHO.tenant_id) if chain.problems]
    act, expected = ATTACKS[attack]
    act(kit, raw, first, second)
    chain = audits.verify(WHO.tenant_id, first.session_id)
    assert expected <= {(problem.kind, problem.first) for problem in chain.problems}, chain.problems
    # The others are looked at all the same, and hold.
    chains = {chain.session_id: chain.problems for chain in audits.verify_all(WHO.tenant_id)}
    assert chains[second.session_id] == chains[None] == []
    if attack != "take the head away":
        assert chains[first.session_id]


def test_a_tenants_own_chain(tampered: tuple[MemoryKit, Raw]) -> None:
    kit, raw = tampered
    audits = AuditOffice(kit)
    for plan in ("short", "standard", "short"):
        kit.tenants.set("acme", actor="operator:test", plan=plan)
    assert audits.verify("acme", None).problems == []
    records = kit.sessions.audit("acme", None)
    raw.put({**records[1], "detail": {"plan": "short"}})
    assert [(p.kind, p.first) for p in audits.verify("acme", None).problems] == [("altered", 2)]
    raw.delete(records[1])
    assert [(p.kind, p.first) for p in audits.verify("acme", None).problems] == [("missing", 2)]
    key = keys.tenant_key("acme")
    raw.delete({"pk": key.pk, "sk": key.sk})
    assert audits.verify("acme", None).problems[0].kind == "missing"


# ---- what is in it ----


def kinds(kit: MemoryKit, head: Head) -> list[str]:
    return [str(record["kind"]) for record in chain_of(kit, head)]


def last(kit: MemoryKit, head: Head, kind: str) -> dict[str, Any]:
    return [record for record in chain_of(kit, head) if record["kind"] == kind][-1]


def verified(kit: MemoryKit, head: Head) -> None:
    now = kit.head(head.session_id)
    assert problems(now, chain_of(kit, now)) == []


def test_every_call_is_a_record_also_one_that_was_denied() -> None:
    kit = scripted_kit(*calls(), tools=[pay, refuse])
    head = play(kit)
    told = [(r["tool"], r["outcome"]) for r in chain_of(kit, head) if r["kind"] == "tool_call"]
    assert told == [("pay", "ok"), ("refuse", "denied"), ("pay", "ok"), ("no_such_tool", "denied")]


def test_a_call_by_words_that_no_tool_is_called_is_told_among_its_arguments() -> None:
    """They go with these when the session is erased."""
    kit = scripted_kit(reply(use("please pay", amount=7)), reply(say("done")), tools=[pay])
    record = last(kit, play(kit), "tool_call")
    assert (record["tool"], record["outcome"]) == (NO_TOOL, "denied")
    assert record["arguments_redacted"] == {"amount": 7, "_tool": "please pay"}


def test_an_answer_with_hundreds_of_calls_is_written() -> None:
    """A transaction holds a hundred operations: an answer that asks for more must not be one that is never written."""
    many = [use("pay", amount=number) for number in range(300)]
    kit = scripted_kit(reply(*many), reply(say("done")), tools=[pay])
    head = play(kit)
    assert head.status == "idle"
    assert kinds(kit, head).count("tool_call") == 80
    assert "220 more were left out" in str(kit.entries(head.session_id))


def test_a_limit_that_is_raised_and_flags_that_are_cleared_are_an_operators_word() -> None:
    agent = Agent(name="one", model="claude-sonnet-5-5", system="Act.", tools=[pay], limits=Limits(max_iterations=1))
    kit = scripted_kit(reply(use("pay", amount=1)), agents=[agent])
    head = play(kit, "one")
    assert head.stop is not None
    assert head.stop.reason == "iteration_limit"
    assert last(kit, head, "breaker_trip")["detail"]["reason"] == "iteration_limit"
    head = kit.run(kit.intake.resume(head, max_iterations=5, clear_flags=True, actor="operator:eve"))
    check_session(kit, head)
    record = last(kit, head, "operator_action")
    assert record["actor"] == "operator:eve"
    assert record["detail"] == {
        "action": "resume",
        "before": 1,
        "max_iterations": 5,
        "clear_flags": True,
        "up_to_seq": 4,
    }


def test_flags_of_a_session_that_waits_are_cleared_with_a_record() -> None:
    kit = scripted_kit(reply(say("hi")), tools=[pay])
    head = play(kit)
    assert head.status == "idle"
    after = Operator(kit, lambda: "operator:eve").resume("acme", head.session_id, max_iterations=None, clear_flags=True)
    assert (after.status, after.flags_cleared_seq) == ("idle", head.last_seq)
    assert last(kit, head, "operator_action")["actor"] == "operator:eve"
    check_session(kit, kit.head(head.session_id))


def test_a_user_who_raises_a_limit_is_recorded_as_well(ann: Caller, kit: MemoryKit) -> None:
    text = '[[repeat 5]][[tool add {"a": 1, "b": 2}]]'
    turn = ann.post("/v1/sessions", {"agent": "brief", "input": text}).ok()
    body = {"continuation_token": turn["continuation_token"], "limits": {"max_iterations": 3}}
    ann.post("/v1/continue", body).ok()
    record = last(kit, kit.head(turn["session_id"]), "operator_action")
    assert (record["user_id"], record.get("actor"), record["detail"]["max_iterations"]) == ("ann", None, 3)
    verified(kit, kit.head(turn["session_id"]))


def test_a_cancel_names_who_asked_for_it_also_where_a_runner_carries_it_out(ann: Caller, kit: MemoryKit) -> None:
    turn = ann.post("/v1/sessions", {"agent": "helper", "input": "[[sleep 30]][[say late]]"}, wait=0).ok(202)
    kit.wait_for(turn["session_id"], lambda head: head.account.pending is not None)
    admin = ann.but(user="root", role="admin")
    assert admin.post(f"/v1/sessions/{turn['session_id']}/cancel").ok()["status"] == "cancelled"
    head = kit.head(turn["session_id"])
    assert last(kit, head, "cancel")["actor"] == "root"
    verified(kit, head)


def test_an_erasure_leaves_a_chain_that_verifies_and_no_tool_without_a_record() -> None:
    kit = scripted_kit(*calls(), tools=[pay, refuse])
    head = play(kit)
    kit.erasure.erase(head, actor="root")
    assert last(kit, head, "erase")["actor"] == "root"
    verified(kit, head)
    assert not [r for r in chain_of(kit, head) if "arguments_redacted" in r]

    # While a tool runs: its runner can write nothing any more.
    held: list[Head] = []

    @tool(effect="once")
    def quietly(why: str) -> str:
        """Do something, and be erased while doing it."""
        kit.erasure.erase(kit.head(held[0].session_id), actor="mallory")
        return "done"

    kit = scripted_kit(reply(use("quietly", why="a secret reason")), tools=[quietly])
    held.append(begin(kit))
    with pytest.raises(Exception, match="another runner"):
        kit.run(held[0])
    records = [(r["kind"], r.get("tool"), r.get("outcome")) for r in chain_of(kit, held[0])]
    assert records[2:] == [("tool_call", "quietly", "unknown"), ("erase", None, None)]
    assert "secret reason" not in str(kit.table.snapshot())
    verified(kit, held[0])


def test_a_stricter_policy_is_a_record_and_the_grant_never_grows_again() -> None:
    @tool(effect="once", scopes={"notes:write"})
    def write(text: str) -> str:
        """Write."""
        return text

    kit = scripted_kit(
        reply(use("write", text="a")), reply(say("ok")), reply(use("write", text="b")), reply(say("ok")), tools=[write]
    )
    loose = kit.policy
    strict = policy_of({**POLICY, "roles": {**POLICY["roles"], "writer": {"scopes": []}}})
    who = type(WHO)("acme", "ann", "writer")
    head = play(kit, who=who)
    kit.__dict__["policy"] = strict
    kit.__dict__.pop("engine")
    head = kit.run(kit.intake.post(head, "again"), Allowance(runner="fargate"))
    check_session(kit, head)
    assert head.granted_tools == ()
    assert last(kit, head, "grant")["detail"] == {"tools": [], "removed": ["write"], "role": "writer"}
    assert last(kit, head, "tool_call")["outcome"] == "denied"
    assert [len(request.tools) for request in kit.model.requests] == [1, 1, 0, 0]  # type: ignore[attr-defined]
    # Looser again: what was taken away stays away.
    kit.__dict__["policy"] = loose
    kit.__dict__.pop("engine")
    kit.model.add([reply(use("write", text="c"))])  # type: ignore[attr-defined]
    head = kit.run(kit.intake.post(head, "again"))
    assert last(kit, head, "tool_call")["outcome"] == "denied"
    assert head.granted_tools == ()


def test_scopes_that_a_tool_declares_later_narrow_it() -> None:
    @tool(effect="once")
    def send(text: str) -> str:
        """Send."""
        return text

    @tool(effect="once", scopes={"mail:send"}, name="send")
    def guarded(text: str) -> str:
        """Send."""
        return text

    kit = scripted_kit(reply(say("ok")), reply(use("send", text="b")), tools=[send])
    head = play(kit)
    assert head.granted_tools == ("send",)
    later = scripted_kit(reply(use("send", text="b")), tools=[guarded])
    later.__dict__["table"] = kit.table
    head = later.run(later.intake.post(later.head(head.session_id), "go"))
    assert last(later, head, "tool_call")["outcome"] == "denied"
    assert head.granted_tools == ()


def test_pausing_and_changing_a_tenant_are_records_of_its_own_chain(kit: MemoryKit) -> None:
    operator = Operator(kit, lambda: "operator:eve")
    operator.set_tenant("acme", plan="short")
    operator.set_tenant("acme", paused=True)
    operator.set_tenant("acme", paused=False)
    records = kit.sessions.audit("acme", None)
    assert [(r["kind"], r["actor"], r["detail"]) for r in records] == [
        ("policy_change", "operator:eve", {"plan": "short"}),
        ("policy_change", "operator:eve", {"paused": True}),
        ("policy_change", "operator:eve", {"paused": False}),
    ]
    assert operator.audit_office().verify("acme", None).problems == []


def test_a_handoff_and_a_dead_runner_leave_one_whole_chain() -> None:
    first, *rest = calls()

    def slow(_: Any) -> Any:
        kit.clock.advance(40)  # type: ignore[attr-defined]
        return first

    kit = scripted_kit(slow, *rest, tools=[pay, refuse])
    head = kit.run(begin(kit), Allowance(runner="lambda", turn_seconds=50, hard_seconds=900))
    assert head.status == "queued"
    verified(kit, head)
    claimed = kit.sessions.claim("acme", head.session_id, "a runner that dies", "fargate")
    kit.clock.advance(120)  # type: ignore[attr-defined]
    head = kit.run(claimed, Allowance(runner="fargate"))
    check_session(kit, head)
    assert kinds(kit, head).count("tool_call") == 4


# ---- seen as it happens ----


def stream(event: str, old: Item | None, new: Item | None) -> dict[str, Any]:
    images = {"OldImage": old, "NewImage": new}
    wire = {name: item_to_wire(item) for name, item in images.items() if item is not None}
    one = old or new
    assert one is not None
    place = {name: {"S": one[name]} for name in ("pk", "sk")}
    return {"eventName": event, "dynamodb": {"Keys": place, "SequenceNumber": "1", **wire}}


def test_on_call_hears_of_a_record_that_is_changed_or_taken_out(sessions: tuple[MemoryKit, Head, Head]) -> None:
    kit, head, _ = sessions
    heard = RecordedAlerts()
    guard = Guard(heard)
    record = record_of(kit, head, 3)
    bare = {name: item for name, item in record.items() if name not in ("arguments_redacted", "arguments_salt")}
    guard.see(stream("INSERT", None, record))
    guard.see(stream("MODIFY", record, bare))
    guard.see(stream("MODIFY", record, record))
    entry = {**record, "sk": "ENTRY#000000001"}
    guard.see(stream("REMOVE", entry, None))
    assert told_of(heard) == []
    for changed_to in (
        {**record, "outcome": "denied"},
        {**record, "arguments_redacted": {"amount": 7}},
        {**record, "expires_at_epoch": 1},
        bare | {"hash": "0" * 64},
        None,
    ):
        guard.see(stream("REMOVE" if changed_to is None else "MODIFY", record, changed_to))
    assert told_of(heard) == ["audit_tampering"] * 5
    # Names of attributes, never what stands in them.
    assert not [alert for alert in heard.alerts if "amount" in str(alert)]


def told_of(heard: RecordedAlerts) -> list[str]:
    return [alert.kind for alert in heard.alerts]
