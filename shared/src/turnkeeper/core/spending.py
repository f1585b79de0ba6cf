"""What the ledger's calls add up to, and whether the counters say the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from turnkeeper.core.ledger import Amounts, Counter, Payer, counters_of
from turnkeeper.core.scopes import SCOPES, Scope
from turnkeeper.core.usage import Usage

#: What calls are told apart by.
By = Literal["tenant", "user", "agent", "version", "model", "day"]
#: Where nobody says.
UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class LedgerCall:
    """One call as the ledger has it: what was reserved for it, and what became of that."""

    tenant_id: str
    #: The session whose call it is.
    session_id: str
    user_id: str
    #: ``None`` where neither the record nor its session says.
    agent: str | None
    version: str | None
    model: str
    #: ``pending``, ``settled``, ``voided`` or ``in_doubt``.
    state: str
    amount_nanousd: int
    spent_nanousd: int
    usage: Usage
    #: The scopes in whose counters it is, each with its day or month, in the tenant's time zone of then.
    periods: Mapping[Scope, str]
    shard: int
    #: See :class:`turnkeeper.core.ledger.Reservation`.
    joined: bool
    #: When it was reserved, and when that was resolved: UTC, ISO 8601.
    at: str
    resolved_at: str | None
    request_id: str | None
    error: str | None
    #: The record itself names its agent, as those of earlier versions did not.
    names_agent: bool

    @property
    def reserved_nanousd(self) -> int:
        return self.amount_nanousd if self.state == "pending" else 0

    @property
    def in_doubt_nanousd(self) -> int:
        return self.spent_nanousd if self.state == "in_doubt" else 0

    @property
    def day(self) -> str:
        """The day that it counts in, which is the tenant's."""
        return self.periods.get("user_daily") or self.at[:10]

    @property
    def counters(self) -> Iterator[tuple[Payer, Counter]]:
        """The counters that it is in, each with as much of the payer as tells it from others."""
        for counter in counters_of(self.periods, self.shard, joined=self.joined):
            holder = SCOPES[counter.scope].holder
            user, agent = self.user_id if holder == "user" else "", self.agent if holder == "agent" else None
            yield Payer(self.tenant_id, user, agent), counter

    def key(self, by: By, *, of_many: bool = False) -> str:
        """What it is listed under; ``of_many`` tenants, whose users may be called alike."""
        match by:
            case "tenant":
                return self.tenant_id
            case "user":
                # A '/' in a tenant's name would make two people one.
                tenant = self.tenant_id.replace("%", "%25").replace("/", "%2F")
                return f"{tenant}/{self.user_id}" if of_many else self.user_id
            case "agent":
                return self.agent or UNKNOWN
            case "version":
                return f"{self.agent or UNKNOWN}@{self.version or UNKNOWN}"
            case "model":
                return self.model
            case "day":
                return self.day


def call_of(record: Mapping[str, Any], holder: Mapping[str, Any]) -> LedgerCall:
    """A call from its record and the head of what holds it, both as they are stored, by whatever version.

    Where a record does not name its agent or version, as those of earlier versions do not, they are those that the
    session has now.
    """
    # 0.1.0 stored a day and a month, and always reserved in the same three counters.
    day, month = record.get("day"), record.get("month")
    periods = record.get("periods") or {"user_daily": day, "user_monthly": month, "tenant_monthly": month}
    names_agent = "agent" in record
    return LedgerCall(
        tenant_id=holder["tenant_id"],
        session_id=str(holder.get("session_id") or record["pk"].rpartition("#")[2]),
        user_id=str(holder.get("user_id") or record.get("user") or UNKNOWN),
        agent=record.get("agent") if names_agent else holder.get("agent"),
        version=record.get("version") or holder.get("version"),
        model=str(record.get("model") or UNKNOWN),
        state=str(record["state"]),
        amount_nanousd=int(record["amount_nanousd"]),
        spent_nanousd=int(record.get("spent_nanousd") or 0),
        usage=Usage.of(record.get("usage")),
        # A later version may count in scopes that this one does not know.
        periods={scope: str(periods[scope]) for scope in SCOPES if periods.get(scope)},
        shard=int(record.get("shard") or 0),
        joined=bool(record.get("joined")),
        at=str(record["at"]),
        resolved_at=record.get("resolved_at"),
        request_id=record.get("request_id"),
        error=record.get("error"),
        names_agent=names_agent,
    )


