"""A tool that the API does not take is left out by name, and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import begin, check_session, play, reply, say, scripted_kit, use
from turnkeeper import Agent, tool
from turnkeeper.core.session import Spec
from turnkeeper.core.tools import ToolError
from turnkeeper.core.versions import spec_of, version_of

FINE = {"type": "object", "properties": {"a": {"type": "string"}}}


@tool
def look() -> str:
    """Look."""
    return "seen"


def offered(kit: MemoryKit) -> list[list[str]]:
    return [[each["name"] for each in request.tools] for request in kit.model.requests]


def away() -> Mapping[str, Any]:
    raise ToolError("not reached")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (lambda: {**FINE, "anyOf": [{"required": ["a"]}]}, "a union (anyOf) at its root"),
        (lambda: {"type": "object", "properties": {"user id": {}}}, "'user id'"),
        (lambda: {"type": "string"}, "type 'object'"),
        (lambda: {"type": "object", "properties": {"a": {"items": [{}]}}}, "'items'"),
        (lambda: {"type": "object", "properties": {"a": {"title": "half \ud800"}}}, "half a character"),
        (lambda: None, "no object"),
        (away, "ToolError"),
    ],
)
def test_a_remote_tool_is_left_out_by_name(
    schema: Callable[[], Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    odd, fine = replace(look, name="odd", input_schema=schema), replace(look, name="fine", input_schema=lambda: FINE)
    kit = scripted_kit(reply(use("look")), reply(say("ok")), tools=[odd, look, fine])
    head = play(kit)
    assert head.status == "idle"
    assert offered(kit) == [["look", "fine"]] * 2
    told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert len(told) == 2 and all("tool odd is left out" in line and words in line for line in told)


def test_one_in_a_version_that_a_session_keeps_is_left_out_as_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent(name="scripted", model=MODEL, system="s", tools=[look, replace(look, name="odd")], pin="session")
    kit = scripted_kit(reply(use("look")), reply(say("ok")), agents=[agent])
    head = begin(kit)
    [first, second] = spec_of(agent).tools
    stored = spec_of(agent).model_copy(
        update={"tools": (first, second.model_copy(update={"input_schema": {**FINE, "allOf": []}}))}
    )

    def kept(transcript: Any) -> Spec:
        return stored

    # As an earlier deployment, which did not look, has written it.
    monkeypatch.setattr(kit.sessions, "spec_of", kept)
    monkeypatch.setattr("turnkeeper.runtime.engine.version_of", lambda spec: f"not {version_of(spec)}")
    head = kit.run(head)
    check_session(kit, head)
    assert offered(kit) == [["look"]] * 2
    assert [r.getMessage() for r in caplog.records if "tool odd is left out" in r.getMessage()] != []
