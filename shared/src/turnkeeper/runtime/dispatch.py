"""Asking for the next runner of a session. What is asked for is written down first, in the session's ``handoff``: a
request that is lost between the two is sent again by the sweep."""

from __future__ import annotations

from dataclasses import dataclass

from turnkeeper.core.continuation import continuation_of
from turnkeeper.core.session import Head
from turnkeeper.ports import Queue, Tokens, Turns
from turnkeeper.runtime.jobs import continue_body


@dataclass(eq=False, repr=False)
class Dispatch:
    """``turns`` is ``None`` in a process that cannot start the turn Lambda: it asks on the queue instead, so that a
    session waits for neither the sweep nor a missing permission."""

    queue: Queue
    turns: Turns | None
    tokens: Tokens

    def send(self, head: Head) -> Head | None:
        """Ask for the runner that ``head.handoff`` names; nothing to do where there is none. The head as it was left
        where the turn was run before this returns (:meth:`turnkeeper.ports.Turns.start`).

        Raises:
            Unavailable: nobody took the request.
        """
        if head.handoff is None:
            return None
        if head.handoff.to == "function" and self.turns is not None:
            return self.turns.start(head.tenant_id, head.session_id)
        body = continue_body(self.tokens.sign(continuation_of(head)))
        self.queue.send(body, group=head.tenant_id, delay_seconds=head.handoff.delay_seconds)
        return None
