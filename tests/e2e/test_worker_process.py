"""Workers as processes, on the emulator and the stand-in model: stopped, killed, and given everything twice."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import forked
from tests.support.repository import REPOSITORY
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.session import Head
from turnkeeper.runtime.jobs import session_id_of_job
from turnkeeper.settings import Settings
from turnkeeper.testing.schema import create_table
from turnkeeper_local.kit.processes import clean_environment

pytestmark = pytest.mark.emulator

LEASE_SECONDS = 4

AGENT = '''
import os
from turnkeeper import Agent, Limits, ToolContext, tool

@tool(effect="once")
def note(ctx: ToolContext, text: str) -> str:
    """Write a note into the world."""
    with open(os.environ["NOTES"], "a") as file:
        file.write(f"{ctx.session_id} {ctx.tool_use_id} {text}\\n")
    return "noted"

@tool(effect="read")
def look(what: str) -> str:
    """Look."""
    return f"saw {what}"

agent = Agent(name="noter", model="claude-sonnet-5-5", system="You note.", tools=[note, look],
              limits=Limits(max_iterations=50), placement="background")
'''


class Place:
    """Table, bucket, queues and keys of one test, and the workers on them."""

    def __init__(self, endpoint_url: str, model_url: str, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.touch()
        (folder / "agents" / "noter").mkdir(parents=True)
        (folder / "agents" / "noter" / "agent.py").write_text(AGENT)
        self.workers: list[subprocess.Popen[bytes] | forked.Forked] = []
        name = uuid.uuid4().hex
        self.environment = {
            "AWS_ENDPOINT_URL": endpoint_url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "ANTHROPIC_API_KEY": "stand-in",
            "TURNKEEPER_TABLE": name,
            "TURNKEEPER_BUCKET": name,
            "TURNKEEPER_SIGNING_SECRET_ID": name,
            "TURNKEEPER_MODEL_URL": model_url,
            "TURNKEEPER_LEASE_SECONDS": str(LEASE_SECONDS),
            "TURNKEEPER_AGENTS": str(folder / "agents"),
            "TURNKEEPER_ROOT": str(REPOSITORY),
            "TURNKEEPER_HEALTH_PORT": "0",
            "TURNKEEPER_WORKER_PROCESSES": "1",
            "TURNKEEPER_STOP_SECONDS": "15",
            "NOTES": str(self.notes),
        }
        os.environ |= {key: value for key, value in self.environment.items() if key.startswith("AWS_")}
        aws = self._kit({"TURNKEEPER_QUEUE_URL": "later", "TURNKEEPER_DLQ_URL": "later"}).platform.aws
        create_table(aws.dynamodb, name)
        aws.s3.create_bucket(Bucket=name)
        keys = json.dumps({"current": "a key of the tests", "previous": None})
        aws.secretsmanager.create_secret(Name=name, SecretString=keys)
        self.dlq_url = aws.sqs.create_queue(QueueName=f"{name}-dead")["QueueUrl"]
        arn = aws.sqs.get_queue_attributes(QueueUrl=self.dlq_url, AttributeNames=["QueueArn"])["Attributes"]
        policy = json.dumps({"deadLetterTargetArn": arn["QueueArn"], "maxReceiveCount": 3})
        self.queue_url = aws.sqs.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]
        self.environment |= {"TURNKEEPER_QUEUE_URL": self.queue_url, "TURNKEEPER_DLQ_URL": self.dlq_url}
        self.kit = self._kit({})

    def _kit(self, more: dict[str, str]) -> Kit:
        return Kit(Settings.from_environment({**self.environment, **more}))

    # ---- workers ----

    def worker(self, *, concurrency: int = 8, **more: str) -> subprocess.Popen[bytes] | forked.Forked:
        """Several processes of a worker are started by their first as that was, which is from nothing."""
        log = self.folder / f"worker-{len(self.workers)}.log"
        told = {**self.environment, "TURNKEEPER_WORKER_CONCURRENCY": str(concurrency), **more}
        environment = clean_environment(told)
        if told["TURNKEEPER_WORKER_PROCESSES"] == "1":
            self.workers.append(forked.worker(environment, folder=REPOSITORY, log=log))
        else:
            command = [sys.executable, "-m", "fargate_worker"]
            with log.open("wb") as output:
                self.workers.append(
                    subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=output, stderr=subprocess.STDOUT)
                )
        return self.workers[-1]

    def ask(self, path: str) -> bytes:
        """What the first worker answers, once it says where."""
        log = self.folder / "worker-0.log"
        self.wait(lambda: "health on port" in log.read_text())
        port = log.read_text().split("health on port ")[1].split('"')[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
            assert answer.status == 200
            found: bytes = answer.read()
            return found

    def both(self) -> list[int]:
        """The ids of the first worker's processes, once two of them take jobs."""
        found: list[dict[str, Any]] = []

        def take() -> bool:
            found[:] = json.loads(self.ask("status"))["processes"]
            return [process["status"] for process in found] == ["running", "running"]

        self.wait(take)
        return [process["pid"] for process in found]

    def end(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()

    # ---- jobs ----

    def send(self, job_id: str, text: str, copies: int = 1) -> str:
        body = {
            "schema": "turnkeeper.job/v1",
            "job_id": job_id,
            "tenant_id": "acme",
            "user_id": "ann",
            "agent": "noter",
            "input": text,
        }
        for _ in range(copies):
            self.kit.queue.send(json.dumps(body), group="acme")
        return session_id_of_job("acme", job_id)

    def head(self, session_id: str) -> Head | None:
        try:
            return self.kit.sessions.head("acme", session_id)
        except SessionNotFound:
            return None

    def sweep(self) -> None:
        self.kit.sweep.run(lambda: 5.0)

    def depth(self, url: str | None = None) -> int:
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.kit.platform.aws.sqs.get_queue_attributes(QueueUrl=url or self.queue_url, AttributeNames=names)
        return sum(int(value) for value in found["Attributes"].values())

    def wait(self, holds: Callable[[], bool], seconds: float = 60.0) -> None:
        began = time.monotonic()
        while not holds():
            waited = time.monotonic() - began
            if waited > seconds:
                logs = "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("worker-*.log")))
                raise AssertionError(f"not within {seconds} s\n{logs}")
            # Each look keeps the emulator busy that the workers need.
            time.sleep(0.1 if waited < 2 else 0.3)

    def all_done(self, ids: list[str]) -> bool:
        return all((head := self.head(session_id)) is not None and head.resting for session_id in ids)

    def check(self, ids: list[str], *, steps: int) -> None:
        """Every session complete, every transcript valid, every cent accounted for."""
        spent = 0
        for session_id in ids:
            transcript = self.kit.sessions.load("acme", session_id)
            head, entries = transcript.head, transcript.entries
            assert (head.status, head.steps, head.account.pending, head.lease.owner) == ("idle", steps, None, None)
            assert [entry.seq for entry in entries] == list(range(1, head.last_seq + 1))
            assert sum(entry.cost_nanousd for entry in entries) == head.account.cost_nanousd
            spent += head.account.cost_nanousd
            # Between a call and its answer may stand that the runner was lost.
            messages = [entry for entry in entries if entry.type != "runner_lost"]
            for at, entry in enumerate(messages):
                calls = [block["id"] for block in entry.content if block["type"] == "tool_use"]
                if calls:
                    answers = [b["tool_use_id"] for b in messages[at + 1].content if b["type"] == "tool_result"]
                    assert answers == calls
            ledger = self.kit.sessions.calls("acme", session_id)
            assert sum(int(call["spent_nanousd"]) for call in ledger) == head.account.cost_nanousd
            assert not [call for call in ledger if call["state"] == "pending"]
        terms = self.kit.tenants.terms("acme")
        states = self.kit.treasury.states(terms, head.user_id, [])
        assert {(state.spent, state.reserved) for state in states} == {(spent, 0)}
        noted = Counter(tuple(line.split()[:2]) for line in self.notes.read_text().splitlines())
        assert set(noted.values()) <= {1}, "a side effect occurred twice"


@pytest.fixture
def place(emulator: str, model_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")  # So that what the place sets is taken back.
    place = Place(emulator, model_url, tmp_path)
    yield place
    place.end()


def test_twenty_jobs_sent_twice_are_each_done_once(place: Place) -> None:
    text = '[[tool look {"what": "a"} & tool note {"text": "x"}]][[tool note {"text": "y"}]][[say done]]'
    ids = [place.send(f"job {n}", text, copies=2) for n in range(20)]
    place.worker()
    place.worker()
    place.wait(lambda: place.all_done(ids) and place.depth() == 0)
    place.check(ids, steps=3)
    assert len(place.notes.read_text().splitlines()) == 40
    assert place.depth(place.dlq_url) == 0


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_worker_told_to_stop_hands_on_what_it_has(place: Place, processes: str) -> None:
    text = "".join(f'[[sleep 0.7]][[tool note {{"text": "{n}"}}]]' for n in range(6)) + "[[say done]]"
    ids = [place.send(f"job {n}", text) for n in range(8)]
    worker = place.worker(TURNKEEPER_WORKER_PROCESSES=processes)
    place.wait(lambda: len(place.notes.read_text().splitlines()) > 4)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=15) == 0
    assert time.monotonic() - began < 15
    heads = [head for session_id in ids if (head := place.head(session_id)) is not None]
    assert {head.lease.owner for head in heads} == {None}
    assert "queued" in {head.status for head in heads}
    place.worker()
    place.wait(lambda: place.all_done(ids) and place.depth() == 0)
    place.check(ids, steps=7)
    assert len(place.notes.read_text().splitlines()) == 48
    assert place.depth(place.dlq_url) == 0


def test_a_call_that_does_not_end_in_time_is_given_back(place: Place) -> None:
    session_id = place.send("endless", "[[sleep 40]][[say done]]")
    worker = place.worker(TURNKEEPER_STOP_SECONDS="4")
    place.wait(lambda: (head := place.head(session_id)) is not None and head.account.pending is not None)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=10) == 0
    assert time.monotonic() - began < 4.5
    head = place.head(session_id)
    assert head is not None
    assert (head.status, head.lease.owner, head.account.pending) == ("queued", None, None)
    assert place.depth() == 1


