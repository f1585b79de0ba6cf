"""The ledger: money is reserved in every scope at once before a call, and settled after it.

One counter holds what a scope has ``spent`` (settled and in_doubt) and ``reserved`` (pending). The tenant's month is
split in shards, each with a ``share`` of the cap; the shares add up to the cap at every moment, and budget moves
between shards when one runs dry. Vocabulary after TigerBeetle's two-phase transfers.

A reservation lives so::

    pending ── settled    the call answered: its actual cost, the rest released
           ├── voided     the call certainly cost nothing
           └── in_doubt   nobody knows: its full amount counts as spent
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from turnkeeper.core.policy import Scope
from turnkeeper.core.session import Reservation

Resolution = Literal["settled", "voided", "in_doubt"]
SharedScope = Literal["user_daily", "user_monthly", "tenant_monthly"]

MTOK = 1_000_000


@dataclass(frozen=True, slots=True)
class Counter:
    """Names one shared counter: a scope, its period, and for the tenant's month the shard."""

    scope: SharedScope
    period: str
    shard: int = 0


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


def counters_of(reservation: Reservation) -> tuple[Counter, Counter, Counter]:
    return (
        Counter("user_daily", reservation.day),
        Counter("user_monthly", reservation.month),
        Counter("tenant_monthly", reservation.month, reservation.shard),
    )


def reserve(reservation: Reservation) -> list[Movement]:
    return [Movement(counter, reserved=reservation.amount_nanousd, admits=True) for counter in counters_of(reservation)]


def resolve(reservation: Reservation, spent_nanousd: int) -> list[Movement]:
    """Release a reservation and book what was spent of it, where it was reserved."""
    return [
        Movement(counter, spent=spent_nanousd, reserved=-reservation.amount_nanousd)
        for counter in counters_of(reservation)
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
    """A scope as it stood when it was looked at; over all shards for the tenant."""

    scope: Scope
    cap: int | None
    spent: int
    reserved: int
    resets_at: str | None = None

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
    worst = min(exhausted or blocking, key=lambda state: state.available or 0)
    return worst, not exhausted


# ---- shards ----


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of the tenant's month. ``share`` is ``None`` where the month is unlimited; ``closed`` shards admit
    nothing but still take settlements and give their budget away."""

    index: int
    share: int | None
    spent: int = 0
    reserved: int = 0
    closed: bool = False

    @property
    def remaining(self) -> int | None:
        return None if self.share is None else self.share - self.spent - self.reserved


@dataclass(frozen=True, slots=True)
class Move:
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


def apply_moves(shards: Sequence[Shard], moves: Iterable[Move]) -> list[Shard]:
    """The shards after the moves; the sum of shares stays what it was."""
    after = {shard.index: shard for shard in shards}
    for move in moves:
        for index, amount in ((move.source, -move.amount), (move.target, move.amount)):
            shard = after[index]
            after[index] = replace(shard, share=(shard.share or 0) + amount)
    return list(after.values())


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


# ---- periods ----


def day_of(now: datetime) -> str:
    return now.strftime("%Y-%m-%d")


def month_of(now: datetime) -> str:
    return now.strftime("%Y-%m")


def resets_at(scope: Scope, now: datetime) -> str | None:
    """When the scope starts anew, UTC, ISO 8601; ``None`` for a task."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    if scope == "task":
        return None
    if scope == "user_daily":
        return iso(midnight + timedelta(days=1))
    return iso((midnight.replace(day=1) + timedelta(days=32)).replace(day=1))


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
