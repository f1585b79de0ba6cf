"""What tests of money share: a till that reserves and settles through the real store, and books to compare it with."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from turnkeeper.adapters.redaction import Redactor
from turnkeeper.core.agent import Limits
from turnkeeper.core.caps import Caps, format_cap
from turnkeeper.core.errors import CostCapExceeded
from turnkeeper.core.ledger import Clamp, Counter, Payer, Reservation, Resolution, iso
from turnkeeper.core.lifecycle import running
from turnkeeper.core.lifecycle.change import Reserved, Resolved
from turnkeeper.core.policy import Policy, Terms, policy_of
from turnkeeper.core.scopes import SCOPES, SHARDED, Scope
from turnkeeper.core.session import Head, LeaseState, TurnState
from turnkeeper.ports import Clock, Ids, Rates
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.counters import payer_of
from turnkeeper.runtime.store.gateway_tokens import GatewayToken, GatewayTokens
from turnkeeper.runtime.store.holders import Holder, Want
from turnkeeper.runtime.store.purses import Purse, PurseCall, Purses, purse_call_of
from turnkeeper.runtime.store.records import ledger_of
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.runtime.store.treasury import Admitted, Treasury
from turnkeeper.table import ABSENT, Blobs, Key, Put, Table, Update

TENANT = "acme"
#: A token in or out costs one nano-dollar.
PLAIN_RATES = Rates("model", "test", 1_000_000, 1_000_000)


def policy(**plans: Mapping[str, Any]) -> Policy:
    """Plans with their caps in nano-dollars, unlimited where they say nothing, and by agent where they say a mapping;
    the first is the default."""
    return policy_of(
        {
            "default_plan": next(iter(plans)),
            "plans": {
                name: {
                    **{row.plan_key: _cap(plan.get(scope)) for scope, row in SCOPES.items()},
                    "timezone": plan.get("timezone", "UTC"),
                }
                for name, plan in plans.items()
            },
        }
    )


def _cap(cap: Any) -> Any:
    return {agent: format_cap(own) for agent, own in cap.items()} if isinstance(cap, Mapping) else format_cap(cap)


def exactly(amount: int) -> Want:
    """A call that may cost this much and cannot be made smaller."""
    return Want(Rates("model", "test", 0, 0, amount), 0, 1)


def cap_exceeded(scope: Scope = "task", *, contended: bool = False) -> CostCapExceeded:
    """What a call is refused with that the cap of a scope has no room for."""
    return CostCapExceeded(
        scope=scope,
        limit_nanousd=10,
        spent_nanousd=9,
        reserved_nanousd=1,
        needed_nanousd=5,
        contended=contended,
        resets_at=None,
    )


class Till:
    """Reserves and settles as the engine does, without a conversation around it."""

    def __init__(
        self,
        table: Table,
        blobs: Blobs,
        policy: Policy,
        clock: Clock,
        ids: Ids,
        *,
        lease_seconds: float = 30.0,
        compact: bool = True,
    ) -> None:
        self.table = table
        self.clock = clock
        self.ids = ids
        self.sessions = Sessions(table, blobs, clock, Redactor(), lease_seconds=lease_seconds, packs=compact)
        self.tenants = Tenants(table, policy, clock)
        #: What made the latest call that was admitted smaller.
        self.clamp: Clamp | None = None
        self.treasury = Treasury(table, self.tenants, clock, ids, joins=compact)
        self.purses = Purses(table, self.treasury, clock, lease_seconds=lease_seconds, owner=ids.token())
        self.tokens = GatewayTokens(table, self.tenants, clock, ids)

    def new_head(
        self,
        session_id: str,
        user_id: str = "ann",
        *,
        tenant_id: str = TENANT,
        agent: str = "agent",
        task_usd: str | None = None,
    ) -> Head:
        """A session that this runner holds already."""
        now = iso(self.clock.now())
        return Head(
            tenant_id=tenant_id,
            session_id=session_id,
            user_id=user_id,
            role="user",
            agent=agent,
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

        def write(admitted: Admitted) -> Head:
            reserved = Reserved(admitted.reservation, admitted.terms.caps, "test")
            change = running.begin_call(head, self.clock.now(), (), reserved, first_attempt=True)
            after = self.sessions.commit(head, change)
            self.clamp = admitted.clamp  # Others may have been admitted just before this write.
            return after

        return self.treasury.admit(Holder.of(head), terms, want, **{"wait_seconds": 0.0, **more}, write=write)

    def mint(self, user_id: str = "ann", task_nanousd: int | None = None) -> GatewayToken:
        """A token of the gateway."""
        return self.tokens.mint(TENANT, user_id, actor="ops", task_nanousd=task_nanousd)[1]

    def spend(self, purse: Purse, want: Want, *, terms: Terms | None = None, **more: Any) -> PurseCall:
        """One more call in flight of a purse."""
        return self.purses.reserve(purse, terms or self.tenants.terms(purse.payer.tenant_id), want, **more)

    def resolve(self, call: PurseCall, spent: int, resolution: Resolution = "settled") -> bool:
        return self.purses.resolve(call, Resolved(call.reservation, resolution, spent))

    def sweep(self) -> int:
        """Doubt the calls of purses whose process is gone; how many."""
        left = [each for shard in range(keys.DUE_SHARDS) for each in self.purses.due(self.clock.now(), shard)]
        return sum(self.purses.doubt(each) for each in left if self.purses.left_behind(each))

    def settle(self, head: Head, spent: int, resolution: Resolution = "settled") -> Head:
        assert head.account.pending is not None
        resolved = Resolved(head.account.pending, resolution, spent)
        return self.sessions.commit(head, running.book(head, self.clock.now(), resolved, claims=0))


State = Literal["pending", "settled", "voided", "in_doubt"]


@dataclass(frozen=True)
class Entered:
    """One reservation as the ledger has it."""

    session_id: str
    payer: Payer
    reservation: Reservation
    state: State
    spent: int

    @property
    def reserved(self) -> int:
        return self.reservation.amount_nanousd if self.state == "pending" else 0

    @property
    def key(self) -> Key:
        return keys.call_key(self.payer.tenant_id, self.session_id, self.reservation.call)


def amend(table: Table, record: Mapping[str, Any], **changes: Any) -> None:
    """Have the ledger say something else of a call, wherever its record is."""
    for item in table.query_all(record["pk"]):
        key = Key(item["pk"], item["sk"])
        if key.sk == record["sk"]:
            table.update(Update(key, set=changes))
        elif (beside := item.get(codec.LEDGER)) is not None and beside["call"] == record["call"]:
            table.update(Update(key, set={codec.LEDGER: {**beside, **changes}}))


def counters_in(item: Mapping[str, Any]) -> dict[Key, Mapping[str, Any]]:
    """The counters of an item, each in its place."""
    found: dict[Key, Mapping[str, Any]] = {Key(item["pk"], item["sk"]): item}
    for name in item if item.get("joined") else ():
        if re.fullmatch(r"d\d\d", name):
            committed, reserved = int(item[name]), int(item[f"r{name[1:]}"])
            day = Key(item["pk"], f"{item['sk']}-{name[1:]}".replace("MONTH", "DAY"))
            found[day] = {"spent": committed - reserved, "reserved": reserved, "committed": committed}
    return found


def place_of(payer: Payer, counter: Counter) -> Key:
    """Where a counter is in books, whichever item it is in."""
    return keys.counter_key(payer, replace(counter, joined=False))


@dataclass
class Books:
    """Everything about one tenant's money that a table holds."""

    calls: list[Entered] = field(default_factory=list)
    heads: dict[str, Head] = field(default_factory=dict)
    #: What tokens may spend by their own word.
    limits: dict[str, int | None] = field(default_factory=dict)
    #: Every counter by the key of its item, shards too. Days that are in their month's item have the place that they
    #: have in items of their own.
    counters: dict[Key, Mapping[str, Any]] = field(default_factory=dict)
    #: Of those, the shards: by month and number.
    shards: dict[tuple[str, int], Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, items: Iterable[Mapping[str, Any]], tenant_id: str = TENANT) -> Books:
        books = cls()
        tenant = keys.tenant_pk(tenant_id)
        mine = [item for item in items if item["pk"] == tenant or item["pk"].startswith(f"{tenant}#")]
        by_pk = {item["pk"]: codec.head_of(item) for item in mine if item["sk"] == "HEAD"}
        books.heads = {head.session_id: head for head in by_pk.values()}
        records = ledger_of(mine)
        mine = [*(item for item in mine if not item["sk"].startswith("CALL#")), *records]
        ledger = {(item["pk"], item["sk"]) for item in records}
        in_flight = [codec.open_call(codec.flattened(dict(item))) for item in mine if item["sk"] == "HEAD"]
        mine += [item for item in in_flight if item is not None and (item["pk"], item["sk"]) not in ledger]
        for item in mine:
            pk, sk = item["pk"], item["sk"]
            if sk.startswith("CALL#"):
                stored = {name: item[name] for name in ("day", "month", *Reservation.model_fields) if name in item}
                reservation = Reservation.model_validate(stored)
                spent = int(item.get("spent_nanousd", 0))
                head = by_pk.get(pk)
                payer = payer_of(head) if head is not None else purse_call_of(dict(item)).payer
                holder = head.session_id if head is not None else str(payer.purse)
                books.calls.append(Entered(holder, payer, reservation, item["state"], spent))
            elif "spent" in item:
                found = counters_in(item)
                assert not found.keys() & books.counters.keys(), "one day in two items"
                books.counters |= found
                if "secret_sha256" in item:
                    books.limits[GatewayToken.of(item).id] = item.get("task_nanousd")
                if "shard" in item:
                    books.shards[sk.partition("#")[2], int(item["shard"])] = item
        return books

    def counter(
        self, scope: Scope, period: str, user_id: str = "ann", agent: str = "agent", tenant_id: str = TENANT
    ) -> Mapping[str, Any]:
        """The item of one counter; empty where nobody counted there."""
        return self.counters.get(place_of(Payer(tenant_id, user_id, agent), Counter(scope, period)), {})

    @property
    def spent(self) -> int:
        return sum(call.spent for call in self.calls)

    @property
    def reserved(self) -> int:
        return sum(call.reserved for call in self.calls)

    def committed(self, month: str) -> int:
        """Of the tenant, over all shards."""
        return sum(int(item["spent"]) + int(item["reserved"]) for (of, _), item in self.shards.items() if of == month)

    def check(self) -> None:
        """The counters hold what the ledger holds, to the unit and where the ledger has it, and so do the heads."""
        in_ledger: dict[Key, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for call in self.calls:
            for counter in call.reservation.counters:
                key = place_of(call.payer, counter)
                spent, reserved = in_ledger[key]
                in_ledger[key] = (spent + call.spent, reserved + call.reserved)
        held = {key: (int(item["spent"]), int(item["reserved"])) for key, item in self.counters.items()}
        # Shards are laid out before anything is counted in them.
        assert {key: amounts for key, amounts in held.items() if amounts != (0, 0)} == {
            key: amounts for key, amounts in in_ledger.items() if amounts != (0, 0)
        }
        for item in self.counters.values():
            committed = int(item["spent"]) + int(item["reserved"])
            if "shard" in item:
                assert int(item["remaining"]) == int(item["share"] or 0) - committed
            else:
                assert int(item["committed"]) == committed
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
            cap = terms.caps.cap(SHARDED.name)
            if cap is None:
                assert set(shares) == {None}
            else:
                assert sum(int(share) for share in shares) == cap

    def over(self, caps: Caps, calls: Iterable[Entered]) -> list[str]:
        """What is over its cap by these caps, of everything that the calls are counted in."""
        over: set[str] = set()
        for call in calls:
            committed = {counter.scope: self._committed(call.payer, counter) for counter in call.reservation.counters}
            if (head := self.heads.get(call.session_id)) is not None:
                committed["task"] = head.account.cost_nanousd + head.account.reserved_nanousd
            own = caps.with_task(self.limits.get(call.session_id))
            for scope, held in committed.items():
                cap = own.cap(scope, call.payer.agent)
                if cap is not None and held > cap:
                    over.add(f"{scope} of {call.payer}: {held} of {cap}")
        return sorted(over)

    def _committed(self, payer: Payer, counter: Counter) -> int:
        if counter.scope == SHARDED.name:
            return self.committed(counter.period)
        return int(self.counters[place_of(payer, counter)]["committed"])

    def check_caps(self, caps: Caps) -> None:
        """Nothing is over its cap: true of caps that were in force all the time."""
        assert self.over(caps, self.calls) == []

    def check_at_rest(self) -> None:
        """Nothing is in flight, anywhere."""
        assert {call.state for call in self.calls} <= {"settled", "voided", "in_doubt"}
        assert all(int(item["reserved"]) == 0 for item in self.counters.values())
