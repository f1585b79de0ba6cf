"""The function of ``deploy/vercel``, as it is laid out to be deployed, under a server that ends each request at a limit
that is forced; its state in PostgreSQL. Between requests the process is killed: nothing that matters is in it.

The function is told of less than the server gives it. That it ends by itself, by what it was told, is what is proven,
and not how much of the machine others leave it. One that does not know its limit streams for a quarter of an hour, and
is cut off all the same.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.installation import HEADERS, Installation, client, environment_here, steps_of
from tests.support.postgresql import Server
from tests.support.repository import REPOSITORY
from turnkeeper_infra.bundle import Sources, vercel_folder
from turnkeeper_local.kit.ports import free_port
from turnkeeper_project import kit_source

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]

#: Of which a turn may take a few, and the rest is kept for its end.
TOLD_SECONDS = 18
FORCED_SECONDS = 75
SECRET = "a secret of the platform's clock"


class Function(Installation):
    """A deployed function, and the model that it calls."""

    folder_deployed: Path
    model_url: str

    def deploy(self, cache: Path, model_url: str) -> None:
        project = self.folder / "project"
        project.mkdir()
        shutil.copytree(self.agents, project / "agents")
        shutil.copy(REPOSITORY / "policy.toml", project)
        built = vercel_folder(Sources(project, kit_source()))
        assert built.is_relative_to(cache)
        for file, seconds in ((built / "api" / "index.py", TOLD_SECONDS), (built / "vercel.json", FORCED_SECONDS)):
            text = file.read_text()
            assert "300" in text
            file.write_text(text.replace("300", str(seconds)))
        self.folder_deployed, self.model_url = built, model_url

    def run(self) -> tuple[subprocess.Popen[bytes], str]:
        environment = environment_here(
            PYTHONPATH=f"{self.folder_deployed}:{REPOSITORY}",
            TURNKEEPER_DATABASE_URL=self.database_url,
            TURNKEEPER_DATABASE_MIGRATE="true",
            TURNKEEPER_SIGNING_KEY_FILE=str(self.signing_key),
            TURNKEEPER_MODEL_URL=self.model_url,
            ANTHROPIC_API_KEY="stand-in",
            TURNKEEPER_IDENTITY="local",
            TURNKEEPER_LEASE_SECONDS="4",
            CRON_SECRET=SECRET,
        )
        port = free_port(0)
        command = [sys.executable, "-m", "tests.support.vercel_platform", str(self.folder_deployed), str(port)]
        process = self.start(command, environment, name="function")
        url = f"http://127.0.0.1:{port}"
        self.wait(lambda: _answers(url), "the function answers")
        return process, url


def _answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/v1/health", timeout=5, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


@pytest.fixture(scope="module")
def database_url(postgresql: Server) -> str:
    return postgresql.database()


@pytest.fixture
def function(database_url: str, model_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Function]:
    monkeypatch.setenv("TURNKEEPER_CACHE", str(tmp_path / "cache"))
    made = Function(tmp_path, database_url)
    made.deploy(tmp_path / "cache", model_url)
    yield made
    made.end()


def test_a_turn_of_many_requests_each_in_a_process_of_its_own(function: Function) -> None:
    body: dict[str, object] = {"agent": "noter", "input": steps_of(8, seconds=1)}
    path, requests, status = "/v1/sessions", 0, 202
    while status == 202:
        process, url = function.run()
        with client(url) as http:
            answer = http.post(path, json=body, headers={"prefer": "wait=4"})
        requests += 1
        process.kill()
        process.wait()
        status, turn = answer.status_code, answer.json()
        path, body = "/v1/continue", {"continuation_token": turn.get("continuation_token")}
        assert requests < 12
    assert (status, turn["status"], turn["output_text"], turn["steps"]) == (200, "idle", "done", 9)
    assert requests > 1
    assert function.noted() == 8


def test_a_stream_that_ends_with_the_request_and_one_that_its_reader_left(function: Function) -> None:
    _, url = function.run()
    entries: list[int] = []
    body: dict[str, object] = {"agent": "noter", "input": steps_of(12, seconds=1)}
    path, status, streams = "/v1/sessions", "running", 0
    with client(url) as http:
        while status in {"running", "queued"}:
            streams += 1
            token = None
            with http.stream("POST", path, json=body, headers={"accept": "text/event-stream"}) as stream:
                event = ""
                for line in stream.iter_lines():
                    if line.startswith("event: "):
                        event = line.removeprefix("event: ")
                    elif line.startswith("data: "):
                        told = json.loads(line.removeprefix("data: "))
                        if event == "turn":
                            token, session_id = told["continuation_token"], told["session_id"]
                        elif event == "end":
                            status = told["status"]
                        elif event != "delta" and told["seq"] not in entries:
                            entries.append(told["seq"])
                            if streams == 1 and len(entries) == 3:
                                break  # The reader is gone: the turn comes to its safe point all the same.
            path, body = "/v1/continue", {"continuation_token": token}
    assert (status, streams > 2) == ("idle", True)
    head = function.head(session_id)
    assert head is not None
    assert entries == list(range(1, head.last_seq + 1))
    assert function.noted() == 12


def test_the_platforms_clock_has_what_was_left_behind_looked_after_and_nobody_else_may(function: Function) -> None:
    process, url = function.run()
    earlier = {head.session_id for head in function.kit.sessions.under_way()}

    def begun() -> list[str]:
        found = function.kit.sessions.under_way()
        return [head.session_id for head in found if head.lease.owner and head.session_id not in earlier]

    with client(url) as http:
        text = steps_of(1, seconds=1)
        lost = threading.Thread(target=_ask_and_be_lost, args=(http, text))
        lost.start()
        [session_id] = function.wait(begun, "it runs")
        process.kill()
        process.wait()
        lost.join()
    _, url = function.run()
    with httpx2.Client(base_url=url, headers=HEADERS, timeout=60, trust_env=False) as http:
        assert http.get("/chores").status_code == 403
        assert http.get("/chores", headers={"authorization": "Bearer guessed"}).status_code == 403
        clock = {"authorization": f"Bearer {SECRET}"}
        function.wait(
            lambda: (
                http.get("/chores", headers=clock).text == "done\n"
                and (head := function.head(session_id)) is not None
                and head.status == "idle"
            ),
            "the sweep has it run on, within the clock's own requests",
        )
    assert function.noted() == 1


def _ask_and_be_lost(http: httpx2.Client, text: str) -> None:
    with pytest.raises(httpx2.HTTPError):
        http.post("/v1/sessions", json={"agent": "noter", "input": text})