def test_a_killed_workers_sessions_are_done_by_another(place: Place) -> None:
    text = "".join(f'[[sleep 0.5]][[tool note {{"text": "{n}"}}]]' for n in range(4)) + "[[say done]]"
    ids = [place.send(f"job {n}", text) for n in range(8)]
    first, second = place.worker(concurrency=4), place.worker(concurrency=4)
    place.wait(lambda: len(place.notes.read_text().splitlines()) > 6)
    first.kill()
    place.wait(lambda: place.all_done(ids) and place.depth() == 0)
    assert second.poll() is None
    place.check(ids, steps=5)
    assert place.depth(place.dlq_url) == 0


def test_workers_that_die_over_and_over_lose_nothing(place: Place) -> None:
    text = "".join(f'[[sleep 0.4]][[tool note {{"text": "{n}"}}]]' for n in range(5)) + "[[say done]]"
    ids = [place.send(f"job {n}", text, copies=2) for n in range(10)]
    place.worker()
    for number in range(4):
        place.worker()
        time.sleep(4)
        # The older one goes, by turns politely and not.
        place.workers[number].send_signal(signal.SIGTERM if number % 2 else signal.SIGKILL)
    until = time.monotonic() + 120
    while not place.all_done(ids) and time.monotonic() < until:
        place.sweep()
        time.sleep(1)
    place.wait(lambda: place.depth() == 0, 60)
    place.check(ids, steps=6)


