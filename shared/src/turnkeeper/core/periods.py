"""Days and months in a time zone: which one a moment is in, and when the next one begins.

A day begins at the first moment whose date in the zone is that day's or a later one, and once it has ended it does not
come back. So there is exactly one beginning, also on the nights when clocks change: where midnight is skipped, the day
begins with the change; where midnight comes twice, it begins with the first.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from importlib import resources
from typing import Literal
from zoneinfo import ZoneInfo

#: ``none`` never ends.
Period = Literal["none", "day", "month"]

UTC_NAME = "UTC"


@lru_cache
def zone_of(name: str) -> tzinfo:
    """The time zone of an IANA name such as ``Europe/Zurich``.

    The rules are those of the tzdata package, whatever the machine brings along: all runners of one version of the kit
    agree on when a day ends.

    Raises:
        ValueError: there is no such zone.
    """
    package = resources.files("tzdata")
    # The list decides, not the file system: some know no difference between 'europe/zurich' and 'Europe/Zurich'.
    if name not in package.joinpath("zones").read_text(encoding="utf-8").split():
        raise ValueError(f"{name!r} is not the IANA name of a time zone such as 'Europe/Zurich' or 'UTC'")
    with package.joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


def period_of(period: Period, now: datetime, zone: str) -> str:
    """The name of the day (``2026-03-31``) or month (``2026-03``) that a moment is in; ``none`` has none."""
    day = _day_of(now, zone_of(zone)).isoformat()
    return day[: {"none": 0, "day": len("2026-03-31"), "month": len("2026-03")}[period]]


def next_period(period: Period, now: datetime, zone: str) -> datetime | None:
    """When the next day or month begins after ``now``, UTC; ``None``: never."""
    tz = zone_of(zone)
    day = _day_of(now, tz)
    match period:
        case "none":
            return None
        case "day":
            return _beginning(day + timedelta(days=1), tz)
        case "month":
            return _beginning((day.replace(day=1) + timedelta(days=32)).replace(day=1), tz)


def first_day(period: str) -> date:
    """The first day of a period as :func:`period_of` names it."""
    return date.fromisoformat(period if len(period) > len("2026-03") else f"{period}-01")


def _day_of(now: datetime, tz: tzinfo) -> date:
    day = now.astimezone(tz).date()
    following = day + timedelta(days=1)
    # A clock that was set back over midnight shows the day that has ended already.
    return following if _beginning(following, tz) <= now else day


def _beginning(day: date, tz: tzinfo) -> datetime:
    # Of two midnights, fold 0 is the first. Where there is none, fold 0 goes by the offset before the change and fold 1
    # by the one after it, and the change itself lies between the two (PEP 495).
    midnight = datetime(day.year, day.month, day.day, tzinfo=tz)
    by_first, by_second = midnight.astimezone(UTC), midnight.replace(fold=1).astimezone(UTC)
    if by_first <= by_second:
        return by_first
    seconds = range(int(by_second.timestamp()), int(by_first.timestamp()))
    change = bisect_left(seconds, True, key=lambda at: datetime.fromtimestamp(at, tz).date() >= day)
    return by_second + timedelta(seconds=change)
