"""A tenant's record: what an operator has set for it, with the audit chain of those changes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import timedelta
from typing import Any

from turnkeeper.core import audit
from turnkeeper.core.audit import AuditKind, AuditRecord
from turnkeeper.core.caps import Caps
from turnkeeper.core.errors import InvalidRequest, Unavailable
from turnkeeper.core.ledger import Shard, relayout
from turnkeeper.core.periods import UTC_NAME, period_of
from turnkeeper.core.policy import Policy, TenantChange, TenantRecord, Terms, terms_of
from turnkeeper.core.scopes import SHARDED, Scope
from turnkeeper.ports import Clock
from turnkeeper.runtime.store import counters, keys
from turnkeeper.table import ABSENT, EXISTS, Check, Cond, ConditionFailed, Item, Key, Operation, Put, Table, Update

_MAX_TRIES = 50
#: How far before and after now, in UTC, a runner's local time may be: it goes by the time zone that it knows for the
#: tenant, UTC-12 to UTC+14, and its clock may be an hour off. The zone may just have been changed.
_BEHIND, _AHEAD = timedelta(hours=12 + 1), timedelta(hours=14 + 1)


class Tenants:
    """Reads and changes tenants' records, and keeps the shards of their counters in step with them.

    A change of plan, cap, time zone, shards or pause is one transaction over the record and all shards of the current
    month: the next call of every session, on whatever runner, is admitted by the new terms or not at all.
    """

    def __init__(self, table: Table, policy: Policy, clock: Clock) -> None:
        self._table = table
        self._policy = policy
        self._clock = clock

    def terms(self, tenant_id: str) -> Terms:
        return terms_of(self._policy, self._record(tenant_id))

    def terms_beside(self, tenant_id: str, others: Sequence[Key]) -> tuple[Terms, list[Item | None]]:
        """The terms, and other items that are wanted with them, in one read."""
        tenant_key = keys.tenant_key(tenant_id)
        found = {(item["pk"], item["sk"]): item for item in self._table.batch_get([tenant_key, *others])}
        terms = terms_of(self._policy, _record_of(tenant_id, found.get(tenant_key)))
        return terms, [found.get(key) for key in others]

    def shard_items(self, terms: Terms, period: str) -> list[Item]:
        """The shards of a month that exist."""
        tenant = terms.tenant
        return self._table.batch_get(
            [keys.shard_key(tenant.tenant_id, period, index) for index in range(tenant.shards_high)]
        )

    def set(
        self,
        tenant_id: str,
        *,
        actor: str,
        plan: str | None = None,
        caps: Mapping[Scope, int | None] | None = None,
        from_plan: Collection[Scope] = (),
        shards: int | None = None,
        paused: bool | None = None,
        timezone: str | None = None,
    ) -> Terms:
        """Change what is not ``None``. Caps of the scopes in ``from_plan`` are the plan's again, and so is the time
        zone ``"plan"``.

        Raises:
            InvalidRequest: policy.toml describes no such plan, there is no such time zone, or shards are out of range.
            Unavailable: others kept changing the same counters.
        """
        if plan is not None and plan not in self._policy.plans:
            raise InvalidRequest(f"policy.toml has no plan {plan!r}; it has {', '.join(sorted(self._policy.plans))}")
        change = TenantChange(
            plan=plan, caps=caps, from_plan=from_plan, shards=shards, paused=paused, timezone=timezone
        )
        for tries in range(_MAX_TRIES):
            self._clock.sleep(min(0.01 * tries, 0.2))
            before = self._record(tenant_id)
            after, operations = self._audited(change.applied(before), "policy_change", actor, change.detail())
            terms = terms_of(self._policy, after)
            try:
                self._table.write([self._record_put(before, after), *operations, *self._layouts(terms)])
            except ConditionFailed:
                continue  # Somebody else changed the record or moved budget: look again.
            return terms
        raise Unavailable("the tenant's counters are too busy to be changed; try again")

    def lay_out(self, terms: Terms) -> bool:
        """Make the shards of this month agree with the terms. False where another did it first or is at it."""
        tenant = terms.tenant
        unchanged = Cond("version", "=", tenant.version) if tenant.version else ABSENT
        layout = self._layout(terms, terms.caps.period(SHARDED.name, self._clock.now()))
        if layout.in_line:
            return True
        try:
            self._table.write([Check(keys.tenant_key(tenant.tenant_id), (unchanged,)), *layout.operations])
        except ConditionFailed:
            return False
        return True

    def audit(
        self, tenant_id: str, kind: AuditKind, actor: str, detail: Mapping[str, Any], *, deed: Operation | None = None
    ) -> None:
        """Write one record onto the tenant's own chain, with the deed that it is about in the same write.

        Raises:
            ConditionFailed: the deed's own condition does not hold; nothing was written.
        """
        for _ in range(_MAX_TRIES):
            before = self._record(tenant_id)
            after, operations = self._audited(replace(before, version=before.version + 1), kind, actor, detail)
            try:
                record = [self._record_put(before, after), *operations]
                self._table.write([*record, *([deed] if deed is not None else [])])
            except ConditionFailed as failed:
                if len(record) in failed.failures:
                    raise
                continue
            return
        raise Unavailable("the tenant's record is too busy to be changed; try again")

    def _record(self, tenant_id: str) -> TenantRecord:
        return _record_of(tenant_id, self._table.get(keys.tenant_key(tenant_id)))

    def _record_put(self, before: TenantRecord, after: TenantRecord) -> Put:
        unchanged = Cond("version", "=", before.version) if before.version else ABSENT
        return Put(keys.tenant_key(after.tenant_id), asdict(after), (unchanged,))

    def _audited(
        self, record: TenantRecord, kind: AuditKind, actor: str, detail: Mapping[str, Any]
    ) -> tuple[TenantRecord, list[Operation]]:
        written = audit.chain(
            record.audit_hash or audit.genesis(record.tenant_id, None),
            AuditRecord(
                tenant_id=record.tenant_id,
                seq=record.audit_seq + 1,
                at=self._clock.now(),
                kind=kind,
                actor=actor,
                detail=dict(detail),
            ),
        )
        put = Put(keys.audit_key(record.tenant_id, None, written.seq), audit_item(written), (ABSENT,))
        return replace(record, audit_seq=written.seq, audit_hash=written.hash or ""), [put]

    def _layouts(self, terms: Terms) -> list[Operation]:
        """What a changed record does to the shards of this month, and near its ends to those of the month before or
        after it: runners whose clock or time zone differs may be there, or may come to it before this is written."""
        now = self._clock.now()
        current = terms.caps.period(SHARDED.name, now)
        operations = list(self._layout(terms, current).operations)
        anywhere = {period_of(SHARDED.period, moment, UTC_NAME) for moment in (now - _BEHIND, now, now + _AHEAD)}
        for period in sorted(anywhere - {current}):
            if self.shard_items(terms, period):
                operations.extend(self._layout(terms, period).operations)
            else:
                # Nobody may lay it out by the old record meanwhile. All shards of a month are made at once.
                operations.append(Check(keys.shard_key(terms.tenant.tenant_id, period, 0), (ABSENT,)))
        return operations

    def _layout(self, terms: Terms, period: str) -> Layout:
        """What brings the shards of a month in line with the terms: one operation for each."""
        tenant, caps = terms.tenant, terms.caps
        shard_keys = [keys.shard_key(tenant.tenant_id, period, index) for index in range(tenant.shards_high)]
        items = {int(item["shard"]): item for item in self.shard_items(terms, period)}
        if tenant.paused and items:
            # The kill switch must not have to wait for money to hold still: a shard that admits nothing may keep its
            # share, whatever the caps are by now. Unpausing deals anew.
            return Layout(
                all(item["paused"] for item in items.values()),
                tuple(Update(shard_keys[i], set={"paused": True}, conditions=(EXISTS,)) for i in items),
            )
        wanted = relayout([counters.shard_of(item) for item in items.values()], caps.cap(SHARDED.name), tenant.shards)
        if all(shard.index in items and _is_dealt(items[shard.index], shard, caps) for shard in wanted):
            return Layout(
                not any(item["paused"] for item in items.values()),
                tuple(_unpause(shard_keys[shard.index], shard, caps) for shard in wanted),
            )
        all_closed = all(shard.closed for shard in wanted)
        return Layout(
            False,
            tuple(
                _change(shard_keys[shard.index], items[shard.index], shard, caps, all_closed=all_closed)
                if shard.index in items
                else Put(
                    shard_keys[shard.index],
                    counters.shard_item(shard, caps, period, paused=tenant.paused),
                    (ABSENT,),
                )
                for shard in wanted
            ),
        )


def _record_of(tenant_id: str, item: Item | None) -> TenantRecord:
    if item is None:
        return TenantRecord(tenant_id=tenant_id)
    return TenantRecord(**{field.name: item[field.name] for field in fields(TenantRecord) if field.name in item})


@dataclass(frozen=True, slots=True)
class Layout:
    #: They agree with the terms already; writing the operations all the same fails where that has changed.
    in_line: bool
    operations: tuple[Operation, ...]


def _is_dealt(item: Mapping[str, Any], shard: Shard, caps: Caps) -> bool:
    """Whether the item was dealt by these caps. Its share may be another by now: budget moves between shards."""
    return bool(item["caps"] == caps.fingerprint and item["closed"] == shard.closed)


def _unpause(key: Key, shard: Shard, caps: Caps) -> Update:
    same = (Cond("caps", "=", caps.fingerprint), Cond("closed", "=", shard.closed))
    return Update(key, set={"paused": False}, conditions=same)


def _change(key: Key, item: Mapping[str, Any], shard: Shard, caps: Caps, *, all_closed: bool) -> Update:
    """Deal a shard anew. Calls go on meanwhile, so ``remaining`` moves by a difference. What was admitted since the
    shard was read must not take it below nothing, or the other shards would spend that much once more; where all of
    them close, none of them spends anything."""
    before = item.get("share")
    by = (shard.share or 0) - (int(before) if before is not None else 0)
    conditions = [Cond("share", "=", before), Cond("caps", "=", item["caps"])]
    if shard.share is not None and not all_closed:
        conditions.append(Cond("remaining", ">=", -by))
    return Update(
        key,
        set={"caps": caps.fingerprint, "paused": False, "closed": shard.closed, "share": shard.share},
        add={"remaining": by} if by else {},
        conditions=tuple(conditions),
    )


def audit_item(record: AuditRecord) -> dict[str, Any]:
    """The attributes of an audit record's item: the record itself, readable in the table. Large arguments are cut by
    whoever makes the record."""
    return audit.as_stored(record)


def audit_records(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stored audit items as :func:`turnkeeper.core.audit.verify` takes them."""
    return [{name: value for name, value in item.items() if name not in {"pk", "sk"}} for item in items]
