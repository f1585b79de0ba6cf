"""The spend report: what was spent, told apart by tenant, user, agent, version, model or day, from the ledger's calls.

For operators, on their own credentials: nothing that is deployed imports it. It reads what a span may touch and no
more: the heads of a tenant's sessions that were begun before it ended, and the calls of those that were written since
it began. Calls are added up as they come; what is kept grows with users, days and rows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any

from turnkeeper.core.ledger import Amounts, Counter, Payer
from turnkeeper.core.periods import first_day, period_of
from turnkeeper.core.policy import Terms
from turnkeeper.core.reconciling import Used
from turnkeeper.core.scopes import SHARDED
from turnkeeper.core.spending import By, Difference, LedgerCall, LedgerSums, Tally, call_of, differences
from turnkeeper.ports import Clock, Prices
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.counters import KEEP_DAYS, held
from turnkeeper.runtime.store.lists import Lists
from turnkeeper.runtime.store.records import open_calls, stored_ledger
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.table import Key, Table

#: Where the index by status has all tokens of the gateway. Each holds calls of its own, as a session does.
TOKENS = "TOKENS"
#: A day of a tenant's is at most this far from the same day in UTC, by a clock that may be off.
_MARGIN = timedelta(days=2)
#: The ledger is read again where it does not agree with the counters: calls may have gone on meanwhile, and a session
#: that was just begun is in the index a moment later.
_READS = 3
_PAUSE_SECONDS = 1.0


@dataclass
class Spending:
    """A report. ``first`` and ``last`` are days of each tenant's own time zone, both included."""

    by: By
    first: date
    last: date
    rows: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    #: Counters that were held against the ledger, and those that differ.
    checked: int = 0
    differences: list[Difference] = field(default_factory=list)
    #: It was read more than once, because calls went on meanwhile.
    moving: bool = False
    #: Months whose counters are gone by now: nobody can tell any more.
    expired: set[str] = field(default_factory=set)

    @property
    def total(self) -> Tally:
        total = Tally()
        for row in self.rows.values():
            total.merge(row)
        return total


