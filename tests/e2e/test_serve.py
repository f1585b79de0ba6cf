"""`turnkeeper serve`: the whole kit in one process, used, stopped, killed, and started again on what it left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.support.forked import PROGRAM, turnkeeper
from tests.support.hook_receiver import hook_receiver
from tests.support.installation import PATIENCE_SECONDS, TENANT, Installation, client, environment_here, steps_of


class Served(Installation):
    """A folder of state, and what serves it."""

    @property
    def environment(self) -> dict[str, str]:
        return environment_here(
            TURNKEEPER_HOME=str(self.folder),
            TURNKEEPER_AGENTS=str(self.agents),
            TURNKEEPER_PORT="0",
            TURNKEEPER_LEASE_SECONDS="4",
        )

    def serve(self, *arguments: str) -> tuple[subprocess.Popen[bytes], str]:
        """The process, and where it says that it answers."""
        process = self.start(
            [str(PROGRAM), "serve", "--database", self.database_url, *arguments],
            self.environment,
            name="serve",
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http://127.0.0.1:"), self.wait(lambda: False, "it serves", 0.5)
        return process, url

    def cli(self, *arguments: str, may_fail: bool = False) -> Any:
        done = turnkeeper(*arguments, "--json", environment=self.environment, timeout_seconds=PATIENCE_SECONDS)
        assert done.returncode == 0 or may_fail, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "local.json").read_text())
        return found


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """On SQLite."""
    served = Served(tmp_path, f"sqlite:///{tmp_path / 'serve.db'}")
    yield served
    served.end()


def test_the_command_line_finds_it_for_everything_that_it_does(served: Served) -> None:
    process, url = served.serve()
    document = served.document()
    assert document["api_url"] == document["stream_url"] == url
    assert document["worker_pid"] == process.pid, "what was started is the kit itself"
    turn = served.cli("run", "noter", steps_of(2))
    assert (turn["status"], turn["output_text"], turn["steps"]) == ("idle", "done", 3)
    session_id = turn["session_id"]
    [submitted] = served.cli("submit", "noter", steps_of(1))["submitted"]
    # There is no session before a worker has taken the job up.
    job = submitted["session_id"]
    served.wait(lambda: served.cli("show", job, may_fail=True).get("session", {}).get("status") == "idle", "it is done")
    assert {one["session_id"] for one in served.cli("sessions")["sessions"]} == {session_id, submitted["session_id"]}
    assert served.cli("tenant", "set", "local", "--cap", "user_daily=5")["caps"]["user_daily"] == "5.000000"
    assert served.cli("audit", "verify")["ok"]
    assert served.cli("status")["up"]
    assert served.cli("doctor")["ok"]
    assert served.cli("dead", "list")["dead_letters"] == []
    assert served.cli("top", "--once")["workers"] == 1
    served.wait(
        lambda: served.cli("show", session_id)["session"]["scores"], "its turns are scored, from the feed of changes"
    )
    served.wait(lambda: served.document()["gateway_url"], "the gateway answers")
    assert served.cli("down")["ended"]
    assert process.wait(timeout=PATIENCE_SECONDS) == 0
    assert not (served.folder / "local.json").exists()


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
def test_word_of_a_turn_at_rest_comes_to_a_webhook_once_and_no_result_to_a_queue(
    request: pytest.FixtureRequest, tmp_path: Path, store: str
) -> None:
    url = (
        f"sqlite:///{tmp_path / 'serve.db'}" if store == "sqlite" else request.getfixturevalue("postgresql").database()
    )
    served = Served(tmp_path / "kit", url)
    try:
        with hook_receiver() as receiver:
            _, api = served.serve()
            body = {"agent": "noter", "input": steps_of(1), "webhook": receiver.url("flaky")}
            with client(api) as http:
                turn = http.post("/v1/sessions", json=body).json()
            # A job that wants its result on a queue, of which there are none here.
            job = {"schema": "turnkeeper.job/v1", "job_id": "j", "tenant_id": TENANT, "user_id": "ann"}
            job |= {"agent": "noter", "input": "hello", "reply_to": "replies"}
            served.kit.queue.send(json.dumps(job), group=TENANT)
            came = served.wait(lambda: (found := receiver.at("flaky"))[1:] and found, "it is tried again")
            secret = served.cli("hooks", "secret", "--tenant", TENANT)["secret"]
            document: Any = Webhook(secret).verify(came[1].body, dict(came[1].headers))
            assert document["data"]["session_id"] == turn["session_id"]
            assert (document["data"]["status"], document["data"]["cost_usd"]) == ("idle", turn["cost_usd"])
            assert came[0].headers["webhook-id"] == came[1].headers["webhook-id"]

            def state() -> dict[str, Any] | None:
                [delivery] = served.cli("hooks", "list", "--tenant", TENANT)["deliveries"]
                return delivery if delivery["state"] == "delivered" else None

            assert served.wait(state, "it is known to have come")["attempts"] == 2
            [letter] = served.wait(lambda: served.cli("dead", "list")["dead_letters"], "the job is refused")
            assert letter["error_code"] == "invalid_request"
            assert len(receiver.at("flaky")) == 2
    finally:
        served.end()


def test_told_to_stop_it_keeps_what_runs_for_the_next_start(served: Served) -> None:
    process, url = served.serve()
    text = steps_of(8)
    with client(url) as http:
        turn = http.post("/v1/sessions", json={"agent": "noter", "input": text}, headers={"prefer": "wait=0"}).json()
    ids = [turn["session_id"], served.job("a job", text)]
    served.wait(lambda: served.noted() >= 4, "both run")
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=PATIENCE_SECONDS) == 0
    assert not served.rests(*ids)
    assert [head.lease.owner for session_id in ids if (head := served.head(session_id))] == [None, None]
    served.serve()
    served.wait(lambda: served.rests(*ids), "both go on")
    served.check(ids, steps=9)


def test_killed_it_goes_on_where_it_was(served: Served) -> None:
    process, url = served.serve()
    text = steps_of(8)
    with client(url) as http:
        turn = http.post("/v1/sessions", json={"agent": "noter", "input": text}, headers={"prefer": "wait=0"}).json()
    ids = [turn["session_id"], served.job("a job", text)]
    served.wait(lambda: served.noted() >= 4, "both run")
    process.kill()
    process.wait()
    standin = served.document()["model_url"]
    served.wait(lambda: not _answers(standin), "what ran beside it has ended with it")
    served.serve()
    served.wait(lambda: served.rests(*ids), "both go on")
    served.check(ids, steps=9, notes=False)


def test_two_on_one_database_do_everything_once(served: Served) -> None:
    first, url = served.serve()
    _, other_url = served.serve()
    assert url != other_url
    ids = [served.job(f"job {number}", steps_of(4)) for number in range(6)]
    with client(url) as one, client(other_url) as other:
        for http in (one, other, one, other):
            turn = http.post(
                "/v1/sessions", json={"agent": "noter", "input": steps_of(4)}, headers={"prefer": "wait=0"}
            )
            ids.append(turn.json()["session_id"])
        served.wait(lambda: served.noted() >= 10, "they run")
        first.kill()
        first.wait()
        served.wait(lambda: served.rests(*ids), "the other goes on with all of it")
        assert {http.get(f"/v1/sessions/{each}").json()["status"] for http in [other] for each in ids} == {"idle"}
    served.check(ids, steps=5, notes=False)
    served.wait(lambda: served.document()["api_url"] == other_url, "the one that is left is found")
    third, _ = served.serve()
    assert served.cli("down")["ended"]
    assert [process.wait(PATIENCE_SECONDS) for process in (served.processes[1], third)] == [0, 0], "it ends all"


def _answers(url: str) -> bool:
    import httpx2

    try:
        httpx2.get(f"{url}/healthz", timeout=2, trust_env=False)
    except httpx2.HTTPError:
        return False
    return True


def test_a_folder_is_served_or_up_but_not_both(served: Served) -> None:
    served.serve()
    done = subprocess.run(
        [str(PROGRAM), "up", "--json"],
        check=False,
        env={**os.environ, **served.environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "serve" in json.loads(done.stdout)["error"]["detail"]
