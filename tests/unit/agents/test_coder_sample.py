"""The sample on the Claude Agent SDK: it loads where that is not installed, and its tool takes diffs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.repository import REPOSITORY
from turnkeeper import ToolError
from turnkeeper.runtime.catalog import load_agents

SAMPLES = REPOSITORY / "agents"


def test_it_loads_and_proposes_what_changes_no_test() -> None:
    catalog = load_agents([SAMPLES])
    assert not catalog.broken, catalog.broken
    agent = catalog.agents["coder"]
    program = ["Bash", "Read", "Write", "Edit", "Glob", "Grep"]
    assert [tool.name for tool in agent.all_tools()] == ["get_repository", "propose_patch", *program]
    get, propose = agent.tools
    text = get()["pricing.py"]
    mended = text.replace("100 + discount", "100 - discount")
    assert "+    return sum(prices) * (100 - discount_percent)" in propose("A title", {"pricing.py": mended})["diff"]
    for changed in ({"pricing.py": text}, {"test_pricing.py": ""}, {"other.py": "x"}, {"pricing.py": "x" * 60_000}):
        with pytest.raises(ToolError):
            propose("A title", changed)


def test_its_repository_fails_by_one_test() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "unittest", "discover", "-s", SAMPLES / "coder" / "repository"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "failures=1" in done.stderr
