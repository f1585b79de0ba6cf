"""The agents of this repository as a cold front door meets them."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from turnkeeper.core.policy import compose_grant, limits_of, policy_of
from turnkeeper.runtime.catalog import Catalog

REPOSITORY = Path(__file__).resolve().parents[3]
HEAVY = ("anthropic", "airportsdata", "boto3", "httpx2", "mcp", "psycopg", "sqlglot")


def test_every_folder_holds_a_sound_agent_of_its_name(catalog: Catalog) -> None:
    assert dict(catalog.broken) == {}
    folders = {file.parent.name for file in (REPOSITORY / "agents").glob("*/agent.py")}
    assert set(catalog.agents) == folders >= {"support", "analyst"}


@pytest.mark.parametrize("name", ["support", "analyst"])
def test_they_can_be_imported_as_they_stand_in_the_repository(catalog: Catalog, name: str) -> None:
    """For a type checker, an editor and tests, ``agents`` is a package like any other."""
    agent = importlib.import_module(f"agents.{name}.agent").agent
    assert agent is not catalog.get(name)
    assert (agent.name, agent.system) == (name, catalog.get(name).system)


def test_loading_them_imports_nothing_heavy_and_builds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from turnkeeper.runtime.catalog import load_agents;"
        f"load_agents([Path({str(REPOSITORY / 'agents')!r})]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(REPOSITORY / "shared" / "src"), "TMPDIR": str(tmp_path)},
    )
    assert done.stdout.strip() == "[]"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("role", "granted"),
    [
        ("user", {"get_invoice", "list_invoices", "get_customer", "update_plan"}),
        ("agent", {"get_invoice", "list_invoices", "get_customer", "issue_refund", "update_plan"}),
        ("admin", {"get_invoice", "list_invoices", "get_customer", "issue_refund", "update_plan"}),
        ("stranger", {"update_plan"}),
    ],
)
def test_roles_are_granted_what_policy_names(catalog: Catalog, role: str, granted: set[str]) -> None:
    policy = policy_of(tomllib.loads((REPOSITORY / "policy.toml").read_text()))
    plan = policy.plans[policy.default_plan]
    assert set(compose_grant(catalog.get("support").all_tools(), plan, policy.role(role))) == granted


def test_the_trial_plan_tightens_the_agents_limits(catalog: Catalog) -> None:
    policy = policy_of(tomllib.loads((REPOSITORY / "policy.toml").read_text()))
    limits = limits_of(catalog.get("analyst").limits, policy.plans["trial"], policy.role("user"))
    assert limits.max_iterations == 15
