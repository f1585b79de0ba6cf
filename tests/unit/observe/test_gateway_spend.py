"""What tokens of the gateway spend is in the metrics and in the log, as what sessions spend is."""

from __future__ import annotations

from collections import Counter

import pytest

from functions.observe.metering import samples_of
from functions.observe.records import Changed
from functions.observe.spending import Spending
from tests.support.gateway import MODEL, served, standin
from tests.support.money import TENANT
from turnkeeper.runtime.store import keys
from turnkeeper.table import Item
from turnkeeper.telemetry.measuring import GATEWAY
from turnkeeper.testing.memory_table import MemoryTable


def test_calls_of_a_token_are_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "functions.observe.spending")
    table, changes = MemoryTable(), list[tuple[Item | None, Item | None]]()
    with standin() as url, served(url, table=table) as rig:
        table.on_change = lambda old, new: changes.append((old, new))
        for words in ("hello", "once more"):
            content = f"[[say {words}]]"
            rig.client().messages.create(model=MODEL, max_tokens=50, messages=[{"role": "user", "content": content}])
        rig.wait_for(lambda: len(rig.calls("settled")) == 2)
        spent = rig.books().spent
    spending, counted = Spending(), Counter[tuple[str, tuple[str, ...]]]()
    for old, new in changes:
        owner = keys.session_of_pk(new["pk"]) if new is not None else None
        if new is None or owner is None:
            continue
        change = Changed(*owner, new["sk"], old, new)
        samples = list(samples_of(change))
        spending.see(change, samples)
        for one in samples:
            counted[one.metric, one.labels] += int(one.value)
    spending.flush()
    assert counted["spend_nanousd", ()] == counted["cost_nanousd", (GATEWAY,)] == spent > 0
    assert counted["model_calls", (GATEWAY,)] == counted["reservations", ("settled",)] == 2
    assert counted["output_tokens", (GATEWAY,)] > 0
    [line] = [record.__dict__ for record in caplog.records if record.name == "functions.observe.spending"]
    assert (line["tenant_id"], line["agent"], line["cost_nanousd"]) == (TENANT, GATEWAY, spent)