def test_a_process_that_dies_is_started_again_and_the_others_go_on(place: Place) -> None:
    text = "".join(f'[[sleep 0.5]][[tool note {{"text": "{n}"}}]]' for n in range(8)) + "[[say done]]"
    worker = place.worker(concurrency=5, TURNKEEPER_WORKER_PROCESSES="2")
    before = place.both()
    ids = [place.send(f"job {n}", text) for n in range(8)]
    place.wait(lambda: len(place.notes.read_text().splitlines()) > 6)
    # One that has no time to answer is not reckoned with.
    place.wait(lambda: [one["running"] for one in json.loads(place.ask("status"))["processes"]] == [3, 2])
    slots = ['turnkeeper_worker_slots{process="0"} 3.0', 'turnkeeper_worker_slots{process="1"} 2.0']
    place.wait(lambda: set(slots) <= set(place.ask("metrics").decode().splitlines()))
    for path in ("healthz", "readyz"):
        place.ask(path)
    os.kill(before[1], signal.SIGKILL)
    place.wait(lambda: place.all_done(ids) and place.depth() == 0)
    after = place.both()
    assert after[0] == before[0] and after[1] != before[1]
    assert worker.poll() is None
    place.check(ids, steps=9)
    assert place.depth(place.dlq_url) == 0
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=15) == 0


