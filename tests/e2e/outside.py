"""A kit as the outside sees it: over HTTP, the queue and the command line; it knows nothing of the code.

Tests share a kit and stay out of each other's way by each being a tenant of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import boto3
import httpx2

from tests.support.forked import turnkeeper
from tests.support.running_kit import running_kit
from turnkeeper_local.kit import Home, LocalKit
from turnkeeper_local.kit.errors import with_log_tail

AGENTS = Path(__file__).parent / "agents"

Document = dict[str, Any]
T = TypeVar("T")

RESTING = {"idle", "completed", "stopped", "failed", "cancelled", "erased"}
#: A slow machine with two processors, and others busy on them.
PATIENCE_SECONDS = 90.0

TURN_FIELDS = {
    *("session_id", "agent", "status", "stop", "output", "output_text", "steps", "usage", "cost_usd", "last_seq"),
    "continuation_token",
}
SESSION_FIELDS = TURN_FIELDS | {
    *("tenant_id", "user_id", "placement", "runner", "granted_tools", "limits", "iterations", "created_at"),
    *("updated_at", "metadata", "scores"),
}
TOKENS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


@contextlib.contextmanager
def running_stack(folder: Path, **environment: str) -> Iterator[Stack]:
    """A kit with the test agents, and down again."""
    with running_kit(folder, TURNKEEPER_AGENTS=str(AGENTS), **environment) as kit:
        yield Stack(kit, Home(folder))


@dataclass
class Stack:
    """A kit that is up."""

    kit: LocalKit
    home: Home
    _clients: dict[str, Any] = field(default_factory=dict, init=False, repr=False)

    def caller(self, tenant: str | None = None, user: str = "u1", role: str = "admin") -> Caller:
        """Somebody; of a tenant of its own where none is named."""
        return Caller(self, tenant or f"t-{uuid.uuid4().hex[:10]}", user, role)

    def worker_pid(self) -> int:
        """Of the worker that lives now."""
        kit = LocalKit.read(self.home)
        assert kit is not None
        return kit.worker_pid

    def http(self, headers: Mapping[str, str]) -> httpx2.Client:
        """What reaches the API as whoever these headers name."""
        hooks = {"response": [self._is_from_the_kit]}
        url = self.kit.api_url
        return httpx2.Client(
            base_url=url, headers=headers, timeout=PATIENCE_SECONDS, trust_env=False, event_hooks=hooks
        )

    def _is_from_the_kit(self, response: httpx2.Response) -> None:
        """The front door never fails without a problem document. A 500 without a body is the emulator's server's own,
        for an exception that it did not expect; its log has the traceback."""
        if response.status_code == 500 and response.headers.get("content-length") == "0":
            raise with_log_tail("the emulator failed by itself", self.home.log("ministack"), lines=80)

    # ---- the command line ----

    def cli(self, *arguments: str, exit_code: int | None = 0) -> Any:
        """What `turnkeeper ... --json` prints."""
        environment = {**os.environ, "TURNKEEPER_HOME": str(self.home.path)}
        done = turnkeeper(*arguments, "--json", environment=environment, timeout_seconds=PATIENCE_SECONDS)
        if exit_code is not None:
            assert done.returncode == exit_code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout or "null")

    def set_caps(self, tenant: str, **caps: str) -> None:
        options = [part for scope, usd in caps.items() for part in ("--cap", f"{scope}={usd}")]
        self.cli("tenant", "set", tenant, *options)

    # ---- the queue ----

    def client(self, service: str) -> Any:
        """Of one of its AWS services; any thread may use it."""
        if service not in self._clients:
            self._clients[service] = self._make_client(service)
        return self._clients[service]

    def _make_client(self, service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.kit.aws_endpoint_url,
            region_name=self.kit.region,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    def send(self, body: str | Mapping[str, Any], group: str = "g") -> None:
        text = body if isinstance(body, str) else json.dumps(body)
        self.client("sqs").send_message(QueueUrl=self.kit.queue_url, MessageBody=text, MessageGroupId=group)

    def depths(self, queue_url: str) -> tuple[int, int]:
        """Messages that wait, and messages in somebody's hands."""
        found = self.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
        return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])

    def dead_letters(self, *, until: Callable[[list[Document]], bool]) -> list[Document]:
        """Dead letters, looked at for a second at a time and so left where they are."""
        found: dict[str, Document] = {}

        def look() -> bool:
            received = self.client("sqs").receive_message(
                QueueUrl=self.kit.dlq_url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=1,
                WaitTimeSeconds=1,
                MessageAttributeNames=["All"],
                AttributeNames=["All"],
            )
            for message in received.get("Messages", []):
                found[message["MessageId"]] = message
            return until(list(found.values()))

        eventually(look, "the dead letters came")
        return list(found.values())


