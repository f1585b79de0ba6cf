"""The fifth stage: waiting for a session to change, by a look at its head now and then.

The first looks come quickly, since a short turn is over in some tens of milliseconds. From then on it is one every
quarter of a second for as long as it takes: what lands is seen an eighth of a second later on average, also after a
long silence, and nobody who waits reads the table more than four times a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from turnkeeper.core.session import Head
from turnkeeper.wiring.front_door import FrontDoorKit

_FIRST_SECONDS = 0.01
_LAST_SECONDS = 0.25
_LONGER = 1.2
#: Nobody is sent away earlier because no worker is there: many come back at once, and may do so every other second.
_PATIENCE_SECONDS = 2.0


def pauses() -> Iterator[float]:
    """Seconds between one look and the next."""
    pause = _FIRST_SECONDS
    while True:
        yield pause
        pause = min(pause * _LONGER, _LAST_SECONDS)


def until(kit: FrontDoorKit, head: Head, holds: Callable[[Head], bool], wait_seconds: float) -> Head:
    """The head once it is as wanted, or as it is when the time is up."""
    give_up_at = kit.clock.monotonic() + wait_seconds
    for pause in pauses():
        if holds(head) or (left := give_up_at - kit.clock.monotonic()) <= 0:
            break
        kit.clock.sleep(min(pause, left))
        head = kit.sessions.head(head.tenant_id, head.session_id)
    return head


def worker_is_missing(kit: FrontDoorKit) -> Callable[[Head], bool]:
    """Whether a session is queued for a worker although none lives. One that is woken takes longer to begin than
    anybody waits here, and waiting costs money by the second."""
    patient_until = kit.clock.monotonic() + _PATIENCE_SECONDS

    def is_missing(now: Head) -> bool:
        return now.status == "queued" and kit.clock.monotonic() >= patient_until and kit.fleet.is_gone()

    return is_missing