def test_a_process_that_stalls_past_the_end_of_its_leases_does_nothing_twice(place: Place) -> None:
    text = "".join(f'[[sleep 0.5]][[tool note {{"text": "{n}"}}]]' for n in range(6)) + "[[say done]]"
    place.worker(concurrency=6, TURNKEEPER_WORKER_PROCESSES="2")
    stalled, _ = place.both()
    ids = [place.send(f"job {n}", text) for n in range(6)]
    place.wait(lambda: json.loads(place.ask("status"))["processes"][0]["running"] > 0)
    os.kill(stalled, signal.SIGSTOP)
    try:
        place.wait(lambda: place.all_done(ids))
        place.ask("healthz")
        assert [one["status"] for one in json.loads(place.ask("status"))["processes"]] == ["away", "running"]
    finally:
        os.kill(stalled, signal.SIGCONT)
    place.wait(lambda: place.depth() == 0 and stalled in place.both())
    place.check(ids, steps=7)
    assert place.depth(place.dlq_url) == 0


def test_processes_end_with_the_one_that_started_them_and_hand_on_what_they_have(place: Place) -> None:
    text = "".join(f'[[sleep 0.7]][[tool note {{"text": "{n}"}}]]' for n in range(6)) + "[[say done]]"
    ids = [place.send(f"job {n}", text) for n in range(6)]
    worker = place.worker(TURNKEEPER_WORKER_PROCESSES="2")
    children = place.both()
    place.wait(lambda: len(place.notes.read_text().splitlines()) > 2)
    worker.kill()
    worker.wait()
    place.wait(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 15)
    assert {head.lease.owner for session_id in ids if (head := place.head(session_id)) is not None} == {None}
    place.worker()
    place.wait(lambda: place.all_done(ids) and place.depth() == 0)
    place.check(ids, steps=7)


def test_a_worker_that_cannot_start_ends_at_once(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        worker = place.worker(TURNKEEPER_WORKER_PROCESSES="2", TURNKEEPER_GATEWAY_PORT=port)
        assert worker.wait(timeout=90) == 1


def test_health_and_bad_messages(place: Place) -> None:
    worker = place.worker()
    for path in ("healthz", "readyz", "status"):
        place.ask(path)
    for body in ("not json", '{"schema": "other/v1"}', "{}"):
        place.kit.queue.send(body, group="acme")
    place.wait(lambda: place.depth() == 0 and place.depth(place.dlq_url) == 3)
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=15) == 0
