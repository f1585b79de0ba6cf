"""Ending a session because somebody asks for it, whatever it is doing.

A runner that holds the session is asked to stop. Where none does, because it is dead or has not taken the session up
yet, there is nobody to wait for: the session is claimed and its turn ended here, by the code that a runner would end it
with. Whoever comes later finds it at rest, or its own lease lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from turnkeeper.core.errors import LeaseLost, SessionBusy, SessionEnded
from turnkeeper.core.lifecycle import leaving
from turnkeeper.core.lifecycle.change import ended
from turnkeeper.core.session import Head
from turnkeeper.ports import Clock
from turnkeeper.runtime.engine import Engine
from turnkeeper.runtime.store.sessions import Sessions


@dataclass(eq=False, repr=False)
class Cancelling:
    sessions: Sessions
    engine: Engine
    clock: Clock

    def cancel(self, head: Head, *, actor: str) -> Head:
        """The session as it was left: cancelled, or still running where its runner was asked to stop at the next safe
        point.

        Raises:
            SessionEnded: it has ended already.
            SessionNotFound: it is gone.
            StoreBusy, Unavailable: its end could not be written; it was asked for, and the sweep looks after it.
        """
        while not head.ended:
            try:
                if head.resting:
                    return self.sessions.write_at_rest(head, leaving.cancel(head, self.clock.now(), actor))
                head = self.sessions.request_cancel(head, actor)
                if self.sessions.is_held(head):
                    return head
                head = self.engine.cancel(head.tenant_id, head.session_id, actor)
                if head.status == "cancelled":
                    return head
            except (SessionBusy, SessionEnded, LeaseLost):  # A runner took it, or it came to rest, between the two.
                head = self.sessions.head(head.tenant_id, head.session_id)
        raise ended(head)


class Nobody:
    """In the place of the model and of the detector, where turns are only ended: that asks neither."""

    def call(self, *_: Any, **__: Any) -> NoReturn:
        raise AssertionError("a turn that is only ended asks no model, and has no results to check")

    count_tokens = check = call
