"""The ledger: money is reserved in every scope at once before a call, and settled after it.

One counter holds what a scope has ``spent`` (settled and in_doubt) and ``reserved`` (pending). The tenant's counter is
split in shards, each with a ``share`` of the cap; the shares add up to the cap at every moment, and budget moves
between shards when one runs dry. Vocabulary after TigerBeetle's two-phase transfers.

A reservation lives so::

    pending ── settled    the call answered: its actual cost, the rest released
           ├── voided     the call certainly cost nothing
           └── in_doubt   nobody knows: its full amount counts as spent
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from turnkeeper.core.errors import CostCapExceeded
from turnkeeper.core.scopes import DAYS_IN_MONTHS, SCOPES, Scope

Resolution = Literal["settled", "voided", "in_doubt"]

MTOK = 1_000_000


class Payer(NamedTuple):
    """Whose money a call spends: the tenant, user and agent of its session, which never change. ``agent`` is ``None``
    where no agent's counter is asked for, and for who is no agent."""

    tenant_id: str
    user_id: str
    agent: str | None
    #: The token or session that its task's money is counted of, in an item of its own, since many calls of it are in
    #: flight at a time; ``None`` where a session's head counts it.
    purse: str | None = None


@dataclass(frozen=True, slots=True)
class Counter:
    """One counter of a payer: a scope, the day or month as its time zone names it, and the shard where it has some."""

    scope: Scope
    period: str
    shard: int = 0
    #: A holder's day and month that are one item: the month's.
    joined: bool = False

    @property
    def month(self) -> str | None:
        """Of a day that is counted in the item of its month, that month."""
        return self.period[:7] if self.joined and self.scope in DAYS_IN_MONTHS else None


def counters_of(periods: Mapping[Scope, str], shard: int, *, joined: bool) -> tuple[Counter, ...]:
    """The counters that a call with these periods is in, in the order of scopes."""
    in_one_item = {*DAYS_IN_MONTHS, *DAYS_IN_MONTHS.values()} if joined else set()
    return tuple(
        Counter(scope, periods[scope], shard if row.sharded else 0, scope in in_one_item)
        for scope, row in SCOPES.items()
        if scope in periods
    )


class Reservation(BaseModel):
    """Money set aside for one model call, in every scope at once, until it is settled, voided or in_doubt."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    #: Number of the call in its session: the ledger's key.
    call: int
    amount_nanousd: int
    model: str
    max_tokens: int
    #: The scopes whose counters hold the money, each with its day or month. It is settled in these, and no others:
    #: caps and time zones may have changed by then.
    periods: dict[Scope, str]
    #: Shard of the one counter that has shards.
    shard: int
    at: str
    #: Its user's day is counted in the item of the month, because that month was begun so.
    joined: bool = False

    @model_serializer(mode="wrap")
    def _without_default(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Releases that know no other form than two items refuse a field that they do not know."""
        fields: dict[str, Any] = handler(self)
        if not self.joined:
            fields.pop("joined", None)
        return fields

    @model_validator(mode="before")
    @classmethod
    def _from_day_and_month(cls, value: Any) -> Any:
        """Version 0.1.0 stored a ``day`` and a ``month``, and always reserved in the same three counters."""
        if not isinstance(value, Mapping) or "periods" in value:
            return value
        rest = {name: field for name, field in value.items() if name not in {"day", "month"}}
        day, month = value.get("day"), value.get("month")
        return {**rest, "periods": {"user_daily": day, "user_monthly": month, "tenant_monthly": month}}

    @property
    def counters(self) -> tuple[Counter, ...]:
        return counters_of(self.periods, self.shard, joined=self.joined)


@dataclass(frozen=True, slots=True)
class Amounts:
    """Nano-dollars: what a counter holds, or what the calls in it add up to."""

    spent: int = 0
    reserved: int = 0


@dataclass(frozen=True, slots=True)
class Movement:
    """What one write does to one counter. ``admits``: it takes a reservation, so the counter's cap must hold after."""

    counter: Counter
    spent: int = 0
    reserved: int = 0
    admits: bool = False

    @property
    def committed(self) -> int:
        """How much more the counter holds afterwards, spent and reserved together."""
        return self.spent + self.reserved


def reserve(reservation: Reservation) -> list[Movement]:
    return [Movement(counter, reserved=reservation.amount_nanousd, admits=True) for counter in reservation.counters]


def resolve(reservation: Reservation, spent_nanousd: int) -> list[Movement]:
    """Release a reservation and book what was spent of it, where it was reserved."""
    return [
        Movement(counter, spent=spent_nanousd, reserved=-reservation.amount_nanousd) for counter in reservation.counters
    ]


# ---- what a call may cost ----


