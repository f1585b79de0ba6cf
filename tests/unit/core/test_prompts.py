"""Templates by tenant, and what names a prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper import Agent, SessionContext, by_tenant, prompts
from turnkeeper.core.errors import PromptFailed
from turnkeeper.core.prompts import definition_of, read_only
from turnkeeper.core.versions import spec_of, version_of
from turnkeeper.runtime.catalog import load_agents

NOW = datetime(2026, 11, 25, 22, 0, tzinfo=UTC)


def context(tenant_id: str = "acme", **metadata: Any) -> SessionContext:
    return SessionContext(
        tenant_id=tenant_id, user_id="ann", role="user", agent="desk", session_id="ses_1", metadata=metadata, now=NOW
    )


def test_placeholders_are_filled() -> None:
    prompt = by_tenant({}, default="{tenant_id} {user_id} {role} {agent} {session_id} {date} {now} {metadata.n}")
    assert prompt(context(n=[1])) == "acme ann user desk ses_1 2026-11-25 2026-11-25T22:00:00+00:00 [1]"


@pytest.mark.parametrize("value", [{"a": [1, {"b": None}]}, [{"a": 1}], {}, [], None, True, 1.5, "x"])
def test_whatever_json_a_caller_brought_is_filled_in(value: Any) -> None:
    text = by_tenant({}, default="{metadata.n}")(context(**read_only({"n": value})))
    assert text == (value if isinstance(value, str) else json.dumps(value))


def test_a_value_is_not_looked_into() -> None:
    assert by_tenant({"acme": "<{metadata.a}>"})(context(a="{user_id} {{date}}")) == "<{user_id} {{date}}>"


@pytest.mark.parametrize("text", ['{"a": {"b": 1}}', "{}", "{ user_id }", "{{{", "a } b", "{1}", "{A_B: 2}", "{x y}"])
def test_other_braces_stand_as_they_are(text: str) -> None:
    assert by_tenant({"acme": text})(context()) == text


@given(st.text(alphabet='{} ab:.1"', max_size=30))
def test_a_template_is_refused_when_it_is_loaded_or_never(text: str) -> None:
    try:
        prompt = by_tenant({"acme": f"x{text}"})
    except ValueError as refused:
        assert "names {" in str(refused)
    else:
        assert prompt(context()).startswith("x")


def test_a_word_in_braces_itself() -> None:
    assert by_tenant({"acme": "{{user_id}} is {user_id}, {{anything}}"})(context()) == "{user_id} is ann, {anything}"


@pytest.mark.parametrize(
    ("templates", "default", "words"),
    [
        ({"acme": "Hi {user}"}, None, "{user}"),
        ({"acme": "Hi"}, "{metadata}", "by default names {metadata}"),
        ({"acme": " "}, None, "'acme' is blank"),
        ({"acme": "half \ud800"}, None, "cannot be sent"),
        ({}, None, "no template"),
    ],
)
def test_what_cannot_be_a_template_is_said_at_once(templates: dict[str, str], default: str | None, words: str) -> None:
    with pytest.raises(ValueError, match="by_tenant") as refused:
        by_tenant(templates, default)
    assert words in str(refused.value)


def test_who_has_none() -> None:
    prompt = by_tenant({"acme": "Hi"})
    with pytest.raises(PromptFailed, match="'other'"):
        prompt(context("other"))
    with pytest.raises(PromptFailed, match="'team'"):
        by_tenant({"acme": "{metadata.team}"})(context())


AGENT = """
from turnkeeper import Agent, prompts
agent = Agent(name="desk", model="claude-sonnet-5-5", system=prompts("prompts", default="default.md"))
"""


def agent_in(folder: Path, files: dict[str, str], code: str = AGENT) -> Agent | str:
    (folder / "desk" / "prompts").mkdir(parents=True)
    (folder / "desk" / "agent.py").write_text(code)
    for name, text in files.items():
        (folder / "desk" / "prompts" / name).write_text(text)
    catalog = load_agents([folder])
    return catalog.broken["desk"] if catalog.broken else catalog.agents["desk"]


def test_files_beside_the_agent(tmp_path: Path) -> None:
    agent = agent_in(tmp_path, {"default.md": "All.\n", "acme.md": "Acme: {user_id}.\n", "big.co.md": "Big."})
    assert isinstance(agent, Agent)
    assert callable(agent.system)
    assert [agent.system(context(tenant)) for tenant in ("acme", "big.co", "other")] == ["Acme: ann.", "Big.", "All."]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"acme.md": "Hi"}, "there is no default.md"),
        ({"default.md": "Hi {nobody}"}, "{nobody}"),
        ({"default.md": "Hi", "a.md": "x", "a.txt": "y"}, "two files of 'a'"),
    ],
)
def test_a_folder_that_will_not_do_breaks_the_agent(tmp_path: Path, files: dict[str, str], words: str) -> None:
    assert words in str(agent_in(tmp_path, files))


def test_no_such_folder(tmp_path: Path) -> None:
    assert "no folder" in str(agent_in(tmp_path, {}, AGENT.replace('"prompts"', '"nowhere"')))


def agent_with(system: Any) -> Agent:
    return Agent(name="desk", model="claude-sonnet-5-5", system=system)


def greet(ctx: SessionContext) -> str:
    return f"Hi {ctx.user_id}"


def test_versions_tell_what_makes_a_prompt_apart() -> None:
    systems: list[Any] = ["Hi", greet, lambda _: "Hi", by_tenant({"acme": "Hi"}), by_tenant({"acme": "Ho"}), len]
    assert len({version_of(spec_of(agent_with(system))) for system in systems}) == len(systems)
    same = [by_tenant({"b": "2", "a": "1"}), by_tenant({"a": "1", "b": "2"})]
    assert len({version_of(spec_of(agent_with(system))) for system in same}) == 1


def test_a_function_has_one_name_wherever_its_folder_is_loaded(tmp_path: Path) -> None:
    code = "from turnkeeper import Agent\ndef say(ctx):\n    return 'Hi'\n"
    code += "agent = Agent(name='desk', model='claude-sonnet-5-5', system=say)\n"
    made: list[Callable[[SessionContext], str]] = []
    for name in ("one", "two"):
        agent = agent_in(tmp_path / name, {}, code)
        assert isinstance(agent, Agent)
        assert callable(agent.system)
        made.append(agent.system)
    assert definition_of(made[0]) == definition_of(made[1])
    assert definition_of(made[0]).startswith("desk.agent.say:")
    assert definition_of(len) == "builtins.len"


def test_a_text_has_the_version_that_it_always_had() -> None:
    assert "prompt" in spec_of(agent_with("Hi")).model_dump()
    assert version_of(spec_of(agent_with("Hi"))) == "ab25412aa405d31b1be9f09ec33e96e1"


@pytest.mark.parametrize("system", ["", "  ", None, 3, ["Hi"]])
def test_an_agent_has_a_prompt(system: Any) -> None:
    with pytest.raises(ValueError, match="system prompt"):
        agent_with(system)


def test_files_are_those_of_whoever_asks() -> None:
    with pytest.raises(ValueError, match=str(Path(__file__).parent / "no-such-folder")):
        prompts("no-such-folder")
