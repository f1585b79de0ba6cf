"""Days and months in time zones, checked against walking through time minute by minute."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from importlib import resources

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnkeeper.core.ledger import iso
from turnkeeper.core.periods import first_day, next_period, period_of, zone_of

MINUTE = timedelta(minutes=1)
NAMES = sorted(resources.files("tzdata").joinpath("zones").read_text().split())
#: Since then no offset has had seconds, so that a minute is fine enough.
FIRST, LAST = datetime(1975, 1, 1, tzinfo=UTC), datetime(2037, 1, 1, tzinfo=UTC)


def latest_date(now: datetime, tz: tzinfo) -> date:
    """The latest date that a calendar in the zone has shown by then: what a day is that does not come back."""
    return max((now - minutes * MINUTE).astimezone(tz).date() for minutes in range(26 * 60))


def near_a_change(name: str, chosen: datetime) -> datetime:
    """The first change of the zone's offset after a moment, or that moment where there is none."""
    tz = zone_of(name)
    step = timedelta(days=1)
    before = chosen
    while before < chosen + timedelta(days=400):
        after = before + step
        if before.astimezone(tz).utcoffset() != after.astimezone(tz).utcoffset():
            if step == MINUTE:
                return after
            step = timedelta(hours=1) if step > timedelta(hours=1) else MINUTE
        else:
            before = after
    return chosen


moments = st.datetimes(FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None), timezones=st.just(UTC)).map(
    lambda moment: moment.replace(second=0, microsecond=0)
)


@given(st.sampled_from(NAMES), moments, st.integers(-36 * 60, 36 * 60))
@settings(max_examples=150)
def test_a_day_is_the_latest_that_the_calendar_has_shown_and_ends_when_told(
    name: str, chosen: datetime, minutes: int
) -> None:
    """On both nights of a change above all: that is where most of these moments are."""
    tz = zone_of(name)
    now = near_a_change(name, chosen) + minutes * MINUTE
    day = latest_date(now, tz)
    assert period_of("day", now, name) == day.isoformat()
    assert period_of("month", now, name) == day.isoformat()[:7]
    ends = next_period("day", now, name)
    assert ends is not None
    assert now < ends <= now + timedelta(hours=50)
    assert period_of("day", ends - timedelta(microseconds=1), name) == day.isoformat()
    assert latest_date(ends, tz) > day


@given(st.sampled_from(NAMES), moments, st.integers(-3 * 60, 3 * 60))
@settings(max_examples=150)
def test_a_month_ends_with_its_last_day(name: str, chosen: datetime, minutes: int) -> None:
    now = (chosen.replace(day=1, hour=0, minute=0) + minutes * MINUTE).astimezone(UTC)
    ends = next_period("month", now, name)
    assert ends is not None
    month = period_of("month", now, name)
    assert period_of("month", ends - timedelta(microseconds=1), name) == month
    assert period_of("month", ends, name) == (first_day(month) + timedelta(days=32)).strftime("%Y-%m")
    assert period_of("day", ends, name).endswith("-01")


@pytest.mark.parametrize(
    ("name", "now", "day", "ends"),
    [
        # Spring: the day has 23 hours. Autumn: 25.
        ("Europe/Zurich", "2026-03-28T23:00", "2026-03-29", "2026-03-29T22:00"),
        ("Europe/Zurich", "2026-10-24T22:00", "2026-10-25", "2026-10-25T23:00"),
        # Midnight does not exist: the day begins at one o'clock, with the change.
        ("Africa/Cairo", "2026-04-23T21:59", "2026-04-23", "2026-04-23T22:00"),
        ("Africa/Cairo", "2026-04-23T22:00", "2026-04-24", "2026-04-24T21:00"),
        # Midnight comes twice: the day begins with the first.
        ("Atlantic/Azores", "2026-10-24T23:59", "2026-10-24", "2026-10-25T00:00"),
        ("Atlantic/Azores", "2026-10-25T00:00", "2026-10-25", "2026-10-26T01:00"),
        ("Atlantic/Azores", "2026-10-25T01:00", "2026-10-25", "2026-10-26T01:00"),
        # One minute after midnight it was yesterday again for an hour: a day that has ended does not come back.
        ("America/St_Johns", "2010-11-07T02:29", "2010-11-06", "2010-11-07T02:30"),
        ("America/St_Johns", "2010-11-07T02:30", "2010-11-07", "2010-11-08T03:30"),
        ("America/St_Johns", "2010-11-07T02:45", "2010-11-07", "2010-11-08T03:30"),
        # A whole day was left out.
        ("Pacific/Apia", "2011-12-30T09:59", "2011-12-29", "2011-12-30T10:00"),
        ("Pacific/Apia", "2011-12-30T10:00", "2011-12-31", "2011-12-31T10:00"),
        ("Pacific/Kiritimati", "2026-03-31T10:00", "2026-04-01", "2026-04-01T10:00"),
        ("Asia/Kathmandu", "2026-03-31T18:14", "2026-03-31", "2026-03-31T18:15"),
    ],
)
def test_nights_to_remember(name: str, now: str, day: str, ends: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert period_of("day", moment, name) == day
    assert next_period("day", moment, name) == datetime.fromisoformat(ends).replace(tzinfo=UTC)


def test_what_never_ends() -> None:
    assert period_of("none", FIRST, "UTC") == ""
    assert next_period("none", FIRST, "UTC") is None


@pytest.mark.parametrize(
    "name", ["", "Zurich", "europe/zurich", "Europe", "../UTC", "/etc/localtime", "localtime", "UTC+1"]
)
def test_only_iana_names_are_zones(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        zone_of(name)


#: Of zones an hour apart or odd, and of none.
ANY_ZONE = st.none() | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)


@given(st.datetimes(timezones=ANY_ZONE))
def test_a_moment_is_written_to_the_millisecond(moment: datetime) -> None:
    """In one length, so that texts are in the order of moments."""
    seconds = f"{moment.year:04d}" + moment.strftime("-%m-%dT%H:%M:%S.")
    assert iso(moment) == f"{seconds}{moment.microsecond // 1000:03d}Z"