@dataclass(slots=True)
class Tally:
    """What some calls add up to."""

    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    settled_nanousd: int = 0
    in_doubt_nanousd: int = 0
    voided: int = 0
    reserved_nanousd: int = 0

    @property
    def total_nanousd(self) -> int:
        """What counters call spent."""
        return self.settled_nanousd + self.in_doubt_nanousd

    def add(self, call: LedgerCall) -> None:
        self.calls += 1
        self.usage += call.usage
        self.settled_nanousd += call.spent_nanousd - call.in_doubt_nanousd
        self.in_doubt_nanousd += call.in_doubt_nanousd
        self.voided += call.state == "voided"
        self.reserved_nanousd += call.reserved_nanousd

    def merge(self, other: Tally) -> None:
        self.calls += other.calls
        self.usage += other.usage
        self.settled_nanousd += other.settled_nanousd
        self.in_doubt_nanousd += other.in_doubt_nanousd
        self.voided += other.voided
        self.reserved_nanousd += other.reserved_nanousd


# ---- held against the counters ----


NOTHING = Amounts()
#: By whose counter it is.
Sums = Mapping[tuple[Payer, Counter], Amounts]


@dataclass(frozen=True, slots=True)
class Difference:
    """A counter that does not hold what the calls in it add up to."""

    payer: Payer
    counter: Counter
    ledger: Amounts
    held: Amounts

    def __str__(self) -> str:
        scope = self.counter.scope
        whose = {"user": f" of user {self.payer.user_id}", "agent": f" of agent {self.payer.agent}"}
        shard = f", shard {self.counter.shard}" if SCOPES[scope].sharded else ""
        return f"{scope} {self.counter.period} of tenant {self.payer.tenant_id}" + (
            f"{whose.get(SCOPES[scope].holder, '')}{shard}"
        )


class LedgerSums:
    """What calls add up to in each counter that they are in. Grows with users and days, not with calls."""

    def __init__(self) -> None:
        self.sums: dict[tuple[Payer, Counter], Amounts] = defaultdict(Amounts)
        #: Days whose agents cannot be told for certain: records of an earlier version do not name theirs, and it may
        #: have been renamed.
        self.unsure: set[tuple[Scope, str]] = set()

    def add(self, call: LedgerCall) -> None:
        for at in call.counters:
            counter = at[1]
            if SCOPES[counter.scope].holder == "agent" and not call.names_agent:
                self.unsure.add((counter.scope, counter.period))
            held = self.sums[at]
            self.sums[at] = Amounts(held.spent + call.spent_nanousd, held.reserved + call.reserved_nanousd)


def differences(ledger: LedgerSums, held: Sums, before: Sums | None) -> list[Difference]:
    """Counters that differ from the ledger. ``held`` was read after the ledger, ``before`` before it, if at all: where
    a counter has moved between the two, calls went on, and the ledger has to be between them."""
    found = []
    for at in sorted(ledger.sums.keys() | held.keys(), key=repr):
        payer, counter = at
        if (counter.scope, counter.period) in ledger.unsure:
            continue
        mine, now = ledger.sums.get(at, NOTHING), held.get(at, NOTHING)
        earlier = now if before is None else before.get(at, NOTHING)
        between = earlier != now and earlier.spent <= mine.spent <= now.spent
        if mine != now and not between:
            found.append(Difference(payer, counter, mine, now))
    return found
