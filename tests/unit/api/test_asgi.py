"""The front door as a server: what comes in odd ways, who may read with a stream token, and how streams end."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from functions.api import asgi, streaming
from functions.api.app import FrontDoor
from functions.api.asgi import application
from functions.api.http import Response as Answer
from functions.api.open_streams import OpenStreams
from functions.api.routes import ROUTES
from functions.api.serve import FrontDoorServer
from functions.api.stages.read import MAX_BODY_BYTES
from tests.support.asgi import called, scope_of, served
from tests.support.http import Caller, Response
from tests.support.kit import MemoryKit
from turnkeeper.core.errors import Unavailable
from turnkeeper.runtime.intake import Identity
from turnkeeper.table import StoreBusy

PAGE = "https://app.example.com"
ASKS = {"origin": PAGE, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
EVENT_STREAM = "text/event-stream"


@pytest.fixture
def door(kit: MemoryKit) -> Iterator[Caller]:
    with served(application(kit)) as made:
        yield Caller(made)


def begun(caller: Caller, text: str = "hello", wait: int = 20) -> str:
    turn = caller.post("/v1/sessions", {"agent": "plain", "input": text}, wait=wait).ok(200, 202)
    return str(turn["session_id"])


# ---- stream tokens ----


def test_a_stream_token_reads_its_session_and_nothing_else(ann: Caller, door: Caller, kit: MemoryKit) -> None:
    """Through either front door, whatever call: the table of routes is tried from one end to the other."""
    mine, other = begun(ann), begun(ann)
    told = ann.post(f"/v1/sessions/{mine}/stream-token").ok()
    assert told["expires_at"].endswith("Z")
    token = told["token"]
    for caller in (ann, door):
        nobody = caller.but(tenant=None, user=None, role=None)
        kit.settings = kit.settings.model_copy(update={"identity": "iam"})  # who would take headers, or nobody
        assert nobody.get(f"/v1/sessions/{mine}/events?token={token}").ok()["last_seq"] == 3
        stream = nobody.get(f"/v1/sessions/{mine}/stream?token={token}")
        assert (stream.status, stream.headers["content-type"]) == (200, EVENT_STREAM)
        assert "id: 3" in stream.body
        tried = set()
        for route in ROUTES:
            reads = route.by_token
            for session in (mine, other):
                if route.public or (reads and session == mine):
                    continue
                target = f"{route.path.replace('{session_id}', session)}?token={token}"
                answer = nobody.call(route.method, target, text="{}")
                assert answer.status in ((404,) if reads else (401, 403)), (route.name, answer)
                tried.add(route.name)
        assert len(tried) > 10
        kit.settings = kit.settings.model_copy(update={"identity": "local"})


def test_neither_token_is_the_other(ann: Caller, kit: MemoryKit) -> None:
    turn = ann.post("/v1/sessions", {"agent": "plain", "input": "[[sleep 0.3]]"}, wait=0).ok(202)
    session_id = turn["session_id"]
    reads = ann.post(f"/v1/sessions/{session_id}/stream-token").ok()["token"]
    ann.post("/v1/continue", {"continuation_token": reads}).problem(401, "unauthenticated")
    nobody = ann.but(tenant=None, user=None, role=None)
    path = f"/v1/sessions/{session_id}/events?token="
    nobody.get(path + turn["continuation_token"]).problem(401, "unauthenticated")
    nobody.get(path + reads).ok()
    nobody.get(path + reads[:-1] + ("A" if reads[-1] != "A" else "B")).problem(401, "unauthenticated")


def test_a_stream_token_ends(ann: Caller, kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    session_id = begun(ann)
    token = ann.post(f"/v1/sessions/{session_id}/stream-token").ok()["token"]
    monkeypatch.setattr(kit.stream_tokens, "_valid_seconds", -1)
    problem = ann.get(f"/v1/sessions/{session_id}/stream?token={token}").problem(401, "unauthenticated")
    assert "ask for another" in problem["detail"]


def test_only_who_may_read_it_gets_a_stream_token(ann: Caller) -> None:
    path = f"/v1/sessions/{begun(ann)}/stream-token"
    ann.but(user="bob").post(path).problem(404, "session_not_found")
    ann.but(tenant="globex", role="admin").post(path).problem(404, "session_not_found")
    ann.but(user="root", role="admin").post(path).ok()


def test_no_log_holds_a_stream_token(ann: Caller, door: Caller, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    session_id = begun(ann)
    token = ann.post(f"/v1/sessions/{session_id}/stream-token").ok()["token"]
    for caller in (ann, door):
        caller.get(f"/v1/sessions/{session_id}/stream?token={token}")
        caller.get(f"/v1/sessions/{session_id}/stream?token={token}x")
        caller.get(f"/v1/nowhere?token={token}")
    assert len(caplog.records) > 5
    assert token[:20] not in str([record.__dict__ for record in caplog.records])


# ---- other origins ----


def test_without_origins_a_preflight_is_as_it_was(door: Caller, ann: Caller) -> None:
    for caller in (door, ann):
        answer = caller.call("OPTIONS", "/v1/sessions", headers=ASKS)
        assert answer.status == 204
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "access-control-allow-origin" not in caller.get("/v1/health", origin=PAGE).headers


def test_named_origins_may_call() -> None:
    kit = MemoryKit(cors_origins=(PAGE,))
    with served(application(kit)) as made:
        door = Caller(made)
        answer = door.call("OPTIONS", "/v1/sessions", headers=ASKS)
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == PAGE
        assert "authorization" in answer.headers["access-control-allow-headers"].lower()
        assert "access-control-allow-credentials" not in answer.headers
        for changed in (
            {"origin": "https://evil.example.com"},
            {"access-control-request-method": "PUT"},
            {"access-control-request-headers": "x-tenant-id"},
        ):
            door.call("OPTIONS", "/v1/sessions", headers={**ASKS, **changed}).problem(403, "forbidden")
        evil = door.call("OPTIONS", "/v1/sessions", headers={**ASKS, "origin": "https://evil.example.com"})
        assert "access-control-allow-origin" not in evil.headers
        for target in ("/v1/health", "/v1/nowhere", f"/v1/sessions/{begun(door)}/stream"):
            assert door.get(target, origin=PAGE).headers["access-control-allow-origin"] == PAGE
            assert "access-control-allow-origin" not in door.get(target, origin="https://evil.example.com").headers
    kit.join()


def test_a_page_of_another_origin_can_read_what_went_wrong_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Answer:
        raise RuntimeError("broken")

    monkeypatch.setattr(FrontDoor, "answer", broken)
    with served(application(MemoryKit(cors_origins=(PAGE,)))) as made:
        answer = Caller(made).get("/v1/health", origin=PAGE)
        answer.problem(500, "internal_error")
        assert (answer.headers["access-control-allow-origin"], answer.headers["cache-control"]) == (PAGE, "no-store")


@pytest.mark.parametrize(
    ("host", "origin", "may"),
    [
        ("127.0.0.1:8700", None, True),
        ("localhost:8700", "http://localhost:8700", True),
        ("kit.localhost", None, True),
        ("host.docker.internal:8700", None, True),
        ("[::1]:8700", "http://[::1]:8700", True),
        ("front-door:8700", None, True),
        ("127.0.0.1:8700", PAGE, True),
        ("app.example.com", PAGE, True),
        # A page from elsewhere posts here; and one whose name leads here, so that its browser takes it for ours.
        ("127.0.0.1:8700", "https://evil.example.com", False),
        ("127.0.0.1:8700", "http://127.0.0.1:9999", False),
        ("127.0.0.1:8700", "null", False),
        ("127.0.0.1:8700", "http://[", False),
        ("evil.example.com:8700", "http://evil.example.com:8700", False),
        ("evil.example.com", None, False),
    ],
)
def test_where_nobody_proves_who_they_are_a_page_from_elsewhere_may_nothing(
    host: str, origin: str | None, may: bool
) -> None:
    kit = MemoryKit(cors_origins=(PAGE,))
    headers = {"host": host, **({"origin": origin} if origin else {})}
    with served(application(kit)) as made:
        post = Caller(made).post("/v1/sessions", {"agent": "plain", "input": "hello"}, **headers)
        got = Caller(made).get("/v1/sessions", **headers)
    kit.join()
    assert [post.status, got.status] == ([200, 200] if may else [403, 403])
    assert len(got.json()["sessions"] if may else []) == may


# ---- odd requests ----


@pytest.mark.parametrize(
    ("method", "target", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/v1/sessions/", 404, "not_found"),
        ("GET", "/v1/%2e%2e/health", 404, "not_found"),
        ("PUT", "/v1/sessions", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/sessions", 405, "method_not_allowed"),
        ("BREW", "/v1/health", 405, "method_not_allowed"),
        ("GET", "/v1/sessions?limit=1&limit=2", 400, "invalid_request"),
        ("GET", "/v1/sessions?limit=%ff", 400, "invalid_request"),
    ],
)
def test_what_is_refused_is_a_problem_document(door: Caller, method: str, target: str, status: int, code: str) -> None:
    door.call(method, target).problem(status, code)


def test_what_starlette_refuses_itself_is_one_too(kit: MemoryKit) -> None:
    async def ask() -> Response:
        return Response(*await called(application(kit), "OPTIONS", "*", {}, b""))

    asyncio.run(ask()).problem(404, "not_found")


def test_names_that_come_twice_are_joined(door: Caller) -> None:
    door.get("/v1/spend", x_user_id="ann, bob").problem(400, "invalid_request")


async def answer_to(
    app: Starlette, pieces: AsyncIterator[MutableMapping[str, Any]], target: str = "/v1/sessions", method: str = "POST"
) -> list[MutableMapping[str, Any]]:
    """What is sent in answer to a body that comes like this."""
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return await anext(pieces)

    await app(scope_of(method, target, {"x-tenant-id": "acme"}), receive, send)
    return sent


def problem_in(sent: list[MutableMapping[str, Any]]) -> tuple[int, dict[str, str], Any]:
    start, body = sent
    headers = {name.decode(): value.decode() for name, value in start["headers"]}
    assert headers["content-type"] == "application/problem+json"
    return start["status"], headers, json.loads(body["body"])


async def endless() -> AsyncIterator[MutableMapping[str, Any]]:
    for number in range(MAX_BODY_BYTES):
        assert number < MAX_BODY_BYTES // 65_536 + 2, "it is read far beyond what is taken"
        yield {"type": "http.request", "body": b"x" * 65_536, "more_body": True}


def test_a_body_without_an_end_is_not_read_to_its_end(kit: MemoryKit) -> None:
    status, headers, problem = problem_in(asyncio.run(answer_to(application(kit), endless())))
    assert (status, problem["code"], problem["limit_bytes"]) == (413, "input_too_large", MAX_BODY_BYTES)
    assert headers["connection"] == "close"


async def slow() -> AsyncIterator[MutableMapping[str, Any]]:
    yield {"type": "http.request", "body": b"{", "more_body": True}
    await asyncio.sleep(30)


def test_a_body_that_does_not_come_is_not_waited_for(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asgi, "_BODY_SECONDS", 0.05)
    status, headers, problem = problem_in(asyncio.run(answer_to(application(kit), slow())))
    assert (status, problem["code"], headers["connection"]) == (408, "request_timeout", "close")


async def gone() -> AsyncIterator[MutableMapping[str, Any]]:
    yield {"type": "http.request", "body": b"{", "more_body": True}
    yield {"type": "http.disconnect"}


def test_nobody_is_answered_who_is_gone(kit: MemoryKit) -> None:
    assert asyncio.run(answer_to(application(kit), gone())) == []


def test_too_many_at_once_are_told_to_come_back(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """And who asks how we are is answered all the same."""
    monkeypatch.setattr(asgi, "_THREADS", 2)
    monkeypatch.setattr(asgi, "_QUEUED", 3)
    answer = FrontDoor.answer
    free = asyncio.Event()

    def held(self: FrontDoor, request: Any, call: Any = None) -> Answer:
        if request.path == "/v1/spend":
            asyncio.run_coroutine_threadsafe(free.wait(), loop).result(20)
        return answer(self, request, call)

    monkeypatch.setattr(FrontDoor, "answer", held)

    async def crowd() -> list[int]:
        nonlocal loop
        loop = asyncio.get_running_loop()
        app = application(kit)
        tasks = [asyncio.create_task(called(app, "GET", "/v1/spend", {}, b"")) for _ in range(8)]
        await asyncio.sleep(0.2)
        assert (await called(app, "GET", "/v1/health", {}, b""))[0] == 200
        free.set()
        answers = await asyncio.gather(*tasks)
        refused = [answer for answer in answers if answer[0] == 503]
        assert {(answer[1]["retry-after"], json.loads(answer[2])["code"]) for answer in refused} == {
            ("1", "unavailable")
        }
        return sorted(answer[0] for answer in answers)

    loop: asyncio.AbstractEventLoop
    assert asyncio.run(crowd()) == [200] * 5 + [503] * 3


# ---- who signed it ----


SIGNED = {"x-tenant-id": "acme", "x-user-id": "ann"}
BACKEND = "arn:aws:iam::111122223333:role/Backend"
CONTEXT = json.dumps({"requestId": "a-request", "authorizer": {"iam": {"userArn": BACKEND}}})


@pytest.mark.parametrize(
    ("behind", "context", "status"),
    [
        (True, CONTEXT, 200),
        (True, json.dumps({"requestId": "a-request", "authorizer": None}), 401),
        (True, CONTEXT.replace("Backend", "Else"), 403),
        (False, CONTEXT, 401),  # anybody can send a header
    ],
)
def test_only_behind_the_web_adapter_its_word_counts(behind: bool, context: str, status: int) -> None:
    kit = MemoryKit(identity="iam", trusted_principals=(BACKEND,), web_adapter=behind)
    with served(application(kit)) as made:
        answer = Caller(made).get("/v1/spend", **{"x-amzn-request-context": context})
        assert answer.status == status


def test_nobodys_word_about_addresses_is_taken(kit: MemoryKit) -> None:
    kit.settings = kit.settings.model_copy(update={"api_port": 0})
    assert FrontDoorServer(kit).config.proxy_headers is False
    kit.settings = kit.settings.model_copy(update={"forwarded_allow_ips": ("10.0.0.1",)})
    config = FrontDoorServer(kit).config
    assert (config.proxy_headers, config.forwarded_allow_ips) == (True, ["10.0.0.1"])


def test_a_head_is_a_get_without_its_body(kit: MemoryKit, door: Caller) -> None:
    """Of a server as it runs: who asks with HEAD is told what a GET would be, and by how many bytes."""
    session_id, who = begun(door), {"x-tenant-id": "acme", "x-user-id": "ann"}
    kit.settings = kit.settings.model_copy(update={"api_port": 0})
    server = FrontDoorServer(kit)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    with httpx2.Client(base_url=f"http://127.0.0.1:{server.port}", headers=who, trust_env=False) as http:
        for path in ("/v1/health", "/v1/openapi.json", f"/v1/sessions/{session_id}", "/v1/nothing"):
            got, head = http.get(path), http.head(path)
            told = [
                (answer.status_code, *map(answer.headers.get, ("content-type", "content-length", "cache-control")))
                for answer in (got, head)
            ]
            assert told[0] == told[1]
            assert (head.content, bool(got.content)) == (b"", True)
        events = f"/v1/sessions/{session_id}/events"
        assert http.head(events, headers={"accept": "text/event-stream"}).headers["content-type"] == "application/json"
        # The connection is still in step.
        assert http.get("/v1/health").json() == {"status": "ok"}
    server.should_exit = True
    thread.join(10)


# ---- how streams end ----


class Client:
    """One that reads a stream message by message, and leaves when it likes."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
        self.gone = asyncio.Event()
        self.asked = False
        self.takes = asyncio.Event()
        self.takes.set()

    async def receive(self) -> MutableMapping[str, Any]:
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        await self.takes.wait()
        await self.sent.put(message)

    async def until(self, word: str) -> str:
        text = ""
        while word not in text:
            message = await asyncio.wait_for(self.sent.get(), 10)
            text += message.get("body", b"").decode()
        return text


