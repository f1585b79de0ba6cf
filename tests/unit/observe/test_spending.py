"""What tenants spend stands in the log as it happens, as the dashboard's tables ask for it."""

from __future__ import annotations

import logging
import re
from collections import Counter

import pytest

from functions.observe import handler as module
from functions.observe.spending import FIELDS, MESSAGE
from tests.support.kit import MemoryKit
from tests.unit.observe.conftest import Stream
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.world import Allowance

LOOP = '[[repeat 5]] [[tool add {"a": 1, "b": 2}]]'


def test_each_tenants_lines_add_up_to_what_its_sessions_cost(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kit = MemoryKit(runner="none")
    monkeypatch.setattr(module, "_kit", lambda: kit)
    caplog.set_level(logging.INFO, "functions.observe.spending")
    stream = Stream(kit)
    spent: Counter[str] = Counter()
    trips: Counter[str] = Counter()
    for tenant, said in (("acme", "a secret"), ("acme", LOOP), ("globex", "hello")):
        head = kit.intake.create(Identity(tenant_id=tenant, user_id="ann", role="user"), NewSession("helper", said, {}))
        head = kit.engine.run(tenant, head.session_id, Allowance(runner="fargate"))
        assert module.handler(stream.event(), None) == {"batchItemFailures": []}
        spent[tenant] += head.account.cost_nanousd
        trips[tenant] += said == LOOP
    lines = [record.__dict__ for record in caplog.records if record.getMessage() == MESSAGE]
    assert {line["agent"] for line in lines} == {"helper"}
    for told, field in ((spent, "cost_nanousd"), (trips, "trips")):
        assert {tenant: sum(one[field] for one in lines if one["tenant_id"] == tenant) for tenant in spent} == told
    assert "a secret" not in caplog.text


@pytest.mark.parametrize("table", ["TOP_TENANTS", "TOP_TRIPS"])
def test_the_tables_ask_for_what_the_lines_say(table: str) -> None:
    from turnkeeper_infra.watching import board  # jsii starts with this import

    query: tuple[str, ...] = getattr(board, table)
    assert f'message = "{MESSAGE}"' in query[0]
    asked = re.findall(r"sum\((\w+)\)", query[1]) + query[1].split(" by ")[1].split(", ")
    assert set(asked) <= {"tenant_id", "agent", *FIELDS.values()}
