"""What each tenant spends, in the log: a line for each tenant and agent of a batch, for the dashboard's tables.

In the log since tenants come without end, which no metric's dimension may; and as it happens, not when a turn ends,
since it is the turn that does not end that is looked for.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from functions.observe.records import Changed
from turnkeeper.telemetry.measuring import GATEWAY
from turnkeeper.telemetry.metrics import Sample

logger = logging.getLogger(__name__)

#: The line's message, and its field for each metric.
MESSAGE: Final = "spent"
FIELDS: Final = {"spend_nanousd": "cost_nanousd", "steps": "steps", "trips": "trips"}


class Spending:
    """What a batch adds up to."""

    def __init__(self) -> None:
        self._spent: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(FIELDS.values(), 0))

    def see(self, change: Changed, samples: Iterable[Sample]) -> None:
        for one in samples:
            if (field := FIELDS.get(one.metric)) is not None:
                agent = change.head.agent if change.sk == "HEAD" else change.new.get("agent")
                self._spent[change.tenant_id, str(agent or GATEWAY)][field] += int(one.value)

    def flush(self) -> None:
        for (tenant_id, agent), numbers in self._spent.items():
            logger.info(MESSAGE, extra={"tenant_id": tenant_id, "agent": agent, **numbers})
        self._spent.clear()
