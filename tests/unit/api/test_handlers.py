"""The Lambdas' own handlers: what they import, what they log, and how they end."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from functions.turn.handler import TurnRunner
from tests.support.kit import REPOSITORY, WHO, MemoryKit
from turnkeeper.core.errors import LeaseLost
from turnkeeper.core.session import Head
from turnkeeper.ports import StoreBusy
from turnkeeper.runtime.intake import NewSession

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'shared' / 'src'}",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "LAMBDA_TASK_ROOT": str(REPOSITORY),
    "TURNKEEPER_TABLE": "table",
    "TURNKEEPER_BUCKET": "bucket",
    "TURNKEEPER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/queue",
    "TURNKEEPER_DLQ_URL": "https://sqs.eu-central-1.amazonaws.com/1/dead",
    "TURNKEEPER_SIGNING_SECRET_ID": "signing",
    "TURNKEEPER_IDENTITY": "local",
}
CALL = """
import json, sys
from functions.{name}.handler import handler
class Context:
    def get_remaining_time_in_millis(self): return 29_000
answer = handler({event!r}, Context())
print(json.dumps({{"answer": answer, "loaded": [name for name in {names!r} if name in sys.modules]}}))
"""


def call(name: str, event: Any, names: list[str]) -> Any:
    """What a handler answers in a process of its own, and which of these modules are loaded then."""
    code = CALL.format(name=name, event=event, names=names)
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, cwd="/", capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_the_front_door_never_imports_the_model() -> None:
    event = {"rawPath": "/v1/health", "requestContext": {"http": {"method": "GET"}, "stage": "$default"}}
    told = call("api", event, ["anthropic", "mcp", "psycopg", "aws_cdk", "local", "turnkeeper.adapters.injection"])
    assert told["loaded"] == []
    assert told["answer"]["statusCode"] == 200


def test_importing_the_front_door_imports_no_http_client() -> None:
    """Only the prices bring one along, once they are asked for."""
    code = "import sys, functions.api.handler; print([n for n in ('anthropic', 'httpx2') if n in sys.modules])"
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "AWS_LAMBDA_FUNCTION_NAME"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_turn_runner_has_the_model_ready() -> None:
    told = call("turn", {"nonsense": 1}, ["anthropic"])
    assert told == {"answer": {"outcome": "invalid"}, "loaded": ["anthropic"]}


# ---- the turn runner ----


def created(kit: MemoryKit, agent: str = "plain") -> tuple[Head, dict[str, Any]]:
    head = kit.intake.create(WHO, NewSession(agent=agent, input="[[say hello]]", metadata={}))
    return head, {"tenant_id": head.tenant_id, "session_id": head.session_id}


def test_an_event_runs_its_session() -> None:
    kit = MemoryKit(runner="none")
    _, event = created(kit)
    assert TurnRunner(kit).run(event, 900.0) == {"outcome": "ran", "status": "idle"}
    assert TurnRunner(kit).run(event, 900.0) == {"outcome": "session_ended"}


def test_an_event_for_a_session_that_another_runner_has() -> None:
    kit = MemoryKit(runner="none")
    head, event = created(kit)
    kit.sessions.claim(head.tenant_id, head.session_id, "another", "fargate")
    assert TurnRunner(kit).run(event, 900.0) == {"outcome": "session_busy"}


@pytest.mark.parametrize("event", [{}, {"tenant_id": "acme"}, {"tenant_id": 1, "session_id": []}])
def test_an_event_that_is_none(event: dict[str, Any]) -> None:
    assert TurnRunner(MemoryKit(runner="none")).run(event, 900.0) == {"outcome": "invalid"}


def test_a_session_that_is_not_there() -> None:
    event = {"tenant_id": "acme", "session_id": "ses_x"}
    assert TurnRunner(MemoryKit(runner="none")).run(event, 900.0) == {"outcome": "session_not_found"}


@pytest.mark.parametrize(
    ("settings", "left", "turn_seconds"),
    [(840, 900, 840), (840, 60, 45), (5, 900, 5), (840, 10, 0)],
)
def test_the_time_is_that_of_the_settings_and_never_more_than_there_is(
    settings: float, left: float, turn_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = MemoryKit(runner="none", turn_seconds=settings)
    head, event = created(kit)
    given: list[Any] = []
    monkeypatch.setattr(kit.engine, "run", lambda *arguments: given.append(arguments[2]) or head)
    TurnRunner(kit).run(event, left)
    assert (given[0].runner, given[0].turn_seconds, given[0].hard_seconds) == ("lambda", turn_seconds, left)


def test_without_time_it_hands_off() -> None:
    kit = MemoryKit(runner="none")
    _, event = created(kit)
    assert TurnRunner(kit).run(event, 10.0) == {"outcome": "ran", "status": "queued"}
    assert kit.work() == 1


def test_a_lost_lease_is_no_failure_and_a_busy_table_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kit = MemoryKit(runner="none")
    _, event = created(kit)

    def raises(error: Exception) -> Any:
        def run(*_: Any) -> Any:
            raise error

        return run

    monkeypatch.setattr(kit.engine, "run", raises(LeaseLost("gone")))
    assert TurnRunner(kit).run(event, 900.0) == {"outcome": "lease_lost"}
    monkeypatch.setattr(kit.engine, "run", raises(StoreBusy("busy")))
    with pytest.raises(StoreBusy):
        TurnRunner(kit).run(event, 900.0)
