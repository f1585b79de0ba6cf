"""What tests of money share: a till that reserves and settles through the real store, and books to compare it with."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from turnkeeper.adapters.redaction import Redactor
from turnkeeper.core.agent import Limits
from turnkeeper.core.ledger import Counter, Resolution, iso
from turnkeeper.core.lifecycle import running
from turnkeeper.core.lifecycle.change import Reserved, Resolved
from turnkeeper.core.money import format_usd
from turnkeeper.core.policy import Caps, Policy, Terms, policy_of
from turnkeeper.core.session import Head, LeaseState, Reservation, TurnState
from turnkeeper.ports import ABSENT, Blobs, Clock, Ids, Put, Rates, Table
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.runtime.store.treasury import Treasury, Want

TENANT = "acme"
#: A token in or out costs one nano-dollar.
PLAIN_RATES = Rates("model", "test", 1_000_000, 1_000_000)


def policy(**plans: Mapping[str, int | None]) -> Policy:
    """Plans with their caps in nano-dollars, unlimited where they say nothing; the first is the default."""
    return policy_of(
        {
            "default_plan": next(iter(plans)),
            "plans": {
                name: {
                    f"{scope}_usd": "unlimited" if caps.get(scope) is None else format_usd(caps[scope] or 0)
                    for scope in ("task", "user_daily", "user_monthly", "tenant_monthly")
                }
                for name, caps in plans.items()
            },
        }
    )


def exactly(amount: int) -> Want:
    """A call that may cost this much and cannot be made smaller."""
    return Want(Rates("model", "test", 0, 0, amount), 0, 1)


class Till:
    """Reserves and settles as the engine does, without a conversation around it."""

    def __init__(
        self, table: Table, blobs: Blobs, policy: Policy, clock: Clock, ids: Ids, *, lease_seconds: float = 30.0
    ) -> None:
        self.table = table
        self.clock = clock
        self.ids = ids
        self.sessions = Sessions(table, blobs, clock, Redactor(), lease_seconds=lease_seconds)
        self.tenants = Tenants(table, policy, clock)
        self.treasury = Treasury(table, self.tenants, clock, ids)

    def new_head(
        self, session_id: str, user_id: str = "ann", *, tenant_id: str = TENANT, task_usd: str | None = None
    ) -> Head:
        """A session that this runner holds already."""
        now = iso(self.clock.now())
        return Head(
            tenant_id=tenant_id,
            session_id=session_id,
            user_id=user_id,
            role="user",
            agent="agent",
            placement="background",
            created_at=now,
            updated_at=now,
            turn=TurnState(started_at=now),
            status="running",
            lease=LeaseState(
                owner=f"owner-{session_id}",
                fencing_token=1,
                expires_at=int(self.clock.now().timestamp() * 1000) + int(self.sessions.lease_seconds * 1000),
            ),
            limits=Limits(task_usd=task_usd),
        )

    def open(self, *heads: Head) -> None:
        for start in range(0, len(heads), 100):
            self.table.write(
                [
                    Put(keys.head_key(head.tenant_id, head.session_id), codec.head_item(head), (ABSENT,))
                    for head in heads[start : start + 100]
                ]
            )

    def take_over(self, head: Head) -> Head:
        """What a runner does first: claim, and doubt what was in flight."""
        head = self.sessions.claim(head.tenant_id, head.session_id, self.ids.token(), "fargate")
        return self.settle(head, head.account.pending.amount_nanousd, "in_doubt") if head.account.pending else head

    def admit(self, head: Head, want: Want, *, terms: Terms | None = None, **more: Any) -> Head:
        terms = terms or self.tenants.terms(head.tenant_id)

        def write(reservation: Reservation, terms: Terms) -> Head:
            reserved = Reserved(reservation, terms.caps, "test")
            change = running.begin_call(head, self.clock.now(), (), reserved, first_attempt=True)
            return self.sessions.commit(head, change)

        return self.treasury.admit(head, terms, want, **{"wait_seconds": 0.0, **more}, write=write)

    def settle(self, head: Head, spent: int, resolution: Resolution = "settled") -> Head:
        assert head.account.pending is not None
        resolved = Resolved(head.account.pending, resolution, spent)
        return self.sessions.commit(head, running.book(head, self.clock.now(), resolved, claims=0))


State = Literal["pending", "settled", "voided", "in_doubt"]


@dataclass(frozen=True)
class Entered:
    """One reservation as the ledger has it."""

    session_id: str
    user_id: str
    reservation: Reservation
    state: State
    spent: int


@dataclass
class Books:
    """Everything about one tenant's money that a table holds."""

    calls: list[Entered] = field(default_factory=list)
    heads: dict[str, Head] = field(default_factory=dict)
    users: dict[tuple[str, Counter], Mapping[str, Any]] = field(default_factory=dict)
    shards: dict[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Iterable[Mapping[str, Any]], tenant_id: str = TENANT) -> Books:
        books = cls()
        mine = [item for item in items if item["pk"].startswith(f"{keys.tenant_pk(tenant_id)}#")]
        by_pk = {item["pk"]: codec.head_of(item) for item in mine if item["sk"] == "HEAD"}
        books.heads = {head.session_id: head for head in by_pk.values()}
        for item in mine:
            pk, sk = item["pk"], item["sk"]
            if sk.startswith("CALL#"):
                head = by_pk[pk]
                reservation = Reservation.model_validate({name: item[name] for name in Reservation.model_fields})
                spent = int(item.get("spent_nanousd", 0))
                books.calls.append(Entered(head.session_id, head.user_id, reservation, item["state"], spent))
            elif "#SHARD#" in pk:
                books.shards[sk.removeprefix("MONTH#"), int(item["shard"])] = item
            elif "#U#" in pk:
                kind, period = sk.split("#")
                scope: Any = {"DAY": "user_daily", "MONTH": "user_monthly"}[kind]
                books.users[pk.rpartition("#")[2], Counter(scope, period)] = item
        return books

    @property
    def spent(self) -> int:
        return sum(call.spent for call in self.calls)

    @property
    def reserved(self) -> int:
        return sum(call.reservation.amount_nanousd for call in self.calls if call.state == "pending")

    def committed(self, month: str) -> int:
        """Of the tenant, over all shards."""
        return sum(int(item["spent"]) + int(item["reserved"]) for (of, _), item in self.shards.items() if of == month)

    def check(self) -> None:
        """The counters say what the ledger says, to the unit, and so do the heads."""
        assert _of_users(self.calls) == {
            place: (int(item.get("spent", 0)), int(item.get("reserved", 0))) for place, item in self.users.items()
        }
        for item in self.users.values():
            assert int(item.get("committed", 0)) == int(item.get("spent", 0)) + int(item.get("reserved", 0))
        of_shards = _sums(((call.reservation.month, call.reservation.shard), call) for call in self.calls)
        for place, item in self.shards.items():
            assert (int(item["spent"]), int(item["reserved"])) == of_shards.pop(place, (0, 0))
            share = int(item["share"] or 0)
            assert int(item["remaining"]) == share - int(item["spent"]) - int(item["reserved"])
        assert not of_shards
        costs: dict[str, int] = defaultdict(int)
        for call in self.calls:
            costs[call.session_id] += call.spent
        for head in self.heads.values():
            assert head.account.cost_nanousd == costs[head.session_id]
            pending = [c.reservation for c in self.calls if c.session_id == head.session_id and c.state == "pending"]
            assert pending == ([head.account.pending] if head.account.pending else [])

    def check_shares(self, terms: Terms) -> None:
        """Of months that these terms were laid out for."""
        for month in {of for of, _ in self.shards}:
            items = [item for (of, _), item in self.shards.items() if of == month]
            assert len({item["caps"] for item in items}) == 1, "one month, two fingerprints"
            if items[0]["caps"] != terms.caps.fingerprint:
                continue
            shares = [item["share"] for item in items]
            if terms.caps.tenant_monthly is None:
                assert set(shares) == {None}
            else:
                assert sum(int(share) for share in shares) == terms.caps.tenant_monthly

    def check_caps(self, caps: Caps) -> None:
        """Nothing is over its cap: true of caps that were in force all the time."""
        for (_, counter), item in self.users.items():
            cap = caps.cap(counter.scope)
            assert cap is None or int(item["committed"]) <= cap, counter
        for month in {of for of, _ in self.shards}:
            assert caps.tenant_monthly is None or self.committed(month) <= caps.tenant_monthly
        for head in self.heads.values():
            assert caps.task is None or head.account.cost_nanousd + head.account.reserved_nanousd <= caps.task

    def check_at_rest(self) -> None:
        """Nothing is in flight, anywhere."""
        assert {call.state for call in self.calls} <= {"settled", "voided", "in_doubt"}
        assert all(int(item.get("reserved", 0)) == 0 for item in (*self.users.values(), *self.shards.values()))


def _of_users(calls: list[Entered]) -> dict[tuple[str, Counter], tuple[int, int]]:
    return _sums(
        ((call.user_id, counter), call)
        for call in calls
        for counter in (
            Counter("user_daily", call.reservation.day),
            Counter("user_monthly", call.reservation.month),
        )
    )


def _sums(placed: Iterable[tuple[Any, Entered]]) -> dict[Any, tuple[int, int]]:
    """Spent and reserved, by place."""
    sums: dict[Any, tuple[int, int]] = defaultdict(lambda: (0, 0))
    for place, call in placed:
        spent, reserved = sums[place]
        pending = call.reservation.amount_nanousd if call.state == "pending" else 0
        sums[place] = (spent + call.spent, reserved + pending)
    return dict(sums)
