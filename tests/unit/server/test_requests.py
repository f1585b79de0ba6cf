"""Turns that run within the requests that ask for them, under a time limit that is forced."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import pytest

from functions.api.asgi import application
from server.requests import MARGIN_SECONDS, WithinRequests, run_in_requests
from tests.support.asgi import called, served
from tests.support.kit import MemoryKit
from turnkeeper.runtime.turn import RESERVE_SECONDS

#: What a turn has in a request of this limit, less what is kept of it.
TURN_SECONDS = 3.0
MAX_SECONDS = TURN_SECONDS + MARGIN_SECONDS + RESERVE_SECONDS
HEADERS = {"x-tenant-id": "acme", "x-user-id": "ann", "x-user-role": "writer", "content-type": "application/json"}
#: Ten steps of half a second each: more than one request has time for.
LONG = "".join(f'[[sleep 0.5]][[tool write_note {{"text": "{n}"}}]]' for n in range(10)) + "[[say done]]"

Ask = Callable[..., tuple[int, Any]]


@dataclass
class Function:
    """The platform's function: nothing of it goes on behind an answer."""

    kit: MemoryKit
    ask: Ask


@pytest.fixture
def function(request: pytest.FixtureRequest) -> Iterator[Function]:
    kit = MemoryKit(runner="none", identity="local", stream_seconds=MAX_SECONDS - 2 * MARGIN_SECONDS)
    run_in_requests(kit, workers=getattr(request, "param", False))
    api = application(kit)
    limited = WithinRequests(api, max_seconds=MAX_SECONDS, default_wait_seconds=20)
    with served(api) as door:

        def ask(method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
            sent = b"" if body is None else json.dumps(body).encode()
            with_names = HEADERS | {name.replace("_", "-"): value for name, value in headers.items()}
            status, told, text = door.portal.call(called, limited, method, path, with_names, sent)
            return status, json.loads(text) if "json" in told.get("content-type", "") else text

        yield Function(kit, ask)


def frames_of(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for frame in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.splitlines() if ": " in line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


def test_a_short_turn_is_answered_in_its_request(function: Function) -> None:
    status, turn = function.ask("POST", "/v1/sessions", {"agent": "plain", "input": "[[say hello]]"})
    assert (status, turn["status"], turn["output_text"]) == (200, "idle", "hello")


def test_a_long_turn_goes_on_in_the_requests_that_ask_for_it(function: Function) -> None:
    status, turn = function.ask("POST", "/v1/sessions", {"agent": "helper", "input": LONG}, prefer="wait=2")
    requests = 1
    while status == 202:
        assert turn["status"] in {"queued", "running"}
        assert function.kit.sessions.head("acme", turn["session_id"]).lease.owner is None, "nothing runs between them"
        steps = turn["steps"]
        status, turn = function.ask(
            "POST", "/v1/continue", {"continuation_token": turn["continuation_token"]}, prefer="wait=2"
        )
        requests += 1
        assert turn["steps"] > steps, "each request brings it on"
    assert (status, turn["status"], turn["output_text"], turn["steps"]) == (200, "idle", "done", 11)
    assert requests > 2
    assert [note.split()[-1] for note in function.kit.notes] == [str(n) for n in range(10)]
    assert function.kit.queue.backlog() == 0


def test_a_stream_ends_in_time_and_another_goes_on_from_where_it_was(function: Function) -> None:
    _, text = function.ask("POST", "/v1/sessions", {"agent": "helper", "input": LONG}, accept="text/event-stream")
    entries: dict[int, str] = {}
    streams = 1
    while True:
        frames = frames_of(text)
        entries |= {data["seq"]: name for name, data in frames if name not in {"turn", "delta", "end"}}
        assert frames[0][0] == "turn"
        assert frames[-1][0] == "end"
        if frames[-1][1]["status"] == "idle":
            break
        body = {"continuation_token": frames[0][1]["continuation_token"]}
        _, text = function.ask("POST", "/v1/continue", body, accept="text/event-stream")
        streams += 1
    assert streams > 1
    session_id = frames[0][1]["session_id"]
    kept = {entry.seq: entry.type for entry in function.kit.entries(session_id)}
    assert entries == kept
    assert len(function.kit.notes) == 10


def test_a_step_that_is_longer_than_a_request_is_said_to_be_is_still_begun(function: Function) -> None:
    """Else each request would leave it to the next one."""
    text = "[[sleep 2]]" + '[[tool write_note {"text": "slow"}]]' + "[[sleep 2]][[say done]]"
    status, turn = function.ask("POST", "/v1/sessions", {"agent": "helper", "input": text}, prefer="wait=1")
    assert (status, turn["steps"]) == (202, 1)
    status, turn = function.ask(
        "POST", "/v1/continue", {"continuation_token": turn["continuation_token"]}, prefer="wait=1"
    )
    assert (status, turn["output_text"]) == (200, "done")


def test_who_does_not_wait_is_given_the_token_to_go_on_with(function: Function) -> None:
    status, turn = function.ask("POST", "/v1/sessions", {"agent": "plain", "input": "[[say hello]]"}, prefer="wait=0")
    assert (status, turn["steps"]) == (202, 0)
    status, turn = function.ask("POST", "/v1/continue", {"continuation_token": turn["continuation_token"]})
    assert (status, turn["output_text"]) == (200, "hello")


def test_what_belongs_in_the_background_runs_here_too_where_there_are_no_workers(function: Function) -> None:
    body = {"agent": "slow", "input": "[[say hello]]"}
    status, turn = function.ask("POST", "/v1/sessions", body)
    assert (status, turn["output_text"]) == (200, "hello")
    assert function.kit.queue.backlog() == 0


@pytest.mark.parametrize("function", [True], indirect=True)
def test_and_goes_to_the_workers_where_there_are_some(function: Function) -> None:
    status, turn = function.ask("POST", "/v1/sessions", {"agent": "slow", "input": "[[say hello]]"}, prefer="wait=1")
    assert (status, turn["status"]) == (202, "queued")
    assert function.kit.work() == 1
    status, turn = function.ask("POST", "/v1/continue", {"continuation_token": turn["continuation_token"]})
    assert (status, turn["output_text"]) == (200, "hello")


def test_two_requests_for_one_session_run_it_once(function: Function) -> None:
    _, turn = function.ask("POST", "/v1/sessions", {"agent": "helper", "input": LONG}, prefer="wait=0")
    body = {"continuation_token": turn["continuation_token"]}
    answers: list[tuple[int, Any]] = []

    async def twice() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(2):
                group.start_soon(
                    anyio.to_thread.run_sync,
                    lambda: answers.append(function.ask("POST", "/v1/continue", body, prefer="wait=3")),
                )

    anyio.run(twice)
    assert {status for status, _ in answers} == {202}
    steps = function.kit.sessions.head("acme", turn["session_id"]).steps
    assert 0 < len(function.kit.notes) <= steps
    assert len(set(function.kit.notes)) == len(function.kit.notes)


def test_a_platforms_token_is_kept_for_aws_clients(
    function: Function, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(file))
    for token in ("first", "second"):
        assert function.ask("GET", "/v1/health", x_vercel_oidc_token=token)[0] == 200
        assert file.read_text() == token
        assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["token"]
