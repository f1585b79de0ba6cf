"""A tenant's record: what an operator has set for it, with the audit chain of those changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from turnkeeper.core import audit
from turnkeeper.core.audit import AuditKind, AuditRecord
from turnkeeper.core.errors import InvalidRequest, Unavailable
from turnkeeper.core.ledger import Shard, month_of, relayout
from turnkeeper.core.policy import Policy, Scope, TenantRecord, Terms, format_cap, terms_of
from turnkeeper.ports import ABSENT, Check, Clock, Cond, ConditionFailed, Key, Operation, Put, Table, Update
from turnkeeper.runtime.store import counters, keys

_TRIES = 50


class Tenants:
    """Reads and changes tenants' records, and keeps the shards of their counters in step with them.

    A change of plan, cap, shards or pause is one transaction over the record and all shards of the current month: the
    next call of every session, on whatever runner, is admitted by the new terms or not at all.
    """

    def __init__(self, table: Table, policy: Policy, clock: Clock) -> None:
        self._table = table
        self._policy = policy
        self._clock = clock

    def terms(self, tenant_id: str) -> Terms:
        return terms_of(self._policy, self._record(tenant_id))

    def shards(self, tenant_id: str, month: str, high: int) -> list[Shard]:
        """The shards of a month that exist."""
        items = self._table.batch_get([keys.shard_key(tenant_id, month, index) for index in range(high)])
        return [counters.shard_of(item) for item in items]

    def set(
        self,
        tenant_id: str,
        *,
        actor: str,
        plan: str | None = None,
        caps: Mapping[Scope, int | None] | None = None,
        shards: int | None = None,
        paused: bool | None = None,
    ) -> Terms:
        """Change what is given; what is ``None`` stays.

        Raises:
            InvalidRequest: policy.toml describes no such plan, or shards are out of range.
            Unavailable: others kept changing the same counters.
        """
        if plan is not None and plan not in self._policy.plans:
            raise InvalidRequest(f"policy.toml has no plan {plan!r}; it has {', '.join(sorted(self._policy.plans))}")
        if shards is not None and not 1 <= shards <= 32:
            raise InvalidRequest("a tenant's counter has 1 to 32 shards")
        changes: dict[str, Any] = {}
        if plan is not None:
            changes["plan"] = plan
        if shards is not None:
            changes["shards"] = shards
        if paused is not None:
            changes["paused"] = paused
        for _ in range(_TRIES):
            before = self._record(tenant_id)
            overrides = {**before.overrides, **(caps or {})}
            after = before.model_copy(
                update={
                    **changes,
                    "overrides": overrides,
                    "version": before.version + 1,
                    "shards_high": max(before.shards_high, shards or 0),
                }
            )
            told = {**changes, **{f"{scope}_usd": format_cap(cap) for scope, cap in (caps or {}).items()}}
            after, operations = self._audited(after, "policy_change", actor, told)
            terms = terms_of(self._policy, after)
            try:
                self._table.write([self._record_put(before, after), *operations, *self._layout(terms)])
            except ConditionFailed:
                continue  # Somebody else changed the record or moved budget: look again.
            return terms
        raise Unavailable("the tenant's counters are too busy to be changed; try again")

    def lay_out(self, terms: Terms) -> bool:
        """Make the shards of this month agree with the terms. False where another did it first or is at it."""
        tenant = terms.tenant
        unchanged = Cond("version", "=", tenant.version) if tenant.version else ABSENT
        operations = self._layout(terms)
        if not operations:
            return True
        try:
            self._table.write([Check(keys.tenant_key(tenant.tenant_id), (unchanged,)), *operations])
        except ConditionFailed:
            return False
        return True

    def audit(self, tenant_id: str, kind: AuditKind, actor: str, detail: Mapping[str, Any]) -> None:
        """Write one record onto the tenant's own chain."""
        for _ in range(_TRIES):
            before = self._record(tenant_id)
            after = before.model_copy(update={"version": before.version + 1})
            after, operations = self._audited(after, kind, actor, detail)
            try:
                self._table.write([self._record_put(before, after), *operations])
            except ConditionFailed:
                continue
            return
        raise Unavailable("the tenant's record is too busy to be changed; try again")

    def _record(self, tenant_id: str) -> TenantRecord:
        item = self._table.get(keys.tenant_key(tenant_id))
        if item is None:
            return TenantRecord(tenant_id=tenant_id)
        return TenantRecord.model_validate({name: item[name] for name in TenantRecord.model_fields if name in item})

    def _record_put(self, before: TenantRecord, after: TenantRecord) -> Put:
        unchanged = Cond("version", "=", before.version) if before.version else ABSENT
        return Put(keys.tenant_key(after.tenant_id), after.model_dump(mode="json"), (unchanged,))

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
        return record.model_copy(update={"audit_seq": written.seq, "audit_hash": written.hash}), [put]

    def _layout(self, terms: Terms) -> list[Operation]:
        """What brings the shards of this month in line: one operation for each shard that is not."""
        tenant, caps = terms.tenant, terms.caps
        month = month_of(self._clock.now())
        shard_keys = [keys.shard_key(tenant.tenant_id, month, index) for index in range(tenant.shards_high)]
        items = {int(item["shard"]): item for item in self._table.batch_get(shard_keys)}
        known = [counters.shard_of(item) for item in items.values()]
        wanted = relayout(known, caps.tenant_monthly, tenant.shards)
        operations: list[Operation] = []
        for shard in wanted:
            key = keys.shard_key(tenant.tenant_id, month, shard.index)
            item = items.get(shard.index)
            if item is None:
                operations.append(
                    Put(key, counters.shard_item(shard, caps, paused=tenant.paused), (ABSENT,)),
                )
            else:
                operations.append(_change(key, item, shard, terms))
        return operations


def _change(key: Key, item: Mapping[str, Any], shard: Shard, terms: Terms) -> Update:
    """Deal a shard anew. Traffic goes on meanwhile, so the share moves by a difference; an open shard must not end in
    the red, since then the others could admit what it has over-committed."""
    attributes = {"caps": terms.caps.fingerprint, "paused": terms.tenant.paused, "closed": shard.closed}
    same_share = Cond("share", "=", item.get("share"))
    if shard.share is None or item.get("share") is None:
        # To or from unlimited: nothing may be in between, or ``remaining`` would not be what it says.
        remaining = shard.remaining if shard.remaining is not None else 0
        still = (Cond("spent", "=", shard.spent), Cond("reserved", "=", shard.reserved), same_share)
        return Update(key, set={**attributes, "share": shard.share, "remaining": remaining}, conditions=still)
    by = shard.share - int(item["share"])
    holds = () if shard.closed else (Cond("remaining", ">=", -by),)
    return Update(
        key,
        set=attributes,
        add={"share": by, "remaining": by} if by else {},
        conditions=(same_share, Cond("caps", "=", item["caps"]), *holds),
    )


def audit_item(record: AuditRecord) -> dict[str, Any]:
    """The attributes of an audit record's item: the record itself, readable in the table. Large arguments are cut by
    whoever makes the record."""
    return record.model_dump(mode="json", exclude_none=True)


def audit_records(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Stored audit items as :func:`turnkeeper.core.audit.verify` takes them."""
    return [{name: value for name, value in item.items() if name not in {"pk", "sk"}} for item in items]