@asynccontextmanager
async def reading(app: Starlette, target: str) -> AsyncIterator[tuple[Client, asyncio.Task[None]]]:
    client = Client()
    scope = scope_of("GET", f"/v1/sessions/{target}", {"x-tenant-id": "acme", "x-user-id": "ann"})
    yield client, asyncio.create_task(app(scope, client.receive, client.send))
    client.gone.set()


def hub_of(app: Starlette) -> Any:
    return app.state.end_streams.__self__


def test_streams_end_with_a_word_on_where_to_go_on(kit: MemoryKit) -> None:
    async def run() -> None:
        app = application(kit)
        session_id = kit_session(kit, "[[sleep 3]] [[say late]]")
        async with reading(app, f"{session_id}/stream") as (client, task):
            await client.until("id: 1\n")
            app.state.end_streams()
            text = await client.until("event: end")
            assert json.loads(text.rpartition("data: ")[2]) == {"status": "running", "last_seq": 1, "more": False}
            await asyncio.wait_for(task, 5)

    asyncio.run(run())


@pytest.mark.parametrize("seconds", [4.0])
def test_a_stream_ends_when_its_time_is_up(kit: MemoryKit, seconds: float) -> None:
    kit.settings = kit.settings.model_copy(update={"stream_seconds": seconds})

    async def run() -> None:
        app = application(kit)
        session_id = kit_session(kit, "[[sleep 6]] [[say late]]")
        async with reading(app, f"{session_id}/stream") as (client, task):
            assert '"status":"running"' in await client.until("event: end")
            await asyncio.wait_for(task, 5)

    asyncio.run(run())


