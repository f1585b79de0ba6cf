"""Secrets come in by every door, and are in none of what is kept or shown beside the conversation itself.

The secrets are none: they are put together here, so that they stand in no file.
"""

from __future__ import annotations

import io
import json
import os
import random
import string
import subprocess
import sys
from typing import Any

import pytest

from fargate_worker.holding import Holding
from fargate_worker.reading import Reader, Rejected
from functions.api.app import FrontDoor
from functions.observe.alerting import Alerting
from functions.observe.metering import samples_of
from functions.observe.records import Changed
from tests.support.http import Caller
from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import begin, failure, reply, say, scripted_kit, use
from turnkeeper import Agent, ToolContext, ToolDenied, ToolError, tool
from turnkeeper.adapters.emf import Emf
from turnkeeper.adapters.secrets import EnvironmentKey, SecretsManagerKey
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import ProviderError
from turnkeeper.ports import Message
from turnkeeper.runtime.store import keys
from turnkeeper.settings import Settings

_random = random.Random(7)


def signs(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "a1B" + "".join(_random.choice(alphabet) for _ in range(count - 3))


def corpus() -> dict[str, str]:
    key = signs(64)
    return {
        "anthropic": "sk-" + "ant-api03-" + signs(40),
        "openai": "sk-" + "proj-" + signs(40),
        "github": "ghp" + "_" + signs(36),
        "gitlab": "glpat" + "-" + signs(20),
        "slack": "xoxb" + "-" + "123456789012-" + signs(24),
        "stripe": "sk" + "_live_" + signs(24),
        "google": "AIza" + signs(35),
        "aws": "AKIA" + signs(16, string.ascii_uppercase + string.digits).upper(),
        "jwt": "eyJ" + signs(20) + ".eyJ" + signs(30) + "." + signs(30),
        "card": "4111" + "1111" * 2 + "1111",
        "private key": "-----BEGIN " + "PRIVATE KEY-----\n" + key + "\n-----END " + "PRIVATE KEY-----",
        "connection": "postgres" + "://app:" + signs(12) + "@db.internal/app",
        "npm": "npm" + "_" + signs(36),
        "bearer": "Authorization: " + "Bearer " + signs(40),
        "assignment": "password" + "=" + signs(14),
    }


SECRETS = corpus()


def parts(secret: str) -> list[str]:
    """What must not be seen of it: it, and what is secret in it."""
    match secret.split("\n"):
        case [_, middle, _]:
            return [middle]
    if "://app:" in secret:
        return [secret.split(":")[2].partition("@")[0]]
    return [secret.rpartition(" ")[2].rpartition("=")[2]]


SECRET_PARTS = {name: parts(secret)[0] for name, secret in SECRETS.items()}


def clean(text: str) -> None:
    seen = [name for name, part in SECRET_PARTS.items() if part in text]
    assert not seen, f"{seen} in {len(text)} characters"


def audited(kit: MemoryKit, session_id: str) -> str:
    return json.dumps(kit.sessions.audit("acme", session_id), default=str, ensure_ascii=False)


# ---- tools ----


@pytest.mark.parametrize("how", ["result", "ToolError", "ToolDenied", "RuntimeError", "cause", "log", "repr"])
@pytest.mark.parametrize("name", SECRETS)
def test_arguments_results_and_errors_of_tools(name: str, how: str, logged: io.StringIO) -> None:
    secret = SECRETS[name]

    class Bad(Exception):
        def __repr__(self) -> str:
            return secret

    @tool(effect="once", secret_arguments={"pin"})
    def act(ctx: ToolContext, text: str, pin: str = "") -> str:
        """Act."""
        ctx.logger.info("called with %s", text, extra={"what": {"text": text}})
        match how:
            case "ToolError":
                raise ToolError(f"no: {text}")
            case "ToolDenied":
                raise ToolDenied(f"no: {text}")
            case "RuntimeError":
                raise RuntimeError(f"no: {text} {pin}")
            case "cause":
                try:
                    raise ValueError(text)
                except ValueError as error:
                    raise KeyError(pin) from error
            case "log":
                ctx.logger.error("no: %r", {"text": text}, exc_info=ValueError(text))
            case "repr":
                raise Bad(text)
        return f"done with {text}"

    kit = scripted_kit(reply(use("act", text=secret, pin="0-8-1-5-pin")), reply(say("ok")), tools=[act])
    head = kit.run(begin(kit))
    assert head.status == "idle"
    clean(audited(kit, head.session_id))
    clean(logged.getvalue())
    assert "0-8-1-5-pin" not in audited(kit, head.session_id) + logged.getvalue()
    assert "tool_call" in audited(kit, head.session_id)


@pytest.mark.parametrize("name", SECRETS)
def test_a_provider_that_quotes_a_secret(name: str, logged: io.StringIO, ann: Caller) -> None:
    kit = scripted_kit(*[failure(400, retryable=False) for _ in range(2)], tools=[])
    kit.model.add([ProviderError(f"bad: {SECRETS[name]}", retryable=False, certainty="unbilled")])  # type: ignore[attr-defined]
    head = kit.run(begin(kit))
    assert head.stop is not None
    assert head.stop.reason == "provider_error"
    clean(json.dumps(head.stop.model_dump()))
    clean(json.dumps(kit.sessions.calls("acme", head.session_id), default=str))
    clean(audited(kit, head.session_id) + logged.getvalue())
    # And what on-call is told of it.
    alerting = Alerting(kit.alerts, kit.blobs)
    for item in kit.table.snapshot():
        if item["sk"].startswith("ENTRY#"):
            alerting.see(Changed("acme", head.session_id, item["sk"], None, item))
    clean(str(kit.alerts.alerts if hasattr(kit.alerts, "alerts") else vars(kit.alerts)))


def test_repeated_calls_with_secrets_stop_without_them(logged: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    @tool
    def look(token: str, text: str) -> str:
        """Look."""
        return "same"

    secret, plain = SECRETS["github"], SECRETS["stripe"]
    same = [reply(use("look", token=secret, text=plain)) for _ in range(6)]
    kit = scripted_kit(*same, tools=[look])
    seen: list[Changed] = []
    head = kit.run(begin(kit))
    assert head.stop is not None
    assert head.stop.reason == "repetition"
    clean(json.dumps(head.stop.model_dump(), default=str))
    emf = Emf()
    for item in kit.table.snapshot():
        owner = keys.session_of_pk(item["pk"])
        if owner is not None:
            seen.append(Changed(*owner, item["sk"], None, item))
            emf.add(samples_of(seen[-1]))
            Alerting(kit.alerts, kit.blobs).see(seen[-1])
    emf.flush()
    clean(capsys.readouterr().out + logged.getvalue() + str(vars(kit.alerts)))


# ---- the front door and the queue ----


@pytest.mark.parametrize("name", SECRETS)
def test_requests_that_carry_secrets(name: str, ann: Caller, kit: MemoryKit, logged: io.StringIO) -> None:
    secret = SECRETS[name]
    header = secret.replace("\n", " ")
    for answer in (
        ann.call("GET", "/v1/sessions", headers={"authorization": header, "cookie": f"a={header}"}),
        ann.call("POST", "/v1/sessions", text=secret),
        ann.call("POST", "/v1/sessions", text=json.dumps({"agent": "plain", "input": {"api_key": secret}})),
        ann.call("POST", "/v1/sessions", text=json.dumps({"agent": "plain", "inputs": secret})),
        ann.post("/v1/continue", {"continuation_token": secret}),
        ann.call("POST", "/v1/continue", binary=secret.encode()),
        ann.post("/v1/sessions", {"agent": "plain", "input": "x"}, key=header[:128]),
    ):
        if answer.status >= 400:
            clean(answer.body)
    clean(logged.getvalue())


def test_an_error_of_ours_that_quotes_one(
    ann: Caller, kit: MemoryKit, logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    for secret in SECRETS.values():

        def broken(*_: Any, _secret: str = secret, **__: Any) -> Any:
            try:
                raise ValueError(f"cannot use {_secret}")
            except ValueError as error:
                error.add_note(f"note {_secret}")
                raise RuntimeError({"key": _secret}) from error

        monkeypatch.setattr(kit.sessions, "head", broken)
        answer = ann.get("/v1/sessions/ses_" + "0" * 26)
        answer.problem(500, "internal_error")
        clean(answer.body)
    assert "a call failed" in logged.getvalue()
    clean(logged.getvalue())


def test_jobs_that_carry_secrets(kit: MemoryKit, logged: io.StringIO) -> None:
    reader = Reader(kit.intake, kit.tokens)
    holding = Holding(kit.queue, kit.clock, lease_seconds=60, fresh_body=lambda _: "")
    for secret in SECRETS.values():
        for more in ({"agent": secret}, {"role": [secret]}, {"extra": secret}, {"schema": secret}, {"tenant_id": ""}):
            body = {"schema": "turnkeeper.job/v1", "job_id": "j", "tenant_id": "acme", "user_id": "u", "agent": "plain"}
            message = Message("m", "r", json.dumps({**body, "input": secret, **more}), 1, None)
            with pytest.raises(Rejected) as rejected:
                reader.read(message)
            if "agent" not in more:
                clean(str(rejected.value))
            held = holding.take(message)
            holding.reject(held, rejected.value.error_code, rejected.value.detail)
    clean(logged.getvalue())


# ---- the kit's own ----


class Vault:
    def __init__(self, key: str) -> None:
        self.key = key

    def get_secret_value(self, SecretId: str) -> dict[str, str]:
        return {"SecretString": json.dumps({"api_key": self.key})}


def test_a_key_of_the_secret_store_is_in_no_environment_and_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    key = SECRETS["anthropic"]
    source = SecretsManagerKey("arn:secret", Vault(key))
    assert source() == key
    assert key not in repr(source) + str(source)
    assert key not in json.dumps(dict(os.environ))
    settings = Settings.model_validate({"table": "t", "model_secret_id": "arn:secret"})
    kit = Kit(settings)
    assert isinstance(kit._model_key(), SecretsManagerKey)
    assert key not in repr(settings)
    assert isinstance(Kit(Settings.model_validate({"table": "t"}))._model_key(), EnvironmentKey)


def test_the_sdk_is_given_the_key_and_puts_it_nowhere() -> None:
    """In a process of its own: what a tool finds there in the environment, once the model's client is made."""
    key = SECRETS["anthropic"]
    code = (
        "import os, sys, json\n"
        "from turnkeeper.adapters.anthropic_model import AnthropicModel\n"
        "class Key:\n"
        "    def __call__(self): return sys.stdin.readline().strip()\n"
        "    def refresh(self): return self()\n"
        "model = AnthropicModel(Key(), 'http://127.0.0.1:9', 'anthropic')\n"
        "model.warm()\n"
        "print(json.dumps(dict(os.environ)), repr(model))\n"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], input=key + "\n", env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert key not in done.stdout + done.stderr


def test_a_tools_context_leads_to_no_credential() -> None:
    key, found = SECRETS["anthropic"], []

    @tool
    def look(ctx: ToolContext) -> str:
        """Look around."""
        seen: set[int] = set()
        left: list[Any] = [ctx]
        while left and len(seen) < 20_000:
            one = left.pop()
            if id(one) in seen or isinstance(one, type(os)):
                continue
            seen.add(id(one))
            if isinstance(one, str):
                found.extend([one] if key in one or kit.signing_keys[0] in one else [])
            elif isinstance(one, dict):
                left += [*one.keys(), *one.values()]
            elif isinstance(one, list | tuple | set | frozenset):
                left += list(one)
            else:
                left += [getattr(one, name, None) for name in getattr(type(one), "__slots__", ())]
                left += list(getattr(one, "__dict__", {}).values())
        return f"{len(seen)} things"

    kit = scripted_kit(
        reply(use("look")), reply(say("ok")), agents=[Agent(name="a", model=MODEL, system="s", tools=[look])]
    )
    kit.model.key = SecretsManagerKey("arn:secret", Vault(key))  # type: ignore[attr-defined]
    kit.model.key()  # type: ignore[attr-defined]
    head = kit.run(begin(kit, "a"))
    assert head.status == "idle"
    assert found == []


def test_neither_key_is_in_the_table(ann: Caller, kit: MemoryKit) -> None:
    ann.post("/v1/sessions", {"agent": "plain", "input": "hi"}).ok()
    stored = str(kit.table.snapshot())
    assert kit.signing_keys[0] not in stored
    assert "ANTHROPIC" not in stored


def test_health_and_openapi_say_nothing_of_the_kit(kit: MemoryKit) -> None:
    nobody = Caller(FrontDoor(kit), tenant=None, user=None, role=None)
    for path in ("/v1/health", "/v1/openapi.json"):
        body = nobody.get(path).body
        for word in ("arn:", kit.signing_keys[0], str(kit.settings.root), "memory-table"):
            assert word not in body
