"""The HTTP API as any client sees it (`/v1/openapi.json`), with the answers as they come."""

from __future__ import annotations

import json
import os
import shlex
import time
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx2

from turnkeeper_local.cli.errors import CliError, UsageError
from turnkeeper_local.cli.place import Place

if TYPE_CHECKING:
    from botocore.credentials import Credentials

Document = dict[str, Any]
OnPage = Callable[[Document], None]
OnDelta = Callable[[Document], None]

#: The front door waits this long for a turn, and this long for an event.
MAX_WAIT_SECONDS = 25
EVENT_WAIT_SECONDS = 15
_SLACK_SECONDS = 40
#: A stream says at least every fifteen seconds that it lives.
_SILENT_SECONDS = 40.0
_TRIES = 3

RESTING = frozenset({"idle", "completed", "stopped", "failed", "cancelled", "erased"})
WELL = frozenset({"idle", "completed"})


class Problem(CliError):
    """The API refused: its problem document."""

    def __init__(self, status: int, document: Document, tenant: str = "T") -> None:
        code = str(document.get("code") or f"http_{status}")
        more = {name: value for name, value in document.items() if name not in {"code", "detail", "status"}}
        detail = str(document.get("detail") or document.get("title") or document.get("message") or f"HTTP {status}")
        hint = _HINTS[code].format(tenant=shlex.quote(tenant)) if code in _HINTS else None
        super().__init__(detail, code=code, hint=hint, status=status, **more)
        self.status = status
        self.document = document


_HINTS = {
    "cost_cap_exceeded": "`turnkeeper spend` shows the scopes; "
    "`turnkeeper tenant set {tenant} --cap SCOPE=USD` moves a cap",
    "session_not_found": "this was asked for as tenant {tenant}: those of others take `--tenant`, another user's an "
    "admin's role; that of a job is there once a worker takes it up",
    "tenant_paused": "`turnkeeper tenant unpause {tenant}` lets it go on",
    "session_busy": "a turn is running; `turnkeeper watch SESSION` follows it",
    "unauthenticated": "set TURNKEEPER_TOKEN to a JWT, or use AWS credentials that may call the API",
}


