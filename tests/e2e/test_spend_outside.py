"""The spend report from outside: what sessions say that they cost, told apart in every way; and the provider's word."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from tests.e2e.outside import Caller, Stack, call, tools

pytestmark = pytest.mark.stack


def test_reports_tell_what_sessions_cost_and_calls_in_doubt(stack: Stack, caller: Caller, tmp_path: Path) -> None:
    other = stack.caller(caller.tenant, user="u2")
    ids = [
        caller.turn("handy", f"{tools(call('look', what='x'))} [[say first]]")["session_id"],
        caller.turn("handy", "[[say second]]", placement="background")["session_id"],
        other.turn("brief", "[[cut]] [[say third]]")["session_id"],
    ]
    sessions = [(other if number == 2 else caller).session(session_id) for number, session_id in enumerate(ids)]
    cost = [Decimal(session["cost_usd"]) for session in sessions]
    doubt = sum(Decimal(session.get("in_doubt_usd", "0")) for session in sessions)
    assert doubt > 0
    for by, keys in {
        "tenant": {caller.tenant: sum(cost)},
        "user": {"u1": cost[0] + cost[1], "u2": cost[2]},
        "agent": {"handy": cost[0] + cost[1], "brief": cost[2]},
        "model": {"claude-sonnet-5-5": sum(cost)},
    }.items():
        report = stack.cli("spend", "report", "--by", by, "--tenant", caller.tenant)
        assert {row["key"]: Decimal(row["total_usd"]) for row in report["rows"]} == keys
        assert Decimal(report["total"]["in_doubt_usd"]) == doubt
        assert report["differences"] == []
    everybody = stack.cli("spend", "report", "--by", "tenant", exit_code=None)
    [mine] = [row for row in everybody["rows"] if row["key"] == caller.tenant]
    assert Decimal(mine["total_usd"]) == sum(cost)
    today = datetime.now(UTC).date()
    days = [f"{today - timedelta(days=1)},claude-sonnet-5-5,0", f"{today},claude-sonnet-5-5,1000000.00"]
    export = tmp_path / "cost.csv"
    export.write_text("\n".join(["usage_date_utc,model,cost_usd", *days, ""]))
    found = stack.cli("reconcile", "--file", str(export), exit_code=1)
    [listed] = [one for one in found["in_doubt"] if one["tenant_id"] == caller.tenant]
    assert (listed["session_id"], Decimal(listed["amount_usd"])) == (ids[2], doubt)
    assert listed["request_id"]