@pytest.mark.parametrize("leaves", [True, False])
def test_who_is_gone_or_takes_nothing_leaves_nothing_behind(
    kit: MemoryKit, leaves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "_SILENT_SECONDS", 0.2)

    async def run() -> None:
        app = application(kit)
        session_id = kit_session(kit, "[[trickle 2]] [[say one two three four five six]]")
        async with reading(app, f"{session_id}/stream") as (client, task):
            await client.until("id: 1\n")
            assert hub_of(app)._watches
            client.gone.set() if leaves else client.takes.clear()
            await asyncio.wait_for(asyncio.wait([task]), 10)
            assert not hub_of(app)._watches

    asyncio.run(run())


def test_a_user_holds_a_quarter_of_the_streams_and_begins_no_turn_that_none_would_tell_of(kit: MemoryKit) -> None:
    kit.settings = kit.settings.model_copy(update={"stream_readers": 8})

    async def run() -> None:
        app = application(kit)
        session_id = kit_session(kit, "[[sleep 5]]")

        async def asked(method: str, path: str, user: str, body: object = None) -> tuple[int, str]:
            who = {"x-tenant-id": "acme", "x-user-id": user, "x-role": "admin", "accept": EVENT_STREAM}
            status, headers, answer = await called(app, method, path, who, json.dumps(body).encode() if body else b"")
            assert status == 200 or (headers["retry-after"], json.loads(answer)["code"]) == ("5", "unavailable")
            return status, answer

        async with reading(app, f"{session_id}/stream") as (first, left), reading(app, f"{session_id}/stream") as both:
            await first.until("id: 1\n")
            await both[0].until("id: 1\n")
            for path in (f"{session_id}/stream", f"{session_id}/events"):
                status, answer = await asked("GET", f"/v1/sessions/{path}", "ann")
                assert (status, "one user" in answer) == (503, True)
            assert (await asked("POST", "/v1/sessions", "ann", {"agent": "plain", "input": "hi"}))[0] == 503
            assert len(Caller(FrontDoor(kit)).get("/v1/sessions").ok()["sessions"]) == 1
            assert (await asked("POST", "/v1/sessions", "bob", {"agent": "plain", "input": "hi"}))[0] == 200
            first.gone.set()
            await asyncio.wait_for(asyncio.wait([left]), 10)
            assert (await asked("POST", "/v1/sessions", "ann", {"agent": "plain", "input": "hi"}))[0] == 200

    asyncio.run(run())


