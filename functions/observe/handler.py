"""Reads the table's stream: what is not needed for an answer happens here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from functions.observe.alerting import Alerting
from functions.observe.metering import samples_of
from functions.observe.records import changed, each
from functions.observe.spending import Spending
from functions.observe.tampering import Guard
from functions.observe.telling import Telling
from functions.observe.waking import Waking
from functions.process import kit as _kit
from turnkeeper.adapters.emf import Emf


def handler(event: dict[str, Any], _context: Any) -> dict[str, Any]:
    """See each record once. One that cannot be read now is given back, with those behind it, as a stream has it; one
    that can never be read is logged and passed over, so that it holds up nothing."""
    kit = _kit()
    emf, spending = Emf(), Spending()
    alerting = Alerting(kit.alerts, kit.blobs)
    guard = Guard(kit.alerts)
    waking = Waking(kit.wakes, kit.clock)
    telling = Telling(kit.words)

    def see(record: Mapping[str, Any]) -> None:
        guard.see(record)
        change = changed(record)
        if change is not None:
            waking.see(change)
            alerting.see(change)
            telling.see(change)
            samples = list(samples_of(change))
            emf.add(samples)
            spending.see(change, samples)

    given_back = each(event, see)
    emf.flush()
    spending.flush()
    return given_back
