"""The command line against an API of the test's own, and against a kit whose table is in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.kit import MemoryKit
from tests.unit.cli.fake_api import FakeApi
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper_local.cli import operator as operating
from turnkeeper_local.cli.main import app
from turnkeeper_local.cli.operator import Operator


@dataclass
class Result:
    exit_code: int
    stdout: str
    stderr: str

    @property
    def document(self) -> Any:
        """The one JSON document of standard output."""
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.stdout.splitlines()]


class Cli:
    def __call__(self, *arguments: str, input: str | None = None) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=input, env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Result(result.exit_code, result.stdout, result.stderr)


@pytest.fixture
def cli() -> Cli:
    return Cli()


@pytest.fixture
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder without a kit."""
    monkeypatch.setenv("TURNKEEPER_HOME", str(tmp_path))
    monkeypatch.delenv("TURNKEEPER_STACK", raising=False)
    return tmp_path


@pytest.fixture
def api(state_folder: Path) -> Iterator[FakeApi]:
    """A local kit that is up, as far as the command line can tell."""
    with FakeApi() as fake:
        document = {
            "api_url": fake.url,
            "queue_url": "http://127.0.0.1:1/queue",
            "dlq_url": "http://127.0.0.1:1/dlq",
            "table_name": "table",
            "region": "us-east-1",
            "aws_endpoint_url": "http://127.0.0.1:1",
            "model_url": "http://127.0.0.1:1",
            "worker_pid": 1,
            "console_url": None,
        }
        (state_folder / "local.json").write_text(json.dumps(document))
        yield fake


def new_session(kit: MemoryKit, *, tenant: str = "local", user: str = "dev", session_id: str = "ses_1") -> str:
    """A session as the local kit's own user begins one: its id."""
    who = Identity(tenant, user, "admin")
    return kit.intake.create(who, NewSession("plain", "hello", {}), session_id=session_id).session_id


@pytest.fixture
def kit(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> MemoryKit:
    """What the operator's commands work on."""
    kit = MemoryKit(runner="none")
    monkeypatch.setattr(operating, "connect", lambda _: Operator(kit, lambda: "operator:test"))
    return kit
