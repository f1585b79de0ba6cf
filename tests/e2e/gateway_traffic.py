"""What the processes of the gateway's tests do. A module of its own, so that a spawned process can import it."""

from __future__ import annotations

import random
import threading
from typing import Any

from tests.e2e.money_traffic import Place, at_once, aws, till_of
from tests.support.money import exactly
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.core.errors import CostCapExceeded
from turnkeeper.runtime.store.purses import Purse, PurseCall


def spend_many(place: Place, purse: Purse, calls: int, amount: int, at_most: int, seed: int) -> tuple[int, int]:
    """So many calls at once, each settled somewhere below its reservation: how many were made, and what they cost."""
    till, chance = till_of(place), random.Random(seed)
    terms = till.tenants.terms(purse.payer.tenant_id)
    costs = [chance.randint(0, at_most) for _ in range(calls)]

    def call(cost: int) -> tuple[int, int]:
        try:
            made = till.spend(purse, exactly(amount), terms=terms, wait_seconds=30.0)
        except CostCapExceeded as refused:
            assert not refused.contended, "it gave up waiting for money in flight"
            return 0, 0
        assert till.resolve(made, cost)
        return 1, cost

    done = at_once(call, costs)
    return sum(made for made, _ in done), sum(cost for _, cost in done)


def hold_many(place: Place, purse: Purse, calls: int, amount: int) -> int:
    """As many at once as fit, none of them settled."""
    till = till_of(place)
    terms = till.tenants.terms(purse.payer.tenant_id)

    def call(_: int) -> PurseCall | None:
        try:
            return till.spend(purse, exactly(amount), terms=terms)
        except CostCapExceeded:
            return None

    return sum(made is not None for made in at_once(call, range(calls)))


def serve(place: Place, model_url: str, url: Any) -> None:
    """A gateway, until this process is killed; tells where it is."""
    from tests.support.gateway import served  # Which takes long to import, and the other processes need none of it.

    table = DynamoTable(aws(place.url).table_requests, place.table, busy_seconds=60)
    with served(model_url, table=table, lease_seconds=place.lease_seconds, **dict(place.caps)) as rig:
        url.put(rig.url)
        threading.Event().wait()
