"""What the kit relies on of the Claude Agent SDK and its program, tried on the very version that is pinned.

A new pin has not been probed: run `make sdk` and `pytest tests/contract/agent_sdk`, and look at what is different,
before `PROBED` is changed with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from tests.support.repository import REPOSITORY
from turnkeeper.gateway import asking
from turnkeeper.sdk.log import SessionLog
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper_local.standin.model import StandIn
from turnkeeper_local.standin.scenario import load
from turnkeeper_local.standin.server import make_app
from turnkeeper_local.standin.serving import serving

PROBED = "0.2.189"

SCENARIO = {
    "rules": [
        {"user": "run it", "answers": ['[[tool Bash {"command": "echo ran > effect"}]]', "[[say Done.]]"]},
        {"user": "", "answers": "[[say Hello.]]"},
    ]
}


def test_what_is_pinned_was_probed() -> None:
    assert f"claude-agent-sdk=={PROBED}" in (REPOSITORY / "requirements" / "agent-sdk.in").read_text()
    assert f"claude-agent-sdk=={PROBED}" in (REPOSITORY / "requirements" / "agent-sdk.txt").read_text()
    assert f'"claude-agent-sdk=={PROBED}"' in (REPOSITORY / "pyproject.toml").read_text()


@dataclass
class Provider:
    """The stand-in, with a record of what it was asked; or refusals in its place."""

    app: Any
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    refuse: int | None = None
    url: str = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        body = await request.body()
        target = f"{request.method} {request.url.path}?{request.url.query}"
        self.asked.append((target, dict(request.headers), body))
        if self.refuse is not None:
            error = {"type": "billing_error", "message": "the task cap is used up"}
            headers = {"x-should-retry": "false"}
            refusal = JSONResponse({"type": "error", "error": error}, self.refuse, headers=headers)
            await refusal(scope, receive, send)
            return

        async def again() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, again, send)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    file = tmp_path / "scenario.yaml"
    file.write_text(yaml.safe_dump(SCENARIO))
    provider = Provider(make_app(StandIn(load(file))))
    with serving(provider) as provider.url:
        yield provider


@dataclass
class Ran:
    messages: list[Any] = field(default_factory=list)
    error: BaseException | None = None

    @property
    def result(self) -> Any:
        return next(each for each in reversed(self.messages) if type(each).__name__ == "ResultMessage")


def run(provider: Provider, folder: Path, prompt: str, **more: Any) -> Ran:
    sdk = pytest.importorskip("claude_agent_sdk")
    work, home = folder / "work", folder / "home"
    for each in (work, home):
        each.mkdir(exist_ok=True)
    options = sdk.ClaudeAgentOptions(
        **{
            "model": "claude-sonnet-5-5",
            "system_prompt": "You are probed.",
            "tools": ["Bash"],
            "allowed_tools": ["Bash"],
            "permission_mode": "dontAsk",
            "setting_sources": [],
            "cwd": str(work),
            "env": {
                **dict.fromkeys(os.environ.keys() - {"PATH", "LANG"}, ""),
                "HOME": str(home),
                "CLAUDE_CONFIG_DIR": str(home / ".claude"),
                "ANTHROPIC_BASE_URL": provider.url,
                "ANTHROPIC_AUTH_TOKEN": "the token",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
                "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "4096",
            },
        }
        | more
    )
    ran = Ran()

    async def go() -> None:
        try:
            async with contextlib.aclosing(sdk.query(prompt=prompt, options=options)) as messages:
                async for message in messages:
                    ran.messages.append(message)
        except sdk.ClaudeSDKError as error:
            ran.error = error

    asyncio.run(asyncio.wait_for(go(), 120))
    return ran


pytestmark = pytest.mark.timeout(300)
nightly = pytest.mark.nightly


@nightly
def test_it_asks_for_messages_only_with_the_token_and_nothing_that_the_gateway_does_not_know(
    provider: Provider, tmp_path: Path
) -> None:
    ran = run(provider, tmp_path, "run it")
    assert ran.error is None
    assert (tmp_path / "work" / "effect").read_text() == "ran\n"
    assert {target for target, _, _ in provider.asked} == {"POST /v1/messages?beta=true"}
    assert len(provider.asked) == 2, "the stand-in takes what it sends: nothing is sent again"
    for _, headers, body in provider.asked:
        assert headers["authorization"] == "Bearer the token"
        assert json.loads(body)["max_tokens"] == 4096
        asked = asking.read(body, headers, "beta=true")
        sent = {beta.strip() for beta in headers["anthropic-beta"].split(",")}
        assert sent == set(asked.betas), "a beta that is left out would leave its fields behind"


@nightly
def test_a_402_is_asked_once_and_told_as_one(provider: Provider, tmp_path: Path) -> None:
    provider.refuse = 402
    ran = run(provider, tmp_path, "hello")
    assert len(provider.asked) == 1
    assert ran.error is not None
    assert ran.result.is_error
    assert ran.result.api_error_status == 402
    assert "the task cap is used up" in ran.result.result


@nightly
@pytest.mark.parametrize(("on_failure", "runs"), [(None, True), ("block", False)])
def test_a_hook_that_raises_blocks_only_where_it_is_said(
    provider: Provider, tmp_path: Path, on_failure: Any, runs: bool
) -> None:
    sdk = pytest.importorskip("claude_agent_sdk")

    async def broken(*_: Any) -> dict[str, Any]:
        raise RuntimeError("broken")

    hooks = {"PreToolUse": [sdk.HookMatcher(hooks=[broken], on_failure=on_failure)]}
    run(provider, tmp_path, "run it", hooks=hooks)
    assert (tmp_path / "work" / "effect").exists() == runs


@nightly
def test_an_eager_log_has_the_call_while_a_hook_waits_for_it_and_a_resume_knows_it(
    provider: Provider, tmp_path: Path
) -> None:
    sdk = pytest.importorskip("claude_agent_sdk")
    table, blobs = MemoryTable(), MemoryBlobs()
    log = SessionLog(table, blobs, "acme", "ses_1", project="program")
    seen: list[bool] = []

    async def waits(_data: Any, tool_use_id: str, _context: Any) -> dict[str, Any]:
        until = time.monotonic() + 10
        while tool_use_id not in log.calls and time.monotonic() < until:
            await asyncio.sleep(0.01)
        seen.append(tool_use_id in log.calls)
        return {}

    session = "11111111-1111-4111-8111-111111111111"
    hooks = {"PreToolUse": [sdk.HookMatcher(hooks=[waits], timeout=30)]}
    common = {"hooks": hooks, "session_store_flush": "eager"}
    run(provider, tmp_path, "run it", session_store=log, session_id=session, **common)
    assert seen == [True]
    other = SessionLog(table, blobs, "acme", "ses_1", project="program")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    run(provider, elsewhere, "hello", session_store=other, resume=session, **common)
    messages = json.loads(provider.asked[-1][2])["messages"]
    assert "run it" in json.dumps(messages)
    assert "tool_result" in json.dumps(messages)


@nightly
def test_a_tool_that_is_not_listed_is_not_shown_and_not_run(provider: Provider, tmp_path: Path) -> None:
    run(provider, tmp_path, "run it", tools=[], allowed_tools=[], disallowed_tools=["Bash"])
    assert not (tmp_path / "work" / "effect").exists()
    assert "Bash" not in {tool["name"] for tool in json.loads(provider.asked[0][2]).get("tools", [])}


@nightly
def test_settings_of_the_folder_are_not_read_where_no_source_is_named(provider: Provider, tmp_path: Path) -> None:
    settings = tmp_path / "work" / ".claude" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"env": {"ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}}))
    ran = run(provider, tmp_path, "hello")
    assert ran.error is None
    assert provider.asked
