"""The front door as a real server, with as many readers as it has to bear."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from functions.api.serve import FrontDoorServer
from tests.support.kit import MemoryKit
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