class Reports:
    def __init__(self, table: Table, tenants: Tenants, clock: Clock) -> None:
        self._table = table
        self._lists = Lists(table)
        self._tenants = tenants
        self._clock = clock

    def tenant_ids(self) -> list[str]:
        """Everybody who ever had a session or a token, by name. Reads all of an index that has a few words of each
        session."""
        owners = {keys.tenant_of_list(partition) for partition in self._table.partitions("by_tenant")}
        owners |= {owner[0] for key in self._tokens() if (owner := keys.session_of_pk(key.pk)) is not None}
        return sorted(owner for owner in owners if owner is not None)

    def calls(self, tenant_id: str, first: date, last: date) -> Iterator[LedgerCall]:
        """The calls of each session that may have had one between these days; others of the same sessions with them."""
        since = (first - _MARGIN).isoformat()
        for holder in chain(
            self._lists.holders(tenant_id, until=(last + _MARGIN).isoformat()),
            self._table.batch_get([key for key in self._tokens() if key.pk.startswith(keys.session_pk(tenant_id, ""))]),
        ):
            if str(holder.get("updated_at") or "~") >= since:
                records = stored_ledger(self._table, holder["pk"])
                for record in (*records, *open_calls(holder, records)):
                    yield call_of(record, {"tenant_id": tenant_id, **holder})

    def _tokens(self) -> Iterator[Key]:
        cursor = None
        while True:
            page = self._table.query(TOKENS, index="by_status", cursor=cursor)
            yield from (Key(item["pk"], item["sk"]) for item in page.items)
            if (cursor := page.cursor) is None:
                return

    def spend(
        self, tenant_ids: Iterable[str], by: By, first: date | None, last: date | None, *, of_many: bool
    ) -> Spending:
        """What these tenants spent, of ``of_many`` where their users are to be told apart. Without days: this month so
        far. All of the months that it touches is held against the counters, whatever part of them it tells."""
        report: Spending | None = None
        for tenant_id in tenant_ids:
            terms = self._tenants.terms(tenant_id)
            until = last or self._today(terms)
            since = first or min(until, first_day(until.isoformat()[:7]))
            if since > until:  # where this tenant is, the first day has not come yet
                one = Spending(by, since, since)
            else:
                one = self._of_tenant(terms, since, until, by, of_many=of_many)
            if report is None:
                report = one
                continue
            report.first, report.last = min(report.first, one.first), max(report.last, one.last)
            report.checked += one.checked
            report.moving |= one.moving
            report.differences += one.differences
            report.expired |= one.expired
            for key, row in one.rows.items():
                report.rows[key].merge(row)
        today = self._clock.now().date()
        return report or Spending(by, first or (last or today).replace(day=1), last or today)

    def _today(self, terms: Terms) -> date:
        return date.fromisoformat(period_of("day", self._clock.now(), terms.caps.timezone))

    def _of_tenant(self, terms: Terms, first: date, last: date, by: By, *, of_many: bool) -> Spending:
        months = _months(first, last)
        oldest = (self._clock.now().date() - timedelta(days=KEEP_DAYS - _MARGIN.days)).isoformat()
        kept = {month for month in months if first_day(month).isoformat() > oldest}

        before: dict[tuple[Payer, Counter], Amounts] | None = None
        for read in range(1, _READS + 1):
            sums = LedgerSums()
            report = Spending(by, first, last, expired=months - kept)
            for call in self.calls(terms.tenant.tenant_id, first_day(min(months)), _last_day(max(months))):
                if call.day[:7] in kept:
                    sums.add(call)
                if first.isoformat() <= call.day <= last.isoformat():
                    report.rows[call.key(by, of_many=of_many)].add(call)
            held = self._held(terms, kept, sums.sums)
            report.checked, report.moving = len(held), before is not None
            report.differences = differences(sums, held, before)
            if not report.differences or read == _READS:
                return report
            before = held
            self._clock.sleep(_PAUSE_SECONDS)
        raise AssertionError("the last read is an answer")

    def _held(
        self, terms: Terms, months: set[str], in_ledger: Iterable[tuple[Payer, Counter]]
    ) -> dict[tuple[Payer, Counter], Amounts]:
        """What the counters hold: those of the ledger's calls, and all shards of the tenant's months, where money would
        be whose call nobody found."""
        tenant = terms.tenant
        payer = Payer(tenant.tenant_id, "", None)
        at = set(in_ledger)
        for month in months:
            at |= {(payer, Counter(SHARDED.name, month, shard)) for shard in range(tenant.shards_high)}
        key_of = {each: keys.counter_key(*each) for each in at}
        found = {Key(item["pk"], item["sk"]): item for item in self._table.batch_get(list(set(key_of.values())))}
        return {each: held(each[1], found.get(key)) for each, key in key_of.items()}


def priced(used: Used, prices: Prices) -> Decimal:
    """Nano-dollars of tokens of many calls. A price goes by the length of each call, so each kind of token is priced by
    itself, at a length that the calls had.

    Raises:
        UnpricedModel: nobody here can price the model, or calls of this kind.
    """
    kind = {"service_tier": used.service_tier, "inference_geo": used.inference_geo, "speed": used.speed}
    length = 1_000_000 if used.long_context else 100_000

    def cost(usage: Mapping[str, Any]) -> int:
        return prices.cost_nanousd(used.model, {**usage, **kind}, {})

    def each(usage: Mapping[str, Any]) -> Decimal:
        return Decimal(cost(usage)) / length

    usage = used.usage
    for_an_hour = {"cache_creation": {"ephemeral_1h_input_tokens": length}, "cache_creation_input_tokens": length}
    read = {"input_tokens": length} if used.long_context else {}
    written = Decimal(cost({**read, "output_tokens": 1_000_000}) - (cost(read) if read else 0)) / 1_000_000
    searched = cost({"server_tool_use": {"web_search_requests": used.searches}}) if used.searches else 0
    return (
        usage.input_tokens * each({"input_tokens": length})
        + usage.cache_read_input_tokens * each({"cache_read_input_tokens": length})
        + (usage.cache_creation_input_tokens - used.written_for_an_hour) * each({"cache_creation_input_tokens": length})
        + used.written_for_an_hour * each(for_an_hour)
        + usage.output_tokens * written
        + searched
    )


def _months(first: date, last: date) -> set[str]:
    months = set()
    while first <= last:
        months.add(first.isoformat()[:7])
        first = (first.replace(day=1) + timedelta(days=32)).replace(day=1)
    return months


def _last_day(month: str) -> date:
    return (first_day(month) + timedelta(days=32)).replace(day=1) - timedelta(days=1)


__all__ = ["Reports", "Spending", "priced"]
