"""Agents as the kit loads them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import REPOSITORY
from turnkeeper import Agent, Tool, ToolContext
from turnkeeper.runtime.catalog import Catalog, load_agents
from turnkeeper.testing import context


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_agents([REPOSITORY / "agents"])


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, where the agents build their databases."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def tool_of(agent: Agent, name: str) -> Tool:
    return next(tool for tool in agent.all_tools() if tool.name == name)


def call(agent: Agent, name: str, ctx: ToolContext | None = None, /, **arguments: Any) -> Any:
    return tool_of(agent, name).body(ctx or context(), arguments)
