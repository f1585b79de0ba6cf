"""The front door as a real server, with as many readers as it has to bear."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from functions.api.serve import FrontDoorServer
from tests.support.kit import MemoryKit
from tests.support.repository import REPOSITORY
from tests.support.sse import Assembled, frames

WHO = {"x-tenant-id": "acme", "x-user-id": "ann", "x-user-role": "user"}
WORDS = " ".join(f"word{n}" for n in range(30))
SESSIONS, READERS = 20, 10


@pytest.fixture
def server(kit: MemoryKit) -> Iterator[FrontDoorServer]:
    kit.settings = kit.settings.model_copy(update={"api_port": 0})
    server = FrontDoorServer(kit)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def client_of(server: FrontDoorServer) -> httpx2.AsyncClient:
    limits = httpx2.Limits(max_connections=SESSIONS * READERS + 10)
    url = f"http://127.0.0.1:{server.port}"
    return httpx2.AsyncClient(base_url=url, headers=WHO, trust_env=False, timeout=60, limits=limits)


async def read(client: httpx2.AsyncClient, path: str) -> Assembled:
    """One connection, to its end."""
    assembled, buffered = Assembled(), []
    async with client.stream("GET", path) as response:
        assert response.status_code == 200
        async for line in response.aiter_lines():
            buffered.append(line)
            if not line:
                for name, document in frames(iter(buffered)):
                    assembled.take(name, document)
                buffered.clear()
    return assembled


def test_two_hundred_readers_at_once_and_each_has_the_transcript(kit: MemoryKit, server: FrontDoorServer) -> None:
    async def crowd() -> None:
        async with client_of(server) as client:

            async def begin(number: int) -> str:
                body = {"agent": "plain", "input": f"[[trickle 4]] [[say {number} {WORDS}]]"}
                answer = await client.post("/v1/sessions", json=body, headers={"prefer": "wait=0"})
                return str(answer.json()["session_id"])

            paths, reading = [], []
            for number in range(SESSIONS):
                path = f"/v1/sessions/{await begin(number)}/stream"
                paths += [path] * READERS
                reading += [asyncio.create_task(read(client, path)) for _ in range(READERS)]
            assert (await client.get("/v1/health")).status_code == 200
            told = await asyncio.gather(*reading)
            for path, assembled in zip(paths, told, strict=True):
                events = (await client.get(path.replace("/stream", "/events"))).json()["events"]
                assert assembled.transcript == events
                assert (assembled.ended or {})["status"] == "idle"
            assert any(assembled.formed for assembled in told), "answers were seen as they formed"

    asyncio.run(crowd())


def test_a_server_that_stops_ends_streams_and_answers_who_waits(kit: MemoryKit, server: FrontDoorServer) -> None:
    async def stop() -> None:
        async with client_of(server) as client:
            body = {"agent": "plain", "input": "[[sleep 2]] [[say late]]"}
            session_id = (await client.post("/v1/sessions", json=body, headers={"prefer": "wait=0"})).json()[
                "session_id"
            ]
            reading = asyncio.create_task(read(client, f"/v1/sessions/{session_id}/stream"))
            waiting = asyncio.create_task(client.get(f"/v1/sessions/{session_id}/events?after=1&wait=20"))
            await asyncio.sleep(0.5)
            server.should_exit = True
            assert ((await reading).ended or {})["status"] == "running"
            assert [event["seq"] for event in (await waiting).json()["events"]] == [2, 3]

    asyncio.run(stop())


def test_the_program_that_lambda_starts_is_a_front_door(tmp_path: Path) -> None:
    """As the Web Adapter starts it: by its place in the code, with nothing but the function's environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "LAMBDA_TASK_ROOT": str(REPOSITORY),
        "LAMBDA_RUNTIME_DIR": str(tmp_path),
        "AWS_DEFAULT_REGION": "eu-central-1",
        "TURNKEEPER_TABLE": "table",
        "TURNKEEPER_BUCKET": "bucket",
        "TURNKEEPER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/queue",
        "TURNKEEPER_DLQ_URL": "https://sqs.eu-central-1.amazonaws.com/1/dead",
        "TURNKEEPER_SIGNING_SECRET_ID": "signing",
        "TURNKEEPER_TRUSTED_PRINCIPALS": "arn:aws:iam::111122223333:role/Backend",
        "TURNKEEPER_WEB_ADAPTER": "true",
        "TURNKEEPER_API_PORT": str(port),
    }
    program = REPOSITORY / "functions/api/serve.sh"
    started = subprocess.Popen(["/bin/sh", str(program)], env=environment, cwd="/", stdout=subprocess.PIPE)
    try:
        until = time.monotonic() + 60
        while not _healthy(port):
            assert started.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        url = f"http://127.0.0.1:{port}/v1/spend"
        assert httpx2.get(url, headers=WHO, trust_env=False).status_code == 401, "nobody signed it"
    finally:
        started.terminate()
        started.wait(20)


def _healthy(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/v1/health", trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False