class Api:
    """One caller of one kit. Every POST carries an idempotency key, so repeating it after a lost answer is safe."""

    def __init__(
        self,
        url: str,
        headers: dict[str, str] | None = None,
        auth: httpx2.Auth | None = None,
        *,
        stream_url: str | None = None,
        stream_auth: httpx2.Auth | None = None,
    ) -> None:
        self._stream_url, self._stream_auth = stream_url, stream_auth
        self._client = httpx2.Client(
            base_url=f"{url}/v1/",
            headers={"accept": "application/json", **(headers or {})},
            auth=auth,
            # Whatever proxy the machine has, it does not know our loopback addresses.
            trust_env=not url.startswith("http://127.0.0.1"),
            timeout=_SLACK_SECONDS,
        )

    def close(self) -> None:
        self._client.close()

    # ---- turns ----

    def start(self, agent: str, text: Any, *, wait: int = 0, key: str | None = None, **more: Any) -> Document:
        return self._post("sessions", {"agent": agent, "input": text, **more}, wait=wait, key=key)

    def say(self, session_id: str, text: Any, *, wait: int = 0, key: str | None = None) -> Document:
        return self._post(f"sessions/{_part(session_id)}/turns", {"input": text}, wait=wait, key=key)

    def go_on(self, continuation_token: str, *, wait: int = 0) -> Document:
        return self._post("continue", {"continuation_token": continuation_token}, wait=wait)

    def finish(self, turn: Document, *, within_seconds: float) -> Document:
        """The turn once it rests, or as it is when the time is up."""
        deadline = time.monotonic() + within_seconds
        while turn["status"] not in RESTING:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            if token := turn.get("continuation_token"):
                turn = self.go_on(token, wait=max(1, min(int(left), MAX_WAIT_SECONDS)))
            else:  # another user's: an admin may look on, and has no token
                self.events(turn["session_id"], after=turn["last_seq"], wait=max(1, min(int(left), EVENT_WAIT_SECONDS)))
                turn = self.session(turn["session_id"])
        return turn

    def fork(self, session_id: str, body: Document, *, wait: int = 0) -> Document:
        return self._post(f"sessions/{_part(session_id)}/fork", body, wait=wait)

    # ---- sessions ----

    def rewind(self, session_id: str, turns: int | None, to_seq: int | None) -> Document:
        wished = {"turns": turns, "to_seq": to_seq}
        body = {name: value for name, value in wished.items() if value is not None}
        return self._post(f"sessions/{_part(session_id)}/rewind", body)

    def session(self, session_id: str) -> Document:
        return self._ask("GET", f"sessions/{_part(session_id)}")

    def explain(self, session_id: str, turn: int | None = None) -> Document:
        """What happened in a session, why it ended, and what can be done now."""
        return self._ask("GET", f"sessions/{_part(session_id)}/explain", params={"turn": turn} if turn else {})

    def sessions(
        self, *, status: str | None, limit: int, cursor: str | None = None, scored_below: float | None = None
    ) -> Document:
        query = {"status": status, "limit": limit, "cursor": cursor, "scored_below": scored_below}
        return self._ask("GET", "sessions", params={name: value for name, value in query.items() if value is not None})

    def events(self, session_id: str, *, after: int = 0, wait: int = 0) -> Document:
        query = {"after": after, "wait": wait}
        return self._ask("GET", f"sessions/{_part(session_id)}/events", params=query, wait=wait)

    def all_events(self, session_id: str) -> list[Document]:
        """The transcript as it is now."""
        events: list[Document] = []
        while page := self.events(session_id, after=events[-1]["seq"] if events else 0)["events"]:
            events.extend(page)
        return events

    def follow(
        self,
        session_id: str,
        *,
        after: int = 0,
        until: float | None = None,
        on_page: OnPage | None = None,
        on_delta: OnDelta | None = None,
    ) -> Iterator[Document]:
        """Events behind ``after`` as they happen, until the session rests or the (monotonic) time is up. ``on_page`` is
        told of each answer, which also says how the session stands while there is no event; ``on_delta`` of what comes
        of the next event before it is there, where the kit streams."""
        resting = False
        if on_delta is not None and self._stream_url is not None:
            after, resting = yield from self._streamed(self._stream_url, session_id, after, until, on_delta)
        while True:
            wait = 0 if resting else EVENT_WAIT_SECONDS
            if until is not None:
                wait = min(wait, max(0, int(until - time.monotonic())))
            page = self.events(session_id, after=after, wait=wait)
            if on_page is not None:
                on_page(page)
            yield from page["events"]
            if page["events"]:
                after = page["events"][-1]["seq"]
            elif resting or (until is not None and time.monotonic() >= until):
                return
            # Once more after it came to rest: the last events may have come between the two looks.
            resting = page["status"] in RESTING

    def _streamed(
        self, url: str, session_id: str, after: int, until: float | None, on_delta: OnDelta
    ) -> Generator[Document, None, tuple[int, bool]]:
        """As far as a stream brings it: the last event, and whether the session rested behind it. Where it breaks, what
        follows is asked for by the page."""
        path = f"{url}/v1/sessions/{_part(session_id)}/stream"
        headers, auth = {"accept": "text/event-stream"}, self._stream_auth or httpx2.USE_CLIENT_DEFAULT
        forming = False
        try:
            while until is None or time.monotonic() < until:
                left = _SILENT_SECONDS if until is None else min(_SILENT_SECONDS, max(0.1, until - time.monotonic()))
                asked = self._client.stream(
                    "GET", path, params={"after": after}, headers=headers, auth=auth, timeout=left
                )
                with asked as answer:
                    if answer.status_code != 200:
                        return after, False
                    for kind, data in _frames(answer.iter_lines()):
                        if kind == "end" and data["status"] in RESTING and not data["more"]:
                            return after, True
                        if kind == "delta":
                            on_delta(data)
                        elif kind != "end":
                            after = data["seq"]
                            yield data
                        forming = kind == "delta"
                        if until is not None and time.monotonic() >= until:
                            break
                if forming:  # Another stream tells all of it again, and so does the page.
                    on_delta({"type": "reset", "seq": after + 1, "reason": "cut off"})
                    forming = False
        except (httpx2.TransportError, ValueError):
            if forming:
                on_delta({"type": "reset", "seq": after + 1, "reason": "cut off"})
        return after, False

    def cancel(self, session_id: str) -> Document:
        return self._post(f"sessions/{_part(session_id)}/cancel", None)

    def erase(self, session_id: str) -> None:
        self._ask("DELETE", f"sessions/{_part(session_id)}")

    def spend(self, session_id: str | None = None) -> Document:
        """Spent, reserved and cap of the caller's scopes; with a session, its task's too."""
        return self._ask("GET", "spend", params={"session_id": session_id} if session_id else {})

    def agents(self) -> Document:
        """The agents that the caller's tenant can begin a session with."""
        return self._ask("GET", "agents")

    def health(self) -> Document:
        return self._ask("GET", "health")

    # ---- HTTP ----

    def _post(self, path: str, body: Document | None, *, wait: int = 0, key: str | None = None) -> Document:
        headers = {"idempotency-key": key or uuid.uuid4().hex, "prefer": f"wait={wait}"}
        return self._ask("POST", path, json=body, headers=headers, wait=wait)

    def _ask(self, method: str, path: str, *, wait: int = 0, **request: Any) -> Document:
        for attempt in range(1, _TRIES + 1):
            try:
                answer = self._client.request(method, path, timeout=wait + _SLACK_SECONDS, **request)
            except httpx2.TransportError as error:
                if attempt == _TRIES:
                    hint = "`turnkeeper doctor` looks at what is in the way"
                    text = f"the API does not answer: {error}"
                    raise CliError(text, code="unreachable", hint=hint) from error
                time.sleep(0.2 * attempt)
                continue
            if answer.status_code != 503 or attempt == _TRIES:
                return _document(answer)
            time.sleep(min(_retry_after(answer), 5.0))
        raise AssertionError("unreachable")


