"""The fifth stage: waiting for a session to change, by a look at its head now and then.

Each pause is about an eighth of the wait so far: nobody waits much longer than needed, and many who wait long do not
keep the table, or a small machine that runs all of it, from the turns that they wait for.
"""

from __future__ import annotations

from collections.abc import Callable

from turnkeeper.bootstrap import Kit
from turnkeeper.core.session import Head

_FIRST_SECONDS = 0.05
_LAST_SECONDS = 1.0
_LONGER = 1.15


def until(kit: Kit, head: Head, holds: Callable[[Head], bool], wait_seconds: float) -> Head:
    """The head once it is as wanted, or as it is when the time is up."""
    give_up_at = kit.clock.monotonic() + wait_seconds
    pause = _FIRST_SECONDS
    while not holds(head):
        left = give_up_at - kit.clock.monotonic()
        if left <= 0:
            break
        kit.clock.sleep(min(pause, left))
        pause = min(pause * _LONGER, _LAST_SECONDS)
        head = kit.sessions.head(head.tenant_id, head.session_id)
    return head
