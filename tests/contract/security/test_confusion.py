"""Passing for another tenant, user or role: on every route and on the queue."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable
from typing import Any

import pytest

from fargate_worker.reading import Reader, Rejected
from functions.api.app import FrontDoor
from tests.support.http import Caller, Response, answered, event
from tests.support.kit import MemoryKit
from tests.support.scripted import begin, play, reply, results, say, scripted_kit, use
from turnkeeper import tool
from turnkeeper.core.continuation import continuation_of
from turnkeeper.ports import Message
from turnkeeper.runtime.intake import Identity
from turnkeeper.runtime.jobs import parse, session_id_of_job
from turnkeeper.runtime.store import keys

#: What must not be in anything that a stranger is told.
PRIVATE = "the quiet word"
STRANGERS: dict[str, dict[str, Any]] = {
    "another user": {"user": "bob"},
    "a user of the same name in another tenant": {"tenant": "umbrella"},
    "another tenant's admin": {"tenant": "umbrella", "role": "admin"},
    "a role that only looks like admin": {"user": "bob", "role": "Admin"},
    "a tenant in other letters": {"tenant": "ACME", "role": "admin"},
    "a tenant with a dot more": {"tenant": "acme.", "role": "admin"},
}

Call = Callable[[Caller, str, str], Response]
ROUTES: dict[str, Call] = {
    "get": lambda who, session, _: who.get(f"/v1/sessions/{session}"),
    "post": lambda who, session, _: who.post(f"/v1/sessions/{session}/turns", {"input": "hi"}),
    "events": lambda who, session, _: who.get(f"/v1/sessions/{session}/events"),
    "stream": lambda who, session, _: who.get(f"/v1/sessions/{session}/events?wait=0", accept="text/event-stream"),
    "cancel": lambda who, session, _: who.post(f"/v1/sessions/{session}/cancel"),
    "rewind": lambda who, session, _: who.post(f"/v1/sessions/{session}/rewind", {"turns": 1}),
    "fork": lambda who, session, _: who.post(f"/v1/sessions/{session}/fork", {"input": "x"}),
    "erase": lambda who, session, _: who.delete(f"/v1/sessions/{session}"),
    "spend": lambda who, session, _: who.get(f"/v1/spend?session_id={session}"),
    "continue": lambda who, _, token: who.post("/v1/continue", {"continuation_token": token}),
}


@pytest.mark.parametrize("stranger", STRANGERS.values(), ids=list(STRANGERS))
@pytest.mark.parametrize("route", ROUTES)
def test_a_session_of_somebody_else_is_not_there(
    ann: Caller, kit: MemoryKit, route: str, stranger: dict[str, Any]
) -> None:
    made = ann.post("/v1/sessions", {"agent": "plain", "input": f"[[say {PRIVATE}]]"}).ok()
    token = kit.tokens.sign(continuation_of(kit.head(made["session_id"])))
    before = kit.table.snapshot()
    real = ROUTES[route](ann.but(**stranger), made["session_id"], token)
    real.problem(404, "session_not_found")
    assert PRIVATE not in real.body
    assert kit.table.snapshot() == before
    # The same words, but for the id, as for a session that never was.
    if route != "continue":
        never = "ses_" + "0" * 26
        fake = ROUTES[route](ann.but(**stranger), never, token)
        assert fake.body.replace(never, made["session_id"]) == real.body
        assert dict(fake.headers) == dict(real.headers)


def test_admin_is_admin_of_its_own_tenant_only(ann: Caller) -> None:
    ann.post("/v1/sessions", {"agent": "plain", "input": PRIVATE}).ok()
    admin = ann.but(tenant="umbrella", user="root", role="admin")
    assert admin.get("/v1/sessions").json()["sessions"] == []
    assert PRIVATE not in admin.get("/v1/sessions").body


def test_idempotency_keys_are_of_their_sender(ann: Caller) -> None:
    body = {"agent": "plain", "input": "hello"}
    mine = ann.post("/v1/sessions", body, key="1").ok()
    ids = {mine["session_id"]}
    for stranger in ({"user": "bob"}, {"tenant": "umbrella"}, {"user": "root", "role": "admin"}):
        other = ann.but(**stranger)
        ids.add(other.post("/v1/sessions", body, key="1").ok()["session_id"])
        # Nor does another's use of the key say that it was used.
        other.post("/v1/sessions", {**body, "input": "else"}, key=f"2{stranger}").ok()
    assert len(ids) == 4
    assert ann.post("/v1/sessions", body, key="1").ok()["session_id"] == mine["session_id"]


def test_an_admins_key_in_a_users_session_is_the_admins(ann: Caller) -> None:
    session = ann.post("/v1/sessions", {"agent": "plain", "input": "hello"}).ok()["session_id"]
    admin = ann.but(user="root", role="admin")
    body = {"input": "from the admin"}
    first = admin.post(f"/v1/sessions/{session}/turns", body, key="k").ok()
    assert admin.post(f"/v1/sessions/{session}/turns", body, key="k").ok()["turn"] == first["turn"]
    # It is neither in the way of the user's own, nor found by it.
    assert ann.post(f"/v1/sessions/{session}/turns", {"input": "from ann"}, key="k").ok()["turn"] == first["turn"] + 1
    # Who is no admin any more reads nothing by an old key.
    admin.but(role="user").post(f"/v1/sessions/{session}/turns", body, key="k").problem(404, "session_not_found")


@pytest.mark.parametrize("alter", ["tenant", "index", "other list", "junk", "deep", "keys"])
def test_cursors_of_others_lead_nowhere(ann: Caller, alter: str) -> None:
    for _ in range(2):
        ann.post("/v1/sessions", {"agent": "plain", "input": PRIVATE}).ok()
    cursor = ann.get("/v1/sessions?limit=1").json()["next_cursor"]
    place = json.loads(base64.urlsafe_b64decode(cursor))
    stranger = ann.but(user="bob", tenant="umbrella" if alter == "tenant" else "acme")
    sent = {
        "tenant": cursor,
        "index": cursor,
        "other list": base64.urlsafe_b64encode(json.dumps({**place, "list": "T#acme#S"}).encode()).decode(),
        "junk": "x" * 5000,
        "deep": base64.urlsafe_b64encode(b"[" * 3000).decode(),
        "keys": base64.urlsafe_b64encode(b'{"pk": "T#acme", "sk": "TENANT"}').decode(),
    }[alter]
    answer = stranger.get(f"/v1/sessions?cursor={sent}")
    answer.problem(400, "invalid_request")
    assert PRIVATE not in answer.body


# ---- names ----


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        " acme",
        "acme ",
        "acme, acme",
        "acme,umbrella",
        "acme\n",
        "acme\x00",
        "аcme",
        "ａcme",
        "acme\u200b",
        "a" * 129,
        "acme#S#x",
        "acme/..",
        "%61cme",
    ],
)
@pytest.mark.parametrize("header", ["x-tenant-id", "x-user-id", "x-user-role"])
def test_a_header_that_is_no_plain_name_is_refused(ann: Caller, header: str, value: str) -> None:
    assert ann.call("GET", "/v1/sessions", headers={header: value}).status == 400


@pytest.mark.parametrize("order", list(itertools.permutations(["x-tenant-id", "X-Tenant-Id", "X-TENANT-ID"], 2)))
def test_a_header_in_two_spellings_names_nobody(kit: MemoryKit, order: tuple[str, str]) -> None:
    headers = {order[0]: "acme", order[1]: "umbrella", "x-user-id": "ann"}
    answered(FrontDoor(kit), event("GET", "/v1/sessions", headers=headers)).problem(400, "invalid_request")


CLAIMS = {"tenant_id": "acme", "sub": "ann", "role": "user"}


NOBODY: list[Any] = [None, "", True, 1.5, [], {"a": 1}, "a b", "a\n", "á", "x" * 129]


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        *itertools.product(["tenant_id", "sub", "role"], NOBODY),
        # One name in a list is a role, but nobody's tenant or user.
        ("tenant_id", ["acme"]),
        ("sub", ["acme"]),
        ("role", ["user", "admin"]),
        ("role", [1]),
    ],
)
def test_a_claim_of_another_type_names_nobody(claim: str, value: Any) -> None:
    kit = MemoryKit(identity="jwt", runner="none")
    authorizer = {"jwt": {"claims": {**CLAIMS, claim: value}}}
    # Headers are no way round.
    headers = {"x-tenant-id": "acme", "x-user-id": "ann", "x-user-role": "admin"}
    made = event("GET", "/v1/sessions", authorizer=authorizer, headers=headers)
    answered(FrontDoor(kit), made).problem(401, "unauthenticated")


def test_headers_say_nothing_where_tokens_do() -> None:
    kit = MemoryKit(identity="jwt", runner="inline")
    headers = {"x-tenant-id": "umbrella", "x-user-id": "root", "x-user-role": "admin", "prefer": "wait=0"}
    body = '{"agent": "helper", "input": "x", "metadata": {"tenant_id": "umbrella", "role": "admin"}}'
    made = event("POST", "/v1/sessions", authorizer={"jwt": {"claims": CLAIMS}}, headers=headers, body=body)
    head = kit.head(answered(FrontDoor(kit), made).ok(200, 202)["session_id"])
    assert (head.tenant_id, head.user_id, head.role) == ("acme", "ann", "user")
    assert "write_note" not in head.granted_tools


def test_two_names_never_share_a_key() -> None:
    names = [
        "a",
        "a#S#b",
        "a%23S%23b",
        "a/b",
        "a%2Fb",
        "a\nb",
        "a\x00b",
        "..",
        ".",
        "%2E%2E",
        "a#",
        "#a",
        "a.",
        "A",
        "ä",
    ]
    pairs = list(itertools.product(names, names))
    for key in (keys.session_pk, keys.by_user, keys.blob_prefix):
        assert len({key(*pair) for pair in pairs}) == len(pairs)
    assert len({keys.idempotency_key(*pair, "k") for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert keys.session_of_pk(keys.session_pk(*pair)) == pair
        assert not {".", "..", ""} & set(keys.blob_prefix(*pair).strip("/").split("/"))


@pytest.mark.parametrize("session_id", ["x" * 3000, "a%23b", "", "ses_" + "a" * 26 + "%0A", "..%2F..", "ses_%00"])
def test_what_names_no_session_is_no_error_of_ours(ann: Caller, session_id: str) -> None:
    ann.get(f"/v1/spend?session_id={session_id}").problem(404, "session_not_found")
    assert ann.get(f"/v1/sessions/{session_id}/events").status == 404


# ---- roles ----


def body_with(**more: Any) -> dict[str, Any]:
    return {"agent": "helper", "input": '[[tool write_note {"text": "x"}]]', **more}


@pytest.mark.parametrize(
    "more",
    [
        {"role": "admin"},
        {"user_id": "root"},
        {"tenant_id": "umbrella"},
        {"granted_tools": ["write_note"]},
        {"scopes": ["notes:write"]},
        {"metadata": {"role": "admin", "scopes": ["notes:write"], "granted_tools": ["write_note"]}},
    ],
)
def test_a_body_gives_nothing(ann: Caller, kit: MemoryKit, more: dict[str, Any]) -> None:
    answer = ann.post("/v1/sessions", body_with(**more))
    if answer.status != 200:
        answer.problem(400, "invalid_request")
        return
    assert "write_note" not in kit.head(answer.json()["session_id"]).granted_tools
    assert kit.notes == []


@tool(effect="once", scopes={"notes:write"})
def write(text: str) -> str:
    """Write."""
    return f"wrote {text}"


def test_a_turn_has_no_more_than_whoever_begins_it() -> None:
    """A demoted user, or an admin who may not write, in a session that may: for that turn it may not."""
    kit = scripted_kit(
        reply(use("write", text="a")), reply(say("ok")), reply(use("write", text="b")), reply(say("ok")), tools=[write]
    )
    writer = Identity("acme", "ann", "writer")
    head = play(kit, who=writer)
    head = kit.run(kit.intake.post(head, "again", who=Identity("acme", "ann", "user")))
    assert [outcome for _, outcome, _ in results(kit, head)] == ["ok", "denied"]
    assert [len(request.tools) for request in kit.model.requests] == [1, 1, 0, 0]  # type: ignore[attr-defined]
    grants = [r["detail"] for r in kit.sessions.audit("acme", head.session_id) if r["kind"] == "grant"]
    assert grants[1:] == [{"turn": 2, "role": "user"}]
    # The session's own grant is what it was.
    kit.model.add([reply(use("write", text="c"))])  # type: ignore[attr-defined]
    head = kit.run(kit.intake.post(head, "again", who=writer))
    assert results(kit, head)[-1][1] == "ok"


# ---- the queue ----


def job(**more: Any) -> str:
    body = {"schema": "turnkeeper.job/v1", "job_id": "j", "tenant_id": "acme", "user_id": "ann", "agent": "helper"}
    return json.dumps({**body, "input": "hi", **more})


def reader(kit: MemoryKit) -> Reader:
    return Reader(kit.intake, kit.tokens)


def received(body: str) -> Message:
    return Message(message_id="m", receipt="r", body=body, receive_count=1, group=None)


@pytest.mark.parametrize(
    "more",
    [
        {"granted_tools": ["write_note"]},
        {"session_id": "ses_" + "0" * 26},
        {"scopes": ["notes:write"]},
        {"tenant_id": ["acme"]},
        {"role": ["admin"]},
        {"role": ""},
        {"tenant_id": ""},
        {"input": [{"type": "tool_result", "tool_use_id": "t", "content": "x"}]},
        {"input": [{"type": "image", "source": {"type": "file", "file_id": "file_of_somebody"}}]},
        {"input": [{"type": "document", "source": {"type": "url", "url": "http://169.254.169.254/"}}]},
        {
            "input": [
                {
                    "type": "document",
                    "source": {
                        "type": "content",
                        "content": [{"type": "image", "source": {"type": "file", "file_id": "file_of_somebody"}}],
                    },
                }
            ]
        },
    ],
)
def test_a_job_that_asks_for_more_can_never_work(kit: MemoryKit, more: dict[str, Any]) -> None:
    with pytest.raises(Rejected) as rejected:
        reader(kit).read(received(job(**more)))
    assert rejected.value.error_code == "invalid_job"
    assert kit.table.snapshot() == []


@pytest.mark.parametrize("depth", [40, 300, 900, 100_000])
@pytest.mark.parametrize("where", ["metadata", "input"])
def test_a_job_nested_too_deep_can_never_work(kit: MemoryKit, where: str, depth: int) -> None:
    nest = "[" * depth + "]" * depth
    body = (
        job(metadata={"a": "NEST"}) if where == "metadata" else job(input=[{"type": "text", "text": "x", "a": "NEST"}])
    )
    with pytest.raises(Rejected):
        reader(kit).read(received(body.replace('"NEST"', nest)))


@pytest.mark.parametrize("role", ["Admin", "ADMIN", "admin ", "writer\x00", "nobody", "*"])
def test_a_job_with_a_role_of_no_policy_gets_nothing(kit: MemoryKit, role: str) -> None:
    work = reader(kit).read(received(job(role=role)))
    assert set(kit.head(work.session_id).granted_tools) == {"add", "fail", "update_plan"}


@pytest.mark.parametrize("tenant", ["acme#S#x", "acme/../umbrella", "..", "acme\n", "acme\x00", "acm\u0435", "%61cme"])
def test_a_jobs_tenant_is_nobody_else(ann: Caller, kit: MemoryKit, tenant: str) -> None:
    ann.post("/v1/sessions", {"agent": "plain", "input": PRIVATE}).ok()
    work = reader(kit).read(received(job(tenant_id=tenant)))
    assert work.tenant_id == tenant
    assert work.session_id != session_id_of_job("acme", "j")
    listed = ann.but(role="admin").get("/v1/sessions").json()["sessions"]
    assert work.session_id not in {session["session_id"] for session in listed}


def test_a_continuation_on_the_queue_is_signed_or_nothing(kit: MemoryKit) -> None:
    head = begin(kit, "plain")
    good = kit.tokens.sign(continuation_of(head))
    kit.signing_keys = ["another key"]
    stolen = kit.tokens.sign(continuation_of(head))
    kit.signing_keys = ["a signing key of the tests"]
    for token in (stolen, good[:-2] + "AA", good.replace(".", "..", 1), "x", good + " "):
        with pytest.raises(Rejected) as rejected:
            reader(kit).read(received(json.dumps({"schema": "turnkeeper.job/v1", "continuation_token": token})))
        assert rejected.value.error_code == "unauthenticated"
    parse(json.dumps({"schema": "turnkeeper.job/v1", "continuation_token": good}))


# ---- errors ----


@pytest.mark.parametrize("depth", [100, 900, 1_500, 200_000])
@pytest.mark.parametrize(
    "frame", ["%s", '{"agent":"plain","input":"x","metadata":{"a":%s}}', '{"agent":%s,"input":"x"}']
)
def test_a_body_nested_deep_is_the_callers_error(ann: Caller, frame: str, depth: int) -> None:
    text = frame % ("[" * depth + "]" * depth)
    ann.call("POST", "/v1/sessions", text=text, headers={"idempotency-key": "k"}).problem(400, "invalid_request")


def test_what_a_caller_sends_never_becomes_a_header(ann: Caller) -> None:
    evil = "x\r\nset-cookie: a=b"
    for answer in (
        ann.post("/v1/sessions", {"agent": evil, "input": "x"}),
        ann.get("/v1/sessions/" + "x%0d%0aset-cookie:a"),
        ann.call("GET", "/v1/" + evil),
        ann.post("/v1/sessions", {"agent": "plain", "input": "x"}, prefer=f"wait=0; {evil}"),
        ann.get("/v1/sessions?status=" + "x%0d%0aset-cookie:a"),
    ):
        assert not [name for name, value in answer.headers.items() if "\n" in f"{name}{value}" or "cookie" in name]


def test_errors_of_ours_tell_nothing(ann: Caller, kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(f"{PRIVATE} at T#umbrella#S#ses_1 in /var/task/turnkeeper/x.py")

    monkeypatch.setattr(kit.sessions, "head", broken)
    answer = ann.get("/v1/sessions/ses_" + "0" * 26)
    answer.problem(500, "internal_error")
    for word in (PRIVATE, "umbrella", "RuntimeError", "/var/task", ".py"):
        assert word not in answer.body
