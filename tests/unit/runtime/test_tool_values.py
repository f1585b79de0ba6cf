"""Secrets and settings of tools: an agent is given what it declares, and a secret goes no further than its tool."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import play, reply, results, scripted_kit, use
from turnkeeper import Agent, Tool, ToolContext, ToolDenied, ToolError, tool
from turnkeeper.adapters.known_secrets import MIN_SECRET_CHARS
from turnkeeper.adapters.redaction import RedactingFilter
from turnkeeper.core.errors import MissingValue, UndeclaredValue, ValueOutOfReach
from turnkeeper.core.session import Head
from turnkeeper.runtime.tool_values import DeclaredValues, missing_values
from turnkeeper.testing.tool_values import MemoryValues

Shows = Callable[[ToolContext, str], Any]


def agent_with(*tools: Tool, **more: Any) -> Agent:
    return Agent(name="scripted", model=MODEL, system="You act.", tools=tools, **more)


def kit_of(*tools: Tool, values: MemoryValues, **more: Any) -> MemoryKit:
    kit = scripted_kit(*(reply(use(each.name)) for each in tools), agents=[agent_with(*tools, **more)])
    vars(kit)["tool_values"] = values
    return kit


def told(kit: MemoryKit, head: Head) -> str:
    [(_, _, text)] = results(kit, head)
    return text


def test_a_tool_is_given_what_its_agent_declares() -> None:
    seen: list[str] = []

    @tool
    def sync(ctx: ToolContext) -> str:
        """Sync."""
        seen.extend([ctx.secret("crm"), ctx.secret("db", "password"), ctx.setting("crm_url")])
        return "done"

    values = MemoryValues({"crm": "k-one-two", "db": '{"password": "pass-word"}'}, {"crm_url": "https://crm.example"})
    play(kit_of(sync, values=values, secrets=["crm", "db"], settings=["crm_url"]))
    assert seen == ["k-one-two", "pass-word", "https://crm.example"]


@pytest.mark.parametrize("ask", [lambda ctx: ctx.secret("crm"), lambda ctx: ctx.setting("crm")])
def test_what_is_not_declared_is_told_to_the_author_and_not_to_the_model(
    ask: Callable[[ToolContext], str], caplog: pytest.LogCaptureFixture
) -> None:
    @tool
    def sync(ctx: ToolContext) -> str:
        """Sync."""
        return ask(ctx)

    kit = kit_of(sync, values=MemoryValues({"crm": "k-one-two"}, {"crm": "x"}), secrets=["other"], settings=["other"])
    assert told(kit, play(kit)) == "The tool cannot be used now. Its operator sees why in the logs."
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "does not declare the" in line
    assert "'other', 'crm'" in line


def test_what_cannot_be_read_now_may_be_tried_again() -> None:
    class Away(MemoryValues):
        def secret(self, name: str, key: str | None = None, /) -> str:
            raise ValueOutOfReach(f"secret {name} cannot be read now")

    @tool
    def sync(ctx: ToolContext) -> str:
        """Sync."""
        return ctx.secret("crm")

    kit = kit_of(sync, values=Away(), secrets=["crm"])
    assert told(kit, play(kit)) == "The tool cannot be used now. Try again later."


def test_a_context_made_by_hand_has_none() -> None:
    ctx = ToolContext("s", "t", "u", "id", "key", datetime(2026, 1, 1, tzinfo=UTC), logging.getLogger())
    for ask in (ctx.secret, ctx.setting):
        with pytest.raises(MissingValue, match="made without 'crm'"):
            ask("crm")
    assert "k-one-two" not in repr(
        ToolContext("s", "t", "u", "id", "k", ctx.deadline, ctx.logger, MemoryValues({"crm": "k-one-two"}))
    )


def test_an_agent_sees_no_secret_of_another() -> None:
    values = MemoryValues({"crm": "k-one-two"})
    assert DeclaredValues(agent_with(secrets=["crm"]), values).secret("crm") == "k-one-two"
    with pytest.raises(UndeclaredValue, match=r"secrets=\['crm'\]"):
        DeclaredValues(agent_with(settings=["crm"]), values).secret("crm")


def test_what_is_missing_is_named() -> None:
    agents = [agent_with(secrets=["crm", "db"], settings=["url"])]
    assert missing_values(agents, {"crm"}, {"crm"}) == [("secret", "db"), ("setting", "url")]
    assert missing_values(agents, {"crm", "db", "more"}, {"url"}) == []


@pytest.mark.parametrize("names", ["crm", ["CRM"], ["a b"], [""], ["crm", "crm"], [1]])
def test_names_are_checked(names: Any) -> None:
    for kind in ("secrets", "settings"):
        with pytest.raises(ValueError, match=kind):
            agent_with(**{kind: names})


# ---- a secret goes no further ----


def _raises(kind: type[Exception]) -> Shows:
    def show(_: ToolContext, secret: str) -> Any:
        raise kind(f"401 for key {secret}, sorry")

    return show


def _chained(_: ToolContext, secret: str) -> Any:
    try:
        raise LookupError(secret)
    except LookupError as error:
        raise RuntimeError("outer") from error


def _logged(ctx: ToolContext, secret: str) -> Any:
    ctx.logger.warning("key %s", secret)
    ctx.logger.error("failed", extra={"key_used": secret})
    logging.getLogger("turnkeeper_agents.crm").warning("with %r", {"header": ["Bearer " + secret]})
    return "ok"


#: Every way in which a tool gives away what it was given.
WAYS: Mapping[str, Shows] = {
    "returned": lambda _, secret: secret,
    "in a sentence": lambda _, secret: f"the key is <{secret}>.",
    "in a dict": lambda _, secret: {"a": [{"b": secret}], secret: 1},
    "in json": lambda _, secret: json.dumps({"a": secret}),
    "in json in json": lambda _, secret: {"body": json.dumps({"a": json.dumps([secret])})},
    "in blocks": lambda _, secret: [{"type": "text", "text": f"x{secret}"}],
    "in a document": lambda _, secret: [
        {"type": "document", "title": secret, "source": {"type": "text", "media_type": "text/plain", "data": secret}}
    ],
    "in bytes": lambda _, secret: repr(secret.encode()),
    "in a ToolError": _raises(ToolError),
    "in a ToolDenied": _raises(ToolDenied),
    "in another error": _raises(ValueError),
    "in a cause": _chained,
    "in the log": _logged,
    "in base64": lambda _, secret: base64.b64encode(secret.encode()).decode(),
    "in a login": lambda _, secret: {"sent": "Basic " + base64.b64encode(f"bot:{secret}".encode()).decode()},
    "in hexadecimal": lambda _, secret: secret.encode().hex(),
}

#: Begins as no id, hash or date does, of which a session is full.
_SECRETS = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FFF, exclude_categories=("Cs", "Cn", "Co", "Zs", "Zl", "Zp")),
    min_size=MIN_SECRET_CHARS - 4,
    max_size=40,
).map(lambda text: f"Zq~x{text}y")


@pytest.mark.parametrize("way", WAYS)
@given(secret=_SECRETS, untrusted=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_secret_is_in_no_result_record_or_line_of_the_log(way: str, secret: str, untrusted: bool) -> None:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.addFilter(RedactingFilter())
    loggers = [logging.getLogger(name) for name in ("turnkeeper", "turnkeeper_agents")]

    @tool(name="leak", untrusted=untrusted)
    def leak(ctx: ToolContext) -> Any:
        """Leak."""
        return WAYS[way](ctx, ctx.secret("crm"))

    kit = kit_of(leak, values=MemoryValues({"crm": secret}), secrets=["crm"])
    for logger in loggers:
        logger.addHandler(handler)
    try:
        head = play(kit)
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        base64.b64encode(secret.encode()).decode(),
        base64.b64encode(f"bot:{secret}".encode()).decode(),
        secret.encode().hex(),
        repr(secret.encode())[2:-1],
    }
    sent = json.dumps([request.messages for request in kit.model.requests], ensure_ascii=False)
    kept = json.dumps(
        [[entry.content, [each.tool for each in entry.outcomes]] for entry in kit.entries(head.session_id)],
        ensure_ascii=False,
    )
    audit = str(kit.sessions.audit("acme", head.session_id))
    for form in forms:
        for place in (sent, kept, audit, log.getvalue(), str(kit.table.snapshot())):
            assert form not in place
    shown = sent + log.getvalue()
    # What an error came of is told by its type: its words go nowhere.
    assert ("because of LookupError at" if way == "in a cause" else "[redacted:") in shown
