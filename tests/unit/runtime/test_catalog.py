"""Agents are found by their folders; a broken one is told by name and takes none of the others down."""

from __future__ import annotations

from pathlib import Path

import pytest

from turnkeeper.core.errors import AgentNotFound
from turnkeeper.runtime.catalog import load_agents

GOOD = """
from turnkeeper import Agent
agent = Agent(name={name!r}, model="m", system="s")
"""


def put(root: Path, folder: str, text: str, **others: str) -> Path:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "agent.py").write_text(text)
    for name, content in others.items():
        (root / folder / f"{name}.py").write_text(content)
    return root


BROKEN = {
    "syntax": "def (",
    "raises": "raise RuntimeError('no')",
    "exits": "import sys; sys.exit(3)",
    "imports": "import a_module_that_nobody_has",
    "nothing": "x = 1",
    "no_agent": "agent = 'me'",
    "bad_name": "from turnkeeper import Agent\nagent = Agent(name='Bad Name', model='m', system='s')",
    "relative": "from .missing import x",
    "beyond": "from ..other import x",
}


def test_broken_agents_are_named_and_the_others_load(tmp_path: Path) -> None:
    for folder, text in BROKEN.items():
        put(tmp_path, folder, text)
    put(tmp_path, "zebra", GOOD.format(name="zebra"))
    put(tmp_path, "ant", GOOD.format(name="ant"))
    catalog = load_agents([tmp_path])
    assert set(catalog.agents) == {"ant", "zebra"}
    assert set(catalog.broken) == set(BROKEN)
    assert catalog.broken["exits"] == "SystemExit: 3"
    assert catalog.get("ant").name == "ant"


def test_who_asks_for_a_broken_agent_is_told_without_the_details(tmp_path: Path) -> None:
    put(tmp_path, "raises", "raise RuntimeError('the password is hunter2')")
    catalog = load_agents([tmp_path])
    with pytest.raises(AgentNotFound, match="broken") as refused:
        catalog.get("raises")
    assert "hunter2" not in str(refused.value)
    with pytest.raises(AgentNotFound, match="no agent"):
        catalog.get("nobody")


def test_two_agents_of_one_name_keep_the_first(tmp_path: Path) -> None:
    first = put(tmp_path / "first", "a", GOOD.format(name="same").replace('"s"', '"first"'))
    second = put(tmp_path / "second", "b", GOOD.format(name="same").replace('"s"', '"second"'))
    catalog = load_agents([first, second])
    assert catalog.get("same").system == "first"
    assert "already has an agent named 'same'" in catalog.broken["b"]


def test_agents_may_have_modules_of_their_own_also_of_the_same_names(tmp_path: Path) -> None:
    text = "from turnkeeper import Agent\nfrom .words import SYSTEM\nagent = Agent(name={!r}, model='m', system=SYSTEM)"
    for name in ("one", "two"):
        put(tmp_path, name, text.format(name), words=f"SYSTEM = 'I am {name}.'")
    catalog = load_agents([tmp_path])
    assert catalog.broken == {}
    assert [catalog.get(name).system for name in ("one", "two")] == ["I am one.", "I am two."]


def test_folders_that_are_not_there_or_hold_something_else(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x")
    (tmp_path / "empty").mkdir()
    catalog = load_agents([tmp_path, tmp_path / "nowhere"])
    assert (dict(catalog.agents), dict(catalog.broken)) == ({}, {})
