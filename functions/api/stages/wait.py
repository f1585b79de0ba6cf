"""The fifth stage: waiting for a session to change, by a look at it now and then.

No turn is over before its runner made five requests, so the first look comes after the time of these; a short one is
over soon after. Each gap is a quarter of what was waited so far, up to a quarter of a second; from then on what lands
is seen an eighth of a second later on average, also after a long silence, and nobody who waits reads the table more
than four times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from turnkeeper.core.session import Head
from turnkeeper.ports import Clock
from turnkeeper.runtime.news import next_look
from turnkeeper.wiring.front_door import FrontDoorKit

T = TypeVar("T")

_FIRST_SECONDS = 0.02
_SHORTEST_SECONDS = 0.007
_LONGEST_SECONDS = 0.25
#: Nobody is sent away earlier because no worker is there: many come back at once, and may do so every other second.
_PATIENCE_SECONDS = 2.0


def looks() -> Iterator[float]:
    """When a session is looked at, in seconds since the wait began, where a look takes no time."""
    waited = 0.0
    while True:
        waited += _pause(waited)
        yield waited


def _pause(waited: float) -> float:
    return min(max(waited / 4, _SHORTEST_SECONDS), _LONGEST_SECONDS) if waited else _FIRST_SECONDS


def until(kit: FrontDoorKit, head: Head, holds: Callable[[Head], bool], wait_seconds: float) -> Head:
    """The head once it is as wanted, or as it is when the time is up."""
    return look_until(kit.clock, head, partial(kit.sessions.head, head.tenant_id, head.session_id), holds, wait_seconds)


def look_until(clock: Clock, seen: T, look: Callable[[], T], holds: Callable[[T], bool], wait_seconds: float) -> T:
    """What a look finds once it is as wanted, or when the time is up; ``seen`` is from before the wait."""
    began = looked_at = clock.monotonic()
    is_last = wait_seconds <= 0
    while not (is_last or holds(seen)):
        now = clock.monotonic()
        left = max(0.0, began + wait_seconds - now)
        pause = next_look(looked_at, now, _pause(looked_at - began)) - now
        is_last = pause >= left
        clock.sleep(min(pause, left))
        looked_at = clock.monotonic()
        seen = look()
    return seen


def worker_is_missing(kit: FrontDoorKit) -> Callable[[Head], bool]:
    """Whether a session is queued for a worker although none lives. One that is woken takes longer to begin than
    anybody waits here, and waiting costs money by the second."""
    patient_until = kit.clock.monotonic() + _PATIENCE_SECONDS

    def is_missing(now: Head) -> bool:
        return now.status == "queued" and kit.clock.monotonic() >= patient_until and kit.fleet.is_gone()

    return is_missing
