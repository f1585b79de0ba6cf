"""The scopes of money, one row each. Whatever is counted, capped, reported or parsed by scope follows from its row.

To add a scope, add its name and its row here. Its counter's key in the table, its place in reservations, its key in
policy.toml, its resets, its line in ``/v1/spend`` and in the command line's tables come of themselves, and its line in
docs/money.md with ``make docs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, get_args

from turnkeeper.core.periods import Period

Scope = Literal["task", "user_daily", "user_monthly", "tenant_monthly", "agent_daily"]
#: Whose money a scope counts. A task's is counted in the session's own head, or in an item of its own where many calls
#: are in flight at a time; all others in counters of the tenant.
Holder = Literal["task", "user", "agent", "tenant"]


class ScopeRow(NamedTuple):
    """What there is to know about one scope."""

    name: Scope
    holder: Holder
    #: With each, the counter starts anew.
    period: Period
    #: A plan has to say the cap. Where it may be left out, there is none.
    required: bool = True
    #: Counted only for whoever has a cap in it: nobody else's calls write the counter's item.
    only_where_capped: bool = False
    #: Split in shards, which also hold which caps are in force and whether the tenant is paused.
    sharded: bool = False

    @property
    def plan_key(self) -> str:
        """The key of the cap in a plan of policy.toml."""
        return f"{self.name}_usd"

    @property
    def by_agent(self) -> bool:
        """A plan may give each agent a cap of its own."""
        return self.holder == "agent"


def _checked(*rows: ScopeRow) -> Mapping[Scope, ScopeRow]:
    """The rows by name, in the order in which scopes are listed.

    Raises:
        ValueError: a name without a row or with two, or a row that the counters cannot be kept by.
    """
    names = [row.name for row in rows]
    if sorted(names) != sorted(get_args(Scope)):
        raise ValueError(f"every scope has one row: {sorted(names)} are not {sorted(get_args(Scope))}")
    shared = [(row.holder, row.period) for row in rows if row.holder != "task"]
    if len(shared) != len(set(shared)):
        raise ValueError("two scopes of one holder and period would share a counter")
    for row in rows:
        if (row.holder == "task") != (row.period == "none"):
            raise ValueError(f"{row.name}: a task's money is counted for good, all other by day or month")
        if row.required and row.only_where_capped:
            raise ValueError(f"{row.name}: a cap that every plan has to say applies to everybody")
    # Every call goes through a shard, and all shards are written in one transaction of at most 100 operations.
    if [(row.holder, row.only_where_capped) for row in rows if row.sharded] != [("tenant", False)]:
        raise ValueError("exactly one scope is sharded: a tenant's, which counts every call")
    return {row.name: row for row in rows}


#: By name, in the order in which they are listed everywhere.
SCOPES: Final = _checked(
    ScopeRow("task", "task", "none"),
    ScopeRow("user_daily", "user", "day"),
    ScopeRow("user_monthly", "user", "month"),
    ScopeRow("tenant_monthly", "tenant", "month", sharded=True),
    ScopeRow("agent_daily", "agent", "day", required=False, only_where_capped=True),
)
#: The one that is split in shards.
[SHARDED] = [row for row in SCOPES.values() if row.sharded]
#: Days of holders whose months are counted as well, for everybody: both may be in one item. Each with its month.
DAYS_IN_MONTHS: Final[Mapping[Scope, Scope]] = {
    day.name: month.name
    for day in SCOPES.values()
    for month in SCOPES.values()
    if (day.period, month.period) == ("day", "month") and day.holder == month.holder
    if not (month.sharded or day.only_where_capped or month.only_where_capped)
}


# ---- for people ----

_HOLDS: Mapping[Holder, str] = {
    "task": "one session, over all its turns; one token of the gateway",
    "user": "one user of one tenant",
    "agent": "one agent of one tenant, all its users together",
    "tenant": "one tenant",
}
_STARTS_ANEW: Mapping[Period, str] = {"none": "never", "day": "at midnight", "month": "on the first of the month"}


def documentation() -> str:
    """The scopes as a table in Markdown."""
    lines = ["| scope | holds | counted in | starts anew | in a plan |", "|---|---|---|---|---|"]
    for row in SCOPES.values():
        task = "the session's head; a token's item"
        kept_in = task if row.holder == "task" else "1 to 32 shards" if row.sharded else "one item"
        counted = f"{kept_in}, where there is a cap" if row.only_where_capped else kept_in
        plan = f"`{row.plan_key}`{'' if row.required else ', unlimited where it is left out'}"
        lines.append(f"| `{row.name}` | {_HOLDS[row.holder]} | {counted} | {_STARTS_ANEW[row.period]} | {plan} |")
    return "\n".join(lines) + "\n"
