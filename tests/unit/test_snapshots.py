"""What a snapshot of a Lambda (SnapStart) holds: all that a call needs but secrets. A copy of the process, made by a
fork, stands for one that is restored."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import answering
from tests.support.repository import REPOSITORY
from tests.unit.test_imports import ENVIRONMENT
from turnkeeper.preflight.manifest import write_manifest

ANSWERS: dict[str, Any] = {
    "GetSecretValue": {"SecretString": json.dumps({"current": "k" * 40})},
    "BatchGetItem": {"Responses": {}},
    "Query": {"Items": []},
    "UpdateItem": {"Attributes": {}},
}
SCRIPT = """
import json, os, random, sys
from functions.{name}.handler import handler
class Context:
    def get_remaining_time_in_millis(self): return 29_000
state = random.getstate()
for number in range(2):
    read, write = os.pipe()
    if os.fork() == 0:
        random.setstate(state)  # A fork gives each copy another one; what is restored has that of the snapshot.
        before = set(sys.modules)
        answer = handler({event!r}, Context())
        new = sorted(set(sys.modules) - before)
        chance = random.random()
        handler({event!r}, Context())
        again = random.random()
        os.write(write, json.dumps({{"answer": answer, "new": new, "chance": [chance, again]}}).encode())
        os._exit(0)
    os.close(write)
    print(os.read(read, 1_000_000).decode(), flush=True)
    os.wait()
"""
OURS = ("turnkeeper", "functions", "botocore", "anthropic", "pydantic", "genai_prices", "httpx2")


class Aws(BaseHTTPRequestHandler):
    """Every table is empty and takes everything, every function starts."""

    asked: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        operation = str(self.headers.get("x-amz-target", "")).rpartition(".")[2]
        self.asked.append(operation or self.path)
        body = json.dumps(ANSWERS.get(operation, {})).encode()
        self.send_response(200 if operation else 202)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def aws() -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked."""
    handler = type("Handler", (Aws,), {"asked": []})
    with answering(handler) as url:
        yield url, handler.asked  # type: ignore[attr-defined]


def restored(name: str, event: Any, endpoint_url: str, root: Path) -> list[Any]:
    """What two copies of a function's snapshot answer."""
    environment = {
        **ENVIRONMENT,
        "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT_URL": endpoint_url,
        "LAMBDA_TASK_ROOT": str(root),
        "TURNKEEPER_TURN_FUNCTION": "turn",
        "TURNKEEPER_MODEL_SECRET_ID": "model",
    }
    code = SCRIPT.format(name=name, event=event)
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True, check=True
    )
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"answer"')]


def new_of(told: Any) -> list[str]:
    return [name for name in told["new"] if name.startswith(OURS)]


def test_a_front_door_that_is_restored_imports_nothing_more(aws: tuple[str, list[str]], tmp_path: Path) -> None:
    for name in ("agents", "policy.toml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    write_manifest(tmp_path, [])
    event = {
        "rawPath": "/v1/sessions",
        "headers": {"prefer": "wait=0", "content-type": "application/json"},
        "body": json.dumps({"agent": "support", "input": "hello"}),
        "requestContext": {"http": {"method": "POST"}, "stage": "$default"},
    }
    one, two = restored("api", event, aws[0], tmp_path)
    assert [new_of(one), new_of(two)] == [[], []]
    assert [one["answer"]["statusCode"], two["answer"]["statusCode"]] == [202, 202]
    ids = {json.loads(each["answer"]["body"])["session_id"] for each in (one, two)}
    assert len(ids) == 2, "two copies of one snapshot make ids of their own"
    _, asked = aws
    assert asked.count("GetSecretValue") == 2, "a secret is read by each copy, and not before the snapshot"
    assert "TransactWriteItems" in asked


def test_a_turn_runner_that_is_restored_imports_nothing_more(aws: tuple[str, list[str]]) -> None:
    event = {"tenant_id": "acme", "session_id": "ses_" + "A" * 26}
    told = restored("turn", event, aws[0], REPOSITORY)
    assert [each["answer"] for each in told] == [{"outcome": "session_not_found"}] * 2
    assert [new_of(each) for each in told] == [[], []]
    assert len({chance for each in told for chance in each["chance"]}) == 4, "tools may use random"
    _, asked = aws
    assert asked, "the table was asked"