def bound_nanousd(input_tokens: int, max_tokens: int, input_rate: int, output_rate: int, fixed: int = 0) -> int:
    """Upper bound of a call's cost, from rates in nano-dollars a million tokens; rounded up."""
    return -(-input_tokens * input_rate // MTOK) + -(-max_tokens * output_rate // MTOK) + fixed


def affordable_tokens(budget_nanousd: int, input_tokens: int, input_rate: int, output_rate: int, fixed: int = 0) -> int:
    """The largest ``max_tokens`` whose bound fits the budget; negative where not even the input does."""
    left = budget_nanousd - bound_nanousd(input_tokens, 0, input_rate, output_rate, fixed)
    if left < 0:
        return -1
    return left * MTOK // output_rate if output_rate else MTOK


def useful_tokens(wanted: int) -> int:
    """Below this many output tokens a call is refused rather than clamped: it would only be cut off."""
    return min(wanted, 256)


# ---- what a scope says when it does not admit ----


@dataclass(frozen=True, slots=True)
class ScopeState:
    """A scope as it stood when it was looked at, all its shards together."""

    scope: Scope
    cap: int | None
    spent: int
    reserved: int
    resets_at: str | None = None
    #: Whose counter it is, where agents have one each.
    agent: str | None = None

    @property
    def available(self) -> int | None:
        return None if self.cap is None else self.cap - self.spent - self.reserved

    @property
    def unspent(self) -> int | None:
        return None if self.cap is None else self.cap - self.spent


def refusing_scope(states: Sequence[ScopeState], needed: int) -> tuple[ScopeState, bool] | None:
    """Which scope stands in the way of ``needed`` and whether only reservations do (contended), or ``None``.

    A scope whose money is spent comes before one that is merely contended: waiting would not help.
    """
    blocking = [state for state in states if state.available is not None and state.available < needed]
    if not blocking:
        return None
    exhausted = [state for state in blocking if (state.unspent or 0) < needed]
    if exhausted:
        return min(exhausted, key=lambda state: state.unspent or 0), False
    return min(blocking, key=lambda state: state.available or 0), True


class Clamp(NamedTuple):
    """A cap made a call smaller than it wants to be. ``refusal`` is what the larger call would have met."""

    refusal: CostCapExceeded
    max_tokens: int
    wanted: int

    @property
    def detail(self) -> dict[str, Any]:
        """The fields of a 402, and both numbers of tokens."""
        return {**self.refusal.data, "clamped_max_tokens": self.max_tokens, "wanted_max_tokens": self.wanted}


# ---- shards ----


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of the tenant's counter. ``share`` is ``None`` where there is no cap; ``closed`` shards admit nothing,
    but still take settlements and give their budget away."""

    index: int
    share: int | None
    spent: int = 0
    reserved: int = 0
    closed: bool = False

    @property
    def remaining(self) -> int | None:
        return None if self.share is None else self.share - self.spent - self.reserved


class Move(NamedTuple):
    """Budget from one shard to another. Only what is neither spent nor reserved can move."""

    source: int
    target: int
    amount: int


def split(cap: int, shards: int) -> list[int]:
    """Shares that differ by at most one unit and add up to the cap."""
    base, extra = divmod(cap, shards)
    return [base + (1 if index < extra else 0) for index in range(shards)]


def moves_into(shards: Sequence[Shard], target: int, wanted: int) -> list[Move]:
    """Moves that raise the target's remaining to ``wanted``, or as near as the others can: closed shards first, then
    the richest. An open donor keeps half of what it could spare beyond need, so that two hungry shards do not steal
    the same money back and forth; the last cent moves all the same when there is no other."""
    mine = next(shard for shard in shards if shard.index == target)
    if mine.remaining is None or mine.remaining >= wanted:
        return []
    need = wanted - mine.remaining
    donors = sorted(
        (shard for shard in shards if shard.index != target and (shard.remaining or 0) > 0),
        key=lambda shard: (not shard.closed, -(shard.remaining or 0)),
    )
    moves: list[Move] = []
    for donor in donors:
        if need <= 0:
            break
        spare = donor.remaining or 0
        amount = spare if donor.closed else min(spare, max(need, (spare - need) // 2))
        moves.append(Move(donor.index, target, amount))
        need -= amount
    return moves


def relayout(shards: Sequence[Shard], cap: int | None, count: int) -> list[Shard]:
    """The same counters under another cap or in another number of shards. Nothing spent or reserved moves; shares are
    dealt anew, so that they add up to the cap, what is committed stays covered, and the rest is spread over the open
    shards. Where a lowered cap leaves less than what is committed, all shards are closed: none could tell by itself
    when the others are out of the red. They are laid out again once enough was released.

    A shard that closes only now gets its part of the rest all the same: calls go on being admitted from it until the
    layout is written, and without room for them it could not be written while there is traffic. Others take that
    budget over when they run dry, closed shards first."""
    known = {shard.index: shard for shard in shards}
    indexes = sorted(set(known) | set(range(count)))
    committed = sum(shard.spent + shard.reserved for shard in known.values())
    short = max(committed - cap, 0) if cap is not None else 0
    layout = [replace(known.get(i) or Shard(i, 0), closed=i >= count or short > 0) for i in indexes]
    if cap is None:
        return [replace(shard, share=None) for shard in layout]
    roomy = [i for i in indexes if i < count or not known[i].closed]
    spread = dict(zip(roomy, split(max(cap - committed, 0), len(roomy)), strict=True))
    dealt = []
    for shard in layout:
        extra = spread.get(shard.index, 0)
        less = short if shard.index == 0 else 0
        dealt.append(replace(shard, share=shard.spent + shard.reserved + extra - less))
    return dealt


def iso(moment: datetime) -> str:
    """A moment in UTC, to the millisecond."""
    return moment.isoformat(timespec="milliseconds")[: len("2026-03-31T23:59:59.999")] + "Z"


def millis(moment: datetime) -> int:
    """Whole milliseconds since the epoch: what moments are compared by in conditions."""
    return int(moment.timestamp() * 1000)
