"""What import-linter cannot see: what is imported when a process starts, and what only once it is needed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import REPOSITORY
from turnkeeper.preflight.manifest import write_manifest

ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'shared' / 'src'}",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "HOME": "/nonexistent",
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


def call(name: str, event: Any, names: list[str], *, root: Path = REPOSITORY) -> Any:
    """What a handler answers in a process of its own, and which of these modules are loaded then."""
    code = CALL.format(name=name, event=event, names=names)
    environment = {**ENVIRONMENT, "LAMBDA_TASK_ROOT": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, cwd="/", capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("module", ["functions.api.handler", "functions.sweep.handler", "functions.observe.handler"])
def test_only_runners_pay_for_importing_the_sdk(module: str) -> None:
    """Its import costs more than everything else together."""
    script = f"import {module}, sys; sys.exit(', '.join({{'anthropic', 'mcp', 'aws_cdk'}} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


#: What answering one of the front door's calls takes no part in.
ONLY_OTHERS_NEED = [
    *("aws_cdk", "boto3", "s3transfer", "anthropic", "mcp", "psycopg", "sqlglot", "httpx2", "genai_prices", "asyncio"),
    *("aws_lambda_powertools", "botocore.session", "botocore.client"),
    *("turnkeeper_local", "turnkeeper_agents", "turnkeeper.bootstrap", "turnkeeper.runtime.engine", "turnkeeper.tools"),
    *(
        "turnkeeper.adapters.injection",
        "turnkeeper.adapters.prices",
        "turnkeeper.evaluation",
        "turnkeeper.core.story.facts",
    ),
    *("turnkeeper.runtime.tracing", "turnkeeper.runtime.scoring", "turnkeeper.runtime.sweep", "functions.api.openapi"),
    *(f"functions.api.{name}" for name in ("agents", "events", "past", "spend")),
    *(f"functions.api.documents.{name}" for name in ("deployed", "events", "money", "past", "problems")),
    *(
        f"turnkeeper.core.{name}"
        for name in ("decide", "deltas", "kit_tools", "projection", "suspicion", "trajectory", "untrusted", "word")
    ),
    *(f"turnkeeper.runtime.{name}" for name in ("store.scores", "store.streams", "waking", "branching", "explaining")),
]


@pytest.fixture(scope="module")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Agents and policy as they lie in a bundle, with a manifest."""
    root = tmp_path_factory.mktemp("bundle")
    for name in ("agents", "policy.toml"):
        (root / name).symlink_to(REPOSITORY / name)
    write_manifest(root, [])
    return root


def test_the_front_door_loads_nothing_that_only_others_need(bundled: Path) -> None:
    event = {"rawPath": "/v1/health", "requestContext": {"http": {"method": "GET"}, "stage": "$default"}}
    told = call("api", event, ONLY_OTHERS_NEED, root=bundled)
    assert told["loaded"] == []
    assert told["answer"]["statusCode"] == 200


def test_the_front_door_begins_without_a_client_of_aws() -> None:
    """Each reads a megabyte about services and regions. The calls that need one make it."""
    code = (
        "import functions.api.handler as h, sys; d = h.front_door(); made = vars(d._kit.platform.aws); "
        "assert 'table_requests' in made; "
        "sys.exit(', '.join({'_session', 'dynamodb', 's3', 'sqs', 'lambda_'} & set(made)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, cwd="/", capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_without_a_manifest_agents_are_asked_themselves() -> None:
    event = {"rawPath": "/v1/health", "requestContext": {"http": {"method": "GET"}, "stage": "$default"}}
    told = call("api", event, ["turnkeeper_agents", "anthropic", "turnkeeper.runtime.engine"])
    assert told["loaded"] == ["turnkeeper_agents"]


def test_the_front_doors_lambda_has_no_server() -> None:
    event = {"rawPath": "/v1/openapi.json", "requestContext": {"http": {"method": "GET"}, "stage": "$default"}}
    told = call("api", event, ["starlette", "uvicorn", "jwt", "cryptography", "functions.api.asgi"])
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


def test_a_kit_without_aws_imports_no_client_of_it(tmp_path: Path) -> None:
    """Nor of another kind of database than its own."""
    script = (
        "import sys; from turnkeeper.bootstrap import Kit; from turnkeeper.settings import Settings; "
        "kit = Kit(Settings.from_environment()); kit.warm(); kit.table.query_all('a'); kit.queue.backlog(); kit.blobs; "
        "kit.alerts; kit.tool_values; kit.tokens; kit.dead_letters.depths(); kit.trace_queue; "
        "import functions.observe.handler; "
        "sys.exit(', '.join({'boto3', 'botocore.session', 'psycopg', 'anthropic'} & set(sys.modules)) or 0)"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ENVIRONMENT["PYTHONPATH"],
        "TURNKEEPER_ROOT": str(REPOSITORY),
        "TURNKEEPER_DATABASE_URL": f"sqlite:///{tmp_path / 'kit.db'}",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_turn_runner_has_the_model_ready() -> None:
    told = call("turn", {"nonsense": 1}, ["anthropic"])
    assert told == {"answer": {"outcome": "invalid"}, "loaded": ["anthropic"]}
