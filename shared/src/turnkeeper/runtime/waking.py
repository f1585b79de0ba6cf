"""As many workers as the queue needs: whoever sends wakes the first one, and the sweep counts how many more it takes.

Nothing here lowers their number. That is left to the one who sees for how long nothing was there: the scaling of the
service (docs/decisions/0084).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from turnkeeper.ports import Message, Queue, Wakes

logger = logging.getLogger(__name__)

#: A message that is seen later than this wakes nobody: a task is there sooner, and would wait. The sweep wakes one when
#: it is time.
SOON_SECONDS = 60


@dataclass(eq=False, repr=False)
class WakingQueue:
    """A queue that wakes its worker with each message that is sent. Everything that sends takes this one, so that no
    sender can forget to."""

    queue: Queue
    wakes: Wakes

    def send(self, body: str, *, group: str, delay_seconds: int = 0) -> None:
        self.queue.send(body, group=group, delay_seconds=delay_seconds)
        if delay_seconds <= SOON_SECONDS:
            self.wakes.at_least(1)

    def receive(self, *, most: int, wait_seconds: int, visibility_seconds: int) -> list[Message]:
        return self.queue.receive(most=most, wait_seconds=wait_seconds, visibility_seconds=visibility_seconds)

    def extend(self, message: Message, visibility_seconds: int) -> None:
        self.queue.extend(message, visibility_seconds)

    def delete(self, message: Message) -> None:
        self.queue.delete(message)

    def reject(self, message: Message, *, error_code: str, detail: str) -> None:
        self.queue.reject(message, error_code=error_code, detail=detail)

    def backlog(self) -> int:
        return self.queue.backlog()


@dataclass(eq=False, repr=False)
class Capacity:
    """Tasks for the backlog, one for each ``slots`` messages begun."""

    queue: Queue
    #: ``None`` where somebody else runs the worker.
    wakes: Wakes | None
    slots: int

    def look(self) -> None:
        """Ask for the tasks that the queue needs as it is now. Never raises.

        Those who put jobs on the queue by themselves are seen here, and so is a wake that was lost. Asking the queue
        has a second use: CloudWatch falls up to 15 minutes behind a queue that nobody asked anything for six hours.
        """
        if self.wakes is None:
            return
        try:
            backlog = self.queue.backlog()
        except Exception as error:  # noqa: BLE001 - it is looked at again in a minute, and the sweep must go on
            logger.warning("the queue's backlog cannot be read: %s: %s", type(error).__name__, error)
            return
        if backlog:
            self.wakes.at_least(tasks_for(backlog, self.slots))


def tasks_for(messages: int, slots: int) -> int:
    """How many tasks of so many slots hold the messages."""
    return -(-messages // slots)
