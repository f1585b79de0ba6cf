"""A kit wired as each of its processes wires it: by ``turnkeeper.bootstrap``, from an environment and a folder on disk.

Nothing leaves the process: clients of AWS note what they are asked, and the model's SDK what it would send.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from unittest import mock

import anthropic
import httpx2
import requests

from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import ProviderError
from turnkeeper.core.spans import Span, Trace
from turnkeeper.ports import ModelRequest
from turnkeeper.settings import PREFIX, Settings
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_table import MemoryTable

POLICY = """
default_plan = "free"

[plans.free]
task_usd = "1.00"
user_daily_usd = "2.00"
user_monthly_usd = "3.00"
tenant_monthly_usd = "4.00"
"""

AGENT = """
from turnkeeper import Agent, tool

@tool(effect="read", scopes={{"shop:read"}})
def look() -> str:
    "Look around."
    return "All is there."

@tool(effect="once", scopes={{"shop:write"}})
def buy() -> str:
    "Buy something."
    return "Bought."

agent = Agent(name="{name}", model="{model}", system="You sell.", tools=[look, buy], placement="background")
"""


NEEDED = {
    "root": "{root}",
    "table": "a-table",
    "bucket": "a-bucket",
    "queue_url": "https://queue.example",
    "dlq_url": "https://dead.example",
    "signing_secret_id": "signing",
}


@dataclass
class Client:
    """A client of one AWS service: notes each call's arguments, and answers with what ``answer`` makes of them."""

    answer: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {}
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __getattr__(self, method: str) -> Callable[..., dict[str, Any]]:
        if method.startswith("_"):
            raise AttributeError(method)

        def call(**arguments: Any) -> dict[str, Any]:
            self.calls.append(arguments)
            return self.answer(arguments)

        return call


def _secret(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Secrets whose text tells which one was read: one that holds a model's key, another that holds signing keys."""
    name = arguments["SecretId"]
    return {"SecretString": f'{{"api_key": "key of {name}", "current": "current of {name}"}}'}


class Process:
    """One process of the kit, with these variables in its environment."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.kit = Kit(Settings.from_environment(self.environment))
        self.secrets = Client(_secret)
        self.aws: dict[str, Client] = {name: Client() for name in ("dynamodb", "s3", "sqs", "sns", "lambda_", "ecs")}
        self.aws["lambda_"].answer = lambda _: {"Payload": BytesIO()}
        vars(self.kit.platform.aws).update(
            {**self.aws, "table_requests": self.aws["dynamodb"], "secretsmanager": self.secrets}
        )

    def in_memory(self) -> MemoryTable:
        """Give the kit a table and a store that work; the table."""
        table = MemoryTable()
        vars(self.kit).update(table=table, blobs=MemoryBlobs())
        return table

    def model_request(self) -> httpx2.Request:
        """What the SDK would send for a call of the model, and where to."""
        sent: list[httpx2.Request] = []

        def refuse(request: httpx2.Request) -> httpx2.Response:
            sent.append(request)
            return httpx2.Response(400, json={"error": {"type": "invalid_request_error", "message": "no"}})

        client = httpx2.Client(transport=httpx2.MockTransport(refuse))
        request = ModelRequest("claude-sonnet-5-5", 1, [], [], [{"role": "user", "content": "hello"}])
        with mock.patch.object(anthropic, "DefaultHttpxClient", lambda: client), suppress(ProviderError):
            self.kit.model.call(request, timeout_seconds=5)
        return sent[0]

    def trace_request(self) -> requests.PreparedRequest:
        """What would be sent of a trace, and where to."""
        sent: list[requests.PreparedRequest] = []

        def take(_: object, request: requests.PreparedRequest, **_options: object) -> requests.Response:
            sent.append(request)
            answer = requests.Response()
            answer.status_code = 200
            return answer

        root = Span(name="invoke_agent a", span_id="b" * 16, parent_id=None, start_ns=1, end_ns=2)
        with mock.patch.object(requests.adapters.HTTPAdapter, "send", take):
            self.kit.trace_receiver.send(Trace(trace_id="a" * 32, sampled=True, spans=(root,)))
        return sent[0]


@dataclass(frozen=True)
class Folder:
    """What is deployed: ``policy.toml`` and agents."""

    root: Path

    def policy(self, text: str) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "policy.toml").write_text(text)

    def agent(self, name: str, *, model: str = "claude-sonnet-5-5", folder: str = "agents") -> None:
        """An agent of this name, with a tool that reads and one that writes, that runs on the worker."""
        path = self.root / folder / name
        path.mkdir(parents=True)
        (path / "agent.py").write_text(AGENT.format(name=name, model=model))

    def process(self, **settings: str) -> Process:
        """A process with these settings, and with those that nearly every process needs; ``{root}`` in a value stands
        for this folder."""
        values = {**NEEDED, **settings}
        return Process({f"{PREFIX}{name.upper()}": value.format(root=self.root) for name, value in values.items()})
