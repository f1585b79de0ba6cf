"""Scopes are rows: what a row says holds everywhere, and a new one needs nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import turnkeeper
from turnkeeper.core import scopes
from turnkeeper.core.caps import NO_CAP, CapRule, caps_from
from turnkeeper.core.policy import Policy, policy_of
from turnkeeper.core.policy_problems import InvalidPolicy
from turnkeeper.core.scopes import SCOPES, ScopeRow

REQUIRED = {row.plan_key: "1.00" for row in SCOPES.values() if row.required}


def policy_with(**plan: Any) -> Policy:
    return policy_of({"default_plan": "plan", "plans": {"plan": {**REQUIRED, **plan}}})


# ---- rows ----


@pytest.mark.parametrize(
    "rows",
    [
        [*SCOPES.values()][1:],
        [*SCOPES.values(), SCOPES["user_daily"]],
        [*SCOPES.values(), ScopeRow("user_weekly", "user", "day")],  # type: ignore[arg-type]
    ],
    ids=["a name without a row", "two rows of a name", "a row without a name"],
)
def test_names_and_rows_belong_together(rows: list[ScopeRow]) -> None:
    with pytest.raises(ValueError, match="one row"):
        scopes._checked(*rows)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("agent_daily", ScopeRow("agent_daily", "user", "day", required=False)),
        ("agent_daily", ScopeRow("agent_daily", "agent", "none", required=False)),
        ("agent_daily", ScopeRow("agent_daily", "agent", "day", only_where_capped=True)),
        ("agent_daily", ScopeRow("agent_daily", "agent", "day", sharded=True)),
        ("task", ScopeRow("task", "task", "day")),
        ("tenant_monthly", ScopeRow("tenant_monthly", "tenant", "month")),
    ],
)
def test_a_row_that_no_counter_could_be_kept_by_is_refused(name: str, row: ScopeRow) -> None:
    with pytest.raises(ValueError):
        scopes._checked(*(row if scope == name else known for scope, known in SCOPES.items()))


NEW_SCOPE = """
from turnkeeper.core.errors import CostCapExceeded
from turnkeeper.core.ledger import Payer
from tests.support.money import TENANT, Books, Till, exactly, policy
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper_local.cli.operator import parse_caps
import json

table = MemoryTable()
till = Till(table, MemoryBlobs(), policy(plan={"tenant_daily": 100}), ManualClock(), SeededIds())
head = till.new_head("s")
till.open(head)
head = till.settle(till.admit(head, exactly(60)), 60)
refusal = {}
try:
    till.admit(head, exactly(41))
except CostCapExceeded as refused:
    refusal = refused.data
caps, _ = parse_caps(["tenant_daily=0.0000002"])
till.tenants.set(TENANT, actor="ops", caps=caps)
head = till.admit(head, exactly(41))
books = Books.of(table.snapshot())
books.check()
states = {state.scope: [state.cap, state.spent, state.reserved] for state in till.treasury.states(
    till.tenants.terms(TENANT), "ann", [])}
print(json.dumps({"refusal": refusal, "states": states, "periods": head.account.pending.periods}))
"""


def test_a_new_scope_is_a_name_and_a_row(tmp_path: Path) -> None:
    """A copy of the package with one more scope: it is capped, counted, settled, set and reported."""
    package = Path(turnkeeper.__file__).parent
    shutil.copytree(package, tmp_path / "turnkeeper", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "turnkeeper" / "core" / "scopes.py"
    source = file.read_text()
    for old, new in (
        ('"agent_daily"]', '"agent_daily", "tenant_daily"]'),
        (
            '    ScopeRow("agent_daily"',
            '    ScopeRow("tenant_daily", "tenant", "day", required=False),\n    ScopeRow("agent_daily"',
        ),
    ):
        assert source.count(old) == 1
        source = source.replace(old, new)
    file.write_text(source)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", NEW_SCOPE],
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(root)))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["refusal"]["scope"], document["refusal"]["contended"]) == ("tenant_daily", False)
    assert document["refusal"]["resets_at"] == "2026-03-03T00:00:00.000Z"
    assert document["states"]["tenant_daily"] == [200, 60, 41]
    assert document["periods"]["tenant_daily"] == "2026-03-02"


# ---- plans ----


def test_what_a_plan_has_to_say_and_what_it_may() -> None:
    assert policy_with().plans["plan"].caps["agent_daily"] == NO_CAP
    assert policy_with(agent_daily_usd="5.00").plans["plan"].caps["agent_daily"] == CapRule(5_000_000_000)
    table = policy_with(agent_daily_usd={"support": "5.00", "research": "unlimited"}).plans["plan"].caps["agent_daily"]
    assert [table.cap(agent) for agent in ("support", "research", "other", None)] == [5_000_000_000, None, None, None]


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        ({"agent_daily_usd": 5}, "agent_daily_usd"),
        ({"agent_daily_usd": {"support": "a lot"}}, "agent_daily_usd"),
        ({"agent_daily_usd": {"Support Team": "5.00"}}, "Support Team"),
        ({"user_daily_usd": {"support": "5.00"}}, "user_daily_usd"),
        ({"user_weekly_usd": "5.00"}, "user_weekly_usd"),
        ({"caps": {}}, "user_daily_usd"),
        ({"timezone": "Zurich"}, "Europe/Zurich"),
        ({"timezone": 1}, "timezone"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_by_the_name_of_its_key(plan: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidPolicy, match=named):
        policy_with(**plan)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_cap_that_a_plan_has_to_say_is_asked_for(key: str) -> None:
    plan = {name: cap for name, cap in REQUIRED.items() if name != key}
    with pytest.raises(InvalidPolicy, match=f"{key} is missing"):
        policy_of({"default_plan": "plan", "plans": {"plan": plan}})


# ---- fingerprints ----


def test_every_difference_in_terms_shows_in_the_fingerprint() -> None:
    rules = dict.fromkeys(SCOPES, NO_CAP)
    terms: list[tuple[Any, str, int]] = [
        (rules, "UTC", 1),
        (rules, "UTC", 2),
        (rules, "Europe/Zurich", 1),
        *(({**rules, scope: CapRule(5)}, "UTC", 1) for scope in SCOPES),
        ({**rules, "agent_daily": CapRule(None, {"support": 5})}, "UTC", 1),
        ({**rules, "agent_daily": CapRule(None, {"research": 5})}, "UTC", 1),
    ]
    assert len({caps_from(*each).fingerprint for each in terms}) == len(terms)
