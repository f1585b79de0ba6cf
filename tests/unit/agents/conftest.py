"""Agents as the kit loads them, and a context for their tools."""

from __future__ import annotations

import logging
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.repository import REPOSITORY
from turnkeeper import Agent, Tool, ToolContext
from turnkeeper.runtime.catalog import Catalog, load_agents


@pytest.fixture(scope="session")
def catalog() -> Catalog:
    return load_agents([REPOSITORY / "agents"])


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own, where the agents build their databases."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def context(*, tenant_id: str = "acme", key: str = "key-1") -> ToolContext:
    return ToolContext(
        session_id="ses_1",
        tenant_id=tenant_id,
        user_id="u1",
        tool_use_id="toolu_1",
        idempotency_key=key,
        deadline=datetime.now(UTC) + timedelta(seconds=20),
        logger=logging.getLogger("test"),
    )


def tool_of(agent: Agent, name: str) -> Tool:
    return next(tool for tool in agent.all_tools() if tool.name == name)


def call(agent: Agent, name: str, ctx: ToolContext | None = None, /, **arguments: Any) -> Any:
    return tool_of(agent, name).body(ctx or context(), arguments)
