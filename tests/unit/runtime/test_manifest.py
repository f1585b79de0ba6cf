"""An agent as its manifest tells it begins the same sessions as the agent itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from functions.turn.handler import warn_of_differing
from tests.support.repository import REPOSITORY
from turnkeeper import Agent, Limits, SessionContext, by_tenant, tool
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import UnpricedModel
from turnkeeper.core.policy import RolePolicy, compose_grant
from turnkeeper.core.tools import Tool
from turnkeeper.core.versions import spec_of, version_of
from turnkeeper.preflight.manifest import write_manifest
from turnkeeper.runtime.catalog import Catalog, load_agents
from turnkeeper.runtime.manifest import MANIFEST, catalog_in, manifest_of
from turnkeeper.runtime.pricing import must_be_priced, priced_by
from turnkeeper.settings import Settings
from turnkeeper.wiring.front_door import FrontDoorKit


@tool(effect="once", scopes={"shop:write"})
def buy(what: str, count: int = 1) -> str:
    """Buy something."""
    return f"{count} {what}"


def greeting(ctx: SessionContext) -> str:
    return f"You serve {ctx.tenant_id}."


ELSEWHERE = Tool(name="far", description="Far away.", effect="read", input_schema=lambda: {}, body=lambda *_: "")
BARE: dict[str, Any] = {"model": "claude-sonnet-5-5", "system": "You sell."}

AGENTS = [
    Agent(name="plain", **BARE),
    Agent(name="tools", **BARE, tools=[buy, ELSEWHERE], done="end_task", formerly=["old"], placement="background"),
    Agent(name="made", model="m-1", system=greeting, fallback_models=["m-2"], limits=Limits(task_usd="0.10")),
    Agent(name="templates", model="m-1", system=by_tenant({"acme": "Hi {user_id}."}), pin="session", view="user"),
    Agent(name="options", **BARE, model_options={"thinking": {"type": "enabled", "budget_tokens": 2_000}, "z": (1, 2)}),
    Agent(name="told", **BARE, webhook="https://hooks.example.com/a", block_once_after_flag=True),
]


class Prices:
    version = "1"

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked: list[str] = []

    def rates(self, model: str, options: Any) -> Any:
        self.asked.append(model)
        if model not in self.known:
            raise UnpricedModel("no price", model=model)

    def cost_nanousd(self, *_: Any) -> int:
        raise NotImplementedError


def told(*agents: Agent, priced: frozenset[str] = frozenset()) -> Catalog:
    catalog = Catalog({agent.name: agent for agent in agents}, priced=priced)
    return catalog_in(json.dumps(manifest_of(catalog)).encode())


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_the_same_sessions_begin_with_it(agent: Agent) -> None:
    found = told(agent).get(agent.name)
    assert version_of(spec_of(found)) == version_of(spec_of(agent))
    for name in ("name", "model", "placement", "done", "pin", "view", "webhook", "engine", "limits"):
        assert getattr(found, name) == getattr(agent, name), name
    assert list(found.formerly) == list(agent.formerly)
    assert list(found.fallback_models) == list(agent.fallback_models)
    for scopes in (frozenset[str](), frozenset({"shop:write"})):
        role = RolePolicy(scopes=scopes)
        plan: Any = type("Plan", (), {"denied_tools": frozenset(), "tools": None})
        assert compose_grant(found.all_tools(), plan, role) == compose_grant(agent.all_tools(), plan, role)


def test_an_agent_is_found_by_its_former_name() -> None:
    assert told(*AGENTS).get("old").name == "tools"


def test_what_had_a_price_is_not_asked_for_again() -> None:
    prices = Prices("claude-sonnet-5-5", "m-1")
    priced = priced_by(prices, AGENTS)
    catalog = told(*AGENTS, priced=priced)
    prices.asked.clear()
    for name in ("plain", "options"):
        must_be_priced(prices, catalog.get(name), catalog.priced)
        must_be_priced(prices, spec_of(catalog.get(name)), catalog.priced)
    assert prices.asked == []
    with pytest.raises(UnpricedModel):
        must_be_priced(prices, catalog.get("made"), catalog.priced)
    assert prices.asked == ["m-2"]


def test_agents_of_this_repository_are_told_of(tmp_path: Path) -> None:
    for name in ("agents", "policy.toml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    found = catalog_in(write_manifest(tmp_path, []).read_bytes())
    here = load_agents([REPOSITORY / "agents"])
    assert found.agents.keys() == here.agents.keys()
    for name, agent in here.agents.items():
        assert version_of(spec_of(found.get(name))) == version_of(spec_of(agent)), name
        assert found.get(name).engine == agent.engine


def test_only_a_bundle_has_a_manifest(tmp_path: Path) -> None:
    """Beside sources a file of that name is the project's own, or tells of agents as they once were."""
    (tmp_path / "policy.toml").symlink_to(REPOSITORY / "policy.toml")
    source = tmp_path / "agents" / "good" / "agent.py"
    source.parent.mkdir(parents=True)
    agent = "from turnkeeper import Agent\nagent = Agent(name='good', model='m', system={!r})\n"
    source.write_text(agent.format("before"))
    told = write_manifest(tmp_path, []).read_text()
    source.write_text(agent.format("now"))
    settings = Settings.model_validate({"root": tmp_path})
    assert FrontDoorKit(settings, bundled=True).catalog.get("good").system == "before"
    for text in (told, "[]", "no JSON", '{"agents": []}'):
        (tmp_path / MANIFEST).write_text(text)
        assert FrontDoorKit(settings).catalog.get("good").system == "now"


def test_a_runner_tells_which_agents_depend_on_its_process(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "policy.toml").symlink_to(REPOSITORY / "policy.toml")
    plain = "from turnkeeper import Agent, tool\n{}agent = Agent(name='{}', model='m', system='s', tools={})\n"
    look = "import os\n@tool(effect='read')\ndef look() -> str:\n    'Look.'\n    return ''\n"
    for name, text in {
        "same": plain.format(look, "same", "[look]"),
        "other": plain.format(look, "other", "[look] if 'SHOP_KEY' in os.environ else []"),
    }.items():
        (tmp_path / "agents" / name).mkdir(parents=True)
        (tmp_path / "agents" / name / "agent.py").write_text(text)
    settings = Settings.model_validate({"root": tmp_path})
    warn_of_differing(Kit(settings))
    write_manifest(tmp_path, [])
    warn_of_differing(Kit(settings))
    assert caplog.messages == []
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("SHOP_KEY", "1")
        warn_of_differing(Kit(settings))
    [message] = caplog.messages
    assert message.startswith("agent other is not what it was when it was bundled")


def test_of_agents_that_cannot_be_loaded_there_is_no_manifest(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").symlink_to(REPOSITORY / "policy.toml")
    for name, text in {"good": "{}", "bad": "1 / 0"}.items():
        (tmp_path / "agents" / name).mkdir(parents=True)
        whole = f"from turnkeeper import Agent\nagent = Agent(name='{name}', model='m', system='s')\n"
        (tmp_path / "agents" / name / "agent.py").write_text(whole + text)
    with pytest.raises(SystemExit, match="bad"):
        write_manifest(tmp_path, [])
    assert not (tmp_path / MANIFEST).exists()