@dataclass
class Caller:
    """Somebody who calls the API."""

    stack: Stack
    tenant: str
    user: str = "u1"
    role: str = "admin"
    http: httpx2.Client = field(init=False)

    def __post_init__(self) -> None:
        headers = {"X-Tenant-Id": self.tenant, "X-User-Id": self.user, "X-User-Role": self.role}
        self.http = self.stack.http(headers)

    # ---- calls ----

    def start(self, agent: str, text: Any, *, wait: int = 20, key: str | None = None, **more: Any) -> httpx2.Response:
        """Text that holds directives is made unlike any other: the stand-in counts failures by conversation."""
        return self.post("/v1/sessions", {"agent": agent, "input": _unique(text), **more}, wait=wait, key=key)

    def say(self, session_id: str, text: Any, *, wait: int = 20, key: str | None = None) -> httpx2.Response:
        return self.post(f"/v1/sessions/{session_id}/turns", {"input": _unique(text)}, wait=wait, key=key)

    def go_on(self, token: str, *, wait: int = 20) -> httpx2.Response:
        return self.post("/v1/continue", {"continuation_token": token}, wait=wait)

    def post(self, path: str, body: Any, *, wait: int | None = None, key: str | None = None) -> httpx2.Response:
        headers = {} if wait is None else {"Prefer": f"wait={wait}"}
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.http.post(path, json=body, headers=headers)

    def get(self, path: str, **query: Any) -> httpx2.Response:
        return self.http.get(path, params=query)

    def cancel(self, session_id: str) -> httpx2.Response:
        return self.http.post(f"/v1/sessions/{session_id}/cancel")

    def erase(self, session_id: str) -> httpx2.Response:
        return self.http.delete(f"/v1/sessions/{session_id}")

    # ---- answers that have to be good ----

    def session(self, session_id: str) -> Document:
        return good(self.get(f"/v1/sessions/{session_id}"))

    def events(self, session_id: str, after: int = 0) -> list[Document]:
        found: list[Document] = []
        while True:
            page = good(self.get(f"/v1/sessions/{session_id}/events", after=after))
            found += page["events"]
            after = page["last_seq"]
            if not page.get("more"):
                return found

    def scopes(self) -> dict[str, Document]:
        return {scope["scope"]: scope for scope in good(self.get("/v1/spend"))["scopes"]}

    def turn(self, agent: str, text: Any, **more: Any) -> Document:
        """A whole turn of a new session."""
        return self.finish(self.start(agent, text, **more))

    def finish(self, response: httpx2.Response, *, wait: int = 20) -> Document:
        """The turn once it rests, by the token of each 202."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while response.status_code == 202:
            assert time.monotonic() < give_up_at, response.text
            assert response.json()["continuation_token"], response.text
            response = self.go_on(response.json()["continuation_token"], wait=wait)
        return good(response)

    def rested(self, session_id: str, *, within_seconds: float = PATIENCE_SECONDS) -> Document:
        """The session once it exists and rests."""

        def look() -> Document | None:
            response = self.get(f"/v1/sessions/{session_id}")
            found = response.json() if response.status_code == 200 else None
            return found if found and found["status"] in RESTING else None

        return eventually(look, f"{session_id} came to rest", within_seconds=within_seconds)

    def until(self, session_id: str, holds: Callable[[Document], Any]) -> Document:
        """The session once it is like that."""

        def look() -> Document | None:
            found = self.session(session_id)
            return found if holds(found) else None

        return eventually(look, f"{session_id} came to that")

    def checked(self, session_id: str) -> tuple[Document, list[Document]]:
        """Session and transcript, found to be valid."""
        session, events = self.session(session_id), self.events(session_id)
        assert_transcript(session, events)
        return session, events


def _unique(text: Any) -> Any:
    return f"{text} ({uuid.uuid4().hex[:8]})" if isinstance(text, str) and "[[" in text else text


def good(response: httpx2.Response) -> Document:
    assert response.status_code == 200, f"{response.status_code} {response.text[:2000]}"
    document: Document = response.json()
    return document


def eventually(look: Callable[[], T | None], what: str, *, within_seconds: float = PATIENCE_SECONDS) -> T:
    began = time.monotonic()
    while not (found := look()):
        waited = time.monotonic() - began
        assert waited < within_seconds, f"not so: {what}"
        # Each look keeps the kit busy that is waited for.
        time.sleep(0.2 if waited < 2 else 0.4)
    return found


def lines(file: Path) -> list[str]:
    """What tools wrote down."""
    return file.read_text().splitlines() if file.exists() else []


def call(tool: str, **arguments: Any) -> str:
    """A call of a directive."""
    return f"tool {tool} {json.dumps(arguments)}"


def tools(*calls: str) -> str:
    """The directive for calls in one answer."""
    return f"[[{' & '.join(calls)}]]"


def effects(once: Path, keyed: Path, whats: Iterable[str]) -> str:
    """Steps that change something, each in its own words: a payment, a stamp, and a look."""
    return " ".join(
        tools(
            call("pay", file=str(once), what=what, seconds=0.2),
            call("stamp", file=str(keyed), what=what, seconds=0.1),
            call("look", what=what),
        )
        for what in whats
    )


def results(events: Sequence[Document]) -> list[Document]:
    return [result for event in events for result in event.get("results", ())]


def text_of(content: Sequence[Document]) -> str:
    return "".join(block.get("text", "") for block in content if block["type"] == "text")


# ---- what has to be true of every answer ----


def assert_problem(response: httpx2.Response, status: int, *codes: str) -> Document:
    """An error as RFC 9457 and the contract want it, with nothing of the inside in it."""
    assert response.status_code == status, f"{response.status_code} {response.text[:2000]}"
    assert response.headers["content-type"].split(";")[0] == "application/problem+json"
    problem: Document = response.json()
    assert {"type", "title", "status", "detail", "code"} <= set(problem), problem
    assert problem["status"] == status
    assert problem["code"] in codes, problem
    assert all(isinstance(problem[name], str) and problem[name] for name in ("type", "title", "detail"))
    for word in ("Traceback", "pydantic", "botocore", 'File "', "DynamoDB"):
        assert word not in response.text
    if status == 400:
        assert isinstance(problem["errors"], list)
        assert problem["errors"], problem
    return problem


def assert_transcript(session: Document, events: Sequence[Document]) -> None:
    """What has to be true of every session at every moment that it is seen."""
    assert set(session) >= SESSION_FIELDS
    seqs = [event["seq"] for event in events]
    assert seqs == list(range(1, len(seqs) + 1)), "seq has gaps"
    assert session["last_seq"] == len(seqs)
    _assert_pairs(session, events)
    _assert_sums(session, events)
    goes_on = session["status"] in {"running", "queued", "stopped"}
    assert bool(session["continuation_token"]) == goes_on, (session["status"], session["continuation_token"])
    assert (session["stop"] is not None) == (session["status"] in RESTING - {"erased"}), session["stop"]
    if session["status"] in RESTING:
        assert events[-1]["type"] == "status"
        assert events[-1]["status"] == session["status"]


def _assert_pairs(session: Document, events: Sequence[Document]) -> None:
    """Every tool_use is answered once, in the very next entry but for words about lost runners, in its order; and no
    result is of nothing."""
    asked: list[str] = []
    seen: set[str] = set()
    for event in (each for each in events if each["type"] != "runner_lost"):
        answered = [result["tool_use_id"] for result in event.get("results", ())]
        assert answered == asked, f"entry {event['seq']}: asked for {asked}, answered {answered}"
        for result in event.get("results", ()):
            assert set(result) >= {"tool_use_id", "tool", "is_error", "outcome", "duration_ms", "content"}
            assert result["outcome"] in {"ok", "error", "denied", "unknown"}
            assert result["is_error"] == (result["outcome"] != "ok")
        asked = []
        if event["type"] == "assistant":
            assert set(event) >= {"content", "usage", "cost_usd", "model", "stop_reason", "duration_ms", "at"}
            asked = [block["id"] for block in event["content"] if block["type"] == "tool_use"]
            assert not seen & set(asked), "an id twice"
            seen |= set(asked)
    assert not asked or session["status"] in {"running", "queued"}, f"never answered: {asked}"


def _assert_sums(session: Document, events: Sequence[Document]) -> None:
    told = sum((Decimal(event.get("cost_usd") or 0) for event in events), Decimal(0))
    assert told == Decimal(session["cost_usd"]), f"the session cost {session['cost_usd']}, its entries {told}"
    answers = [event for event in events if event["type"] == "assistant"]
    assert session["steps"] == len(answers)
    for name in TOKENS:
        counted = sum(int((event["usage"] or {}).get(name) or 0) for event in answers)
        assert session["usage"][name] == counted, name


def assert_books(caller: Caller, sessions: Sequence[Document]) -> None:
    """With nothing in flight nothing is reserved, and what was spent is what the tenant's sessions cost. Where midnight
    fell into a test, its user's month stands for the day."""
    scopes, today = caller.scopes(), datetime.now(UTC).date().isoformat()
    if any(session["created_at"][:10] != today for session in sessions):
        scopes = {**scopes, "user_daily": scopes["user_monthly"]}
    assert_scopes(scopes, sessions, caller.user)


def assert_scopes(scopes: Mapping[str, Document], sessions: Sequence[Document], user: str) -> None:
    """The same of a user's scopes by name, and all sessions that the tenant has begun today."""
    for scope in scopes.values():
        assert Decimal(scope["reserved_usd"]) == 0, scope
    cost = {session["session_id"]: Decimal(session["cost_usd"]) for session in sessions}
    own = {session["session_id"] for session in sessions if session["user_id"] == user}
    spent = {name: Decimal(scope["spent_usd"]) for name, scope in scopes.items()}
    assert spent["tenant_monthly"] == sum(cost.values()), (spent, cost)
    assert spent["user_daily"] == sum(cost[each] for each in own), (spent, user, cost)
