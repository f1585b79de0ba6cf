"""Readers of streams from outside: whenever they come, however often they are cut off, whoever runs the turn and
whoever dies, what they have put together is the transcript."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

from tests.e2e.outside import PATIENCE_SECONDS, Caller, Stack, call, eventually, good, tools
from tests.support.sse import Assembled, read, read_on
from turnkeeper_local.kit.record import Record

pytestmark = pytest.mark.stack

WORDS = "one two three four five six seven eight nine ten"


def streams(caller: Caller) -> httpx2.Client:
    assert caller.stack.kit.stream_url
    return httpx2.Client(
        base_url=caller.stack.kit.stream_url, headers=caller.http.headers, timeout=PATIENCE_SECONDS, trust_env=False
    )


class Reader(threading.Thread):
    """Reads a session from its own connection on, until it rests."""

    def __init__(self, caller: Caller, path: str, *, most: int | None = None, cuts: int = 0) -> None:
        super().__init__(daemon=True)
        self.assembled = Assembled()
        self._arguments = (streams(caller), path, self.assembled)
        self._cut = {"most": most, "cuts": cuts}
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            read_on(*self._arguments, **self._cut)  # type: ignore[arg-type]
        except BaseException as error:  # noqa: BLE001 - told where it is waited for
            self.error = error

    def done(self) -> Assembled:
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive(), "the stream never ended"
        if self.error is not None:
            raise self.error
        return self.assembled


@contextmanager
def reading(*readers: Reader) -> Iterator[None]:
    for reader in readers:
        reader.start()
    yield
    for reader in readers:
        reader.done()


def steps(count: int) -> str:
    """Each call unlike the one before, since an agent that repeats itself is stopped; and words at the end."""
    waits = (tools(call("wait", seconds=0.8 + n / 100, file=os.devnull)) for n in range(count))
    return " ".join([*(f"[[trickle 0.5]] {wait}" for wait in waits), f"[[trickle 1]] [[say {WORDS}]]"])


def test_before_during_and_after_a_turn_across_a_handoff(restless: Stack) -> None:
    """And cut off ten times in it."""
    caller = restless.caller()
    session_id = caller.turn("handy", "hello")["session_id"]
    path = f"/v1/sessions/{session_id}/stream"
    before, cut_off = Reader(caller, f"{path}?wait=25"), Reader(caller, f"{path}?wait=25", most=2, cuts=10)
    with reading(before, cut_off):
        time.sleep(1)
        response = caller.say(session_id, steps(8), wait=0)
        assert response.status_code == 202
        caller.until(session_id, lambda session: session["iterations"] > 1)
        during = Reader(caller, f"{path}?after=2")
        during.start()
        caller.finish(response)
    after = Reader(caller, path)
    after.start()
    session, events = caller.checked(session_id)
    assert session["runner"] == "fargate"
    assert before.assembled.transcript == events
    assert cut_off.assembled.transcript == events
    assert during.done().transcript == events[2:]
    assert after.done().transcript == events
    assert before.assembled.formed, "answers were seen as they formed"
    assert before.assembled.kinds >= {"text", "tool_started", "tool_finished", "handed_off"}
    assert after.assembled.kinds <= {"handed_off"}, "what has landed does not form"


def test_across_the_death_of_a_worker(restless: Stack) -> None:
    caller = restless.caller()
    response = caller.start("batch", steps(6), wait=0)
    session_id = response.json()["session_id"]
    reader = Reader(caller, f"/v1/sessions/{session_id}/stream")
    with reading(reader):
        caller.until(session_id, lambda session: session["iterations"] > 2)
        os.kill(restless.worker_pid(), signal.SIGKILL)
    assert reader.assembled.transcript == caller.checked(session_id)[1]
    assert reader.assembled.formed


def test_a_call_that_begins_a_turn_streams_it(restless: Stack) -> None:
    caller = restless.caller()
    client, first = streams(caller), Assembled()
    body = {"agent": "handy", "input": f"[[trickle 1]] [[say {WORDS}]] ({uuid.uuid4().hex})"}
    read(client, "/v1/sessions", first, method="POST", body=body)
    assert first.turn is not None
    session_id = first.turn["session_id"]
    assert first.transcript == caller.events(session_id)
    assert (first.ended or {})["status"] == "idle"
    assert first.formed == 1
    second = Assembled()
    again = {"input": f"[[fail 529]] [[trickle 1]] [[cut]] [[say {WORDS}]] ({uuid.uuid4().hex})"}
    read(client, f"/v1/sessions/{session_id}/turns", second, method="POST", body=again)
    assert second.transcript == caller.events(session_id, after=first.seq)


def test_the_front_door_that_dies_is_followed_by_another_at_its_address(restless: Stack) -> None:
    caller = restless.caller()
    response = caller.start("handy", steps(5), wait=0)
    session_id = response.json()["session_id"]
    reader = Reader(caller, f"/v1/sessions/{session_id}/stream")
    with reading(reader):
        caller.until(session_id, lambda session: session["iterations"] > 0)
        os.kill(front_door(restless), signal.SIGKILL)
    assert reader.assembled.transcript == caller.checked(session_id)[1]


def test_one_that_is_told_to_stop_ends_its_streams(restless: Stack) -> None:
    caller = restless.caller()
    session_id = caller.start("handy", "[[sleep 8]] [[say late]]", wait=0).json()["session_id"]
    assembled = Assembled()
    client = streams(caller)
    with client.stream("GET", f"/v1/sessions/{session_id}/stream") as response:
        lines = response.iter_lines()
        assert next(lines).startswith("retry:")
        pid = front_door(restless)
        os.kill(pid, signal.SIGTERM)
        rest = "\n".join(lines)
    assert "event: end" in rest
    assert '"status":"running"' in rest
    eventually(lambda: front_door(restless) != pid, "another front door was started")
    eventually(lambda: _answers(restless), "it answers")
    read_on(streams(caller), f"/v1/sessions/{session_id}/stream", assembled)
    assert assembled.transcript == caller.checked(session_id)[1]


def test_a_token_and_a_view_for_browsers(restless: Stack) -> None:
    caller = restless.caller()
    session_id = caller.turn("handy", f"{tools(call('look', what='a'))} [[say done]]")["session_id"]
    token = good(caller.post(f"/v1/sessions/{session_id}/stream-token", None))["token"]
    nobody = httpx2.Client(base_url=str(restless.kit.stream_url), trust_env=False)
    full, user = Assembled(), Assembled()
    read(nobody, f"/v1/sessions/{session_id}/stream?token={token}", full)
    assert full.transcript == caller.events(session_id)
    read(nobody, f"/v1/sessions/{session_id}/stream?token={token}&view=user", user)
    assert [event["seq"] for event in user.transcript] == [event["seq"] for event in full.transcript]
    assert "cost_usd" not in str(user.transcript)
    assert nobody.get(f"/v1/sessions/{session_id}?token={token}", headers={"x-tenant-id": "else"}).status_code == 404


def front_door(stack: Stack) -> int:
    """The process that serves now: its supervisor's child."""

    def look() -> int | None:
        supervisor = Record.read(stack.home).process("front_door")
        assert supervisor is not None
        found = subprocess.run(["pgrep", "-P", str(supervisor.pid)], check=False, capture_output=True, text=True)
        return int(found.stdout.split()[0]) if found.stdout.split() else None

    return eventually(look, "a front door runs")


def _answers(stack: Stack) -> bool:
    try:
        return httpx2.get(f"{stack.kit.stream_url}/v1/health", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False