def connect(place: Place, *, tenant: str | None, user: str | None, role: str | None) -> Api:
    """The API of a kit, as this user of this tenant."""
    token = os.environ.get("TURNKEEPER_TOKEN")
    if not place.local and token:
        _must_be_sendable("TURNKEEPER_TOKEN", token)
        return Api(place.api_url, {"authorization": f"Bearer {token}"}, stream_url=place.stream_url)
    headers = {"x-tenant-id": place.tenant(tenant), "x-user-id": place.user(user)}
    if role:
        headers["x-user-role"] = role
    for option, value in zip(("--tenant", "--user", "--role"), headers.values(), strict=False):
        _must_be_sendable(option, value)
    if place.local or place.database_url is not None:
        return Api(place.api_url, headers, stream_url=place.stream_url)
    credentials = place.session.get_credentials()
    if credentials is None:
        raise CliError("there are no AWS credentials", code="unauthenticated", hint="or set TURNKEEPER_TOKEN to a JWT")
    region = place.session.region_name
    signed, streamed = SigV4(credentials, region), SigV4(credentials, region, "lambda")
    return Api(place.api_url, headers, signed, stream_url=place.stream_url, stream_auth=streamed)


def _must_be_sendable(where: str, value: str) -> None:
    """Raises UsageError for what no header can hold, by where it was said: one of the values is a secret."""
    if not (value.isascii() and value.isprintable()):
        raise UsageError(f"{where} holds characters that no header can", code="usage")


class SigV4(httpx2.Auth):
    """Signs a request as AWS wants it, with botocore's own signer."""

    requires_request_body = True

    def __init__(self, credentials: Credentials, region: str, service: str = "execute-api") -> None:
        self._credentials = credentials
        self._region = region
        self._service = service

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response, None]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        # Only what says who is meant is signed besides the body: others may be changed on the way.
        signed = {name: value for name, value in request.headers.items() if name.startswith("x-") or name == "host"}
        # The signer encodes parameters as AWS does; those in an URL it takes as they are.
        url, query = str(request.url.copy_with(query=None)), dict(request.url.params)
        draft = AWSRequest(request.method, url, data=request.content, headers=signed, params=query)
        SigV4Auth(self._credentials.get_frozen_credentials(), self._service, self._region).add_auth(draft)
        request.headers.update(dict(draft.headers.items()))
        yield request


def _document(answer: httpx2.Response) -> Document:
    try:
        body = answer.json() if answer.content else {}
    except ValueError:
        body = {"detail": answer.text[:500]}
    if not isinstance(body, dict):
        body = {"detail": str(body)[:500]}
    if answer.status_code >= 400:
        raise Problem(answer.status_code, body, answer.request.headers.get("x-tenant-id", "T"))
    return body


def _frames(lines: Iterable[str]) -> Iterator[tuple[str, Document]]:
    """Server-sent events: the type and the document of each."""
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def _part(name: str) -> str:
    """A name as one part of a path, whatever it is made of."""
    return quote(name, safe="")


def _retry_after(answer: httpx2.Response) -> float:
    text = answer.headers.get("retry-after", "1")
    return float(text) if text.isdecimal() else 1.0