def test_nobody_is_let_in_where_all_streams_are_taken() -> None:
    opened = OpenStreams(20)
    users = [Identity("acme", f"u{n // 2}", "user") for n in range(20)]
    with ExitStack() as held:
        for user in users:
            opened.admit(user)
            held.enter_context(opened.one_of(user))
        with pytest.raises(Unavailable, match="This server"):
            opened.admit(Identity("globex", "u0", "user"))
    opened.admit(users[0])
    assert not opened._of, "nothing is kept of who is gone"


@pytest.mark.parametrize(
    ("text", "query"),
    [("[[trickle 1.5]] [[tool add {}]]", "view=user"), ("[[say at rest]]", "wait=2"), ("[[sleep 2]]", "")],
)
def test_there_is_a_sign_of_life_where_nothing_is_for_this_reader(
    kit: MemoryKit, text: str, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "KEEP_ALIVE_SECONDS", 0.4)
    written = json.dumps({"a": 1, "b": 2, "c": "x" * 400})

    async def run() -> None:
        app = application(kit)
        session_id = kit_session(kit, text.replace("{}", written))
        if "rest" in text:
            kit.join()
        async with reading(app, f"{session_id}/stream?after={3 if 'rest' in text else 1}&{query}") as (client, _):
            told = await client.until(": still here")
            assert "event:" not in told, "nothing was for it"

    asyncio.run(run())


def test_a_stream_that_cannot_be_read_on_ends_with_a_word(kit: MemoryKit, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(*_: Any, **__: Any) -> Any:
        raise StoreBusy("too much at once")

    async def run() -> None:
        app = application(kit)
        session_id = kit_session(kit, "[[say done]]")
        kit.join()
        monkeypatch.setattr(kit.sessions, "entries", busy)
        async with reading(app, f"{session_id}/stream") as (client, task):
            end = json.loads((await client.until("event: end")).rpartition("data: ")[2])
            assert end == {"status": "idle", "last_seq": 0, "more": True}
            await asyncio.wait_for(task, 5)

    asyncio.run(run())


def kit_session(kit: MemoryKit, text: str) -> str:
    return begun(Caller(FrontDoor(kit)), text, wait=0)
