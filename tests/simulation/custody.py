"""Who has which message in hand, and what must hold of that."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fargate_worker.holding import MAX_RECEIVES
from tests.support.scheduler import Process
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.ports import Message
from turnkeeper.runtime.jobs import Job, parse, session_id_of_job
from turnkeeper.testing.memory_queue import DeadLetter

if TYPE_CHECKING:
    from tests.simulation.world import Simulation


@dataclass(frozen=True)
class For:
    """What a message is for."""

    session_id: str
    turn: int


@dataclass(eq=False)
class InHand:
    """A message that a process received and has not let go of."""

    message: Message
    process: Process
    since: float
    #: The process had it before, and may still do something for it as it was received then.
    again: bool
    #: The process died, or the queue failed it.
    failed: bool = False

    @property
    def excused(self) -> bool:
        """No wonder where it is not let go of."""
        return self.failed or self.process.stalled_at >= self.since


class Custody:
    """Hears what the queue does with its messages."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._scheduler = simulation.scheduler
        self._in_hand: dict[str, InHand] = {}
        self._latest_receipts: dict[str, str] = {}
        self._had: set[tuple[Process, str]] = set()
        #: Receives that ended by a fault, by message.
        self._faulty_receives: Counter[str] = Counter()
        self._read: dict[str, For | None] = {}

    # ---- what happens ----

    def received(self, message: Message, process: Process) -> None:
        self._receive_ends(message.message_id)
        had = (process, message.message_id)
        self._latest_receipts[message.message_id] = message.receipt
        self._in_hand[message.receipt] = InHand(message, process, self._scheduler.now, again=had in self._had)
        self._had.add(had)

    def let_go(self, message: Message) -> None:
        held = self._in_hand.pop(message.receipt, None)
        if held is not None and held.excused:
            self._faulty_receives[message.message_id] += 1

    def call_failed(self, *, message: Message | None = None, body: str | None = None) -> None:
        """A call failed that was about a message, or that sent a body for one that the caller has in hand."""
        about = [self._in_hand.get(message.receipt)] if message else []
        about += [held for held in self._of_process() if body is not None and held.message.body == body]
        about += self._of_task() if body is not None else []
        for held in about:
            if held is not None:
                held.failed = True

    def process_ends(self, process: Process, *, dies: bool) -> None:
        """One that ends by itself has let go of everything."""
        for held in self._in_hand.values():
            if held.process is process and not held.excused and not dies:
                self._simulation.violated(f"{process.name} ended with {held.message.message_id} in hand")
            held.failed = held.failed or held.process is process

    # ---- what must hold ----

    def session_taken_over(self, session_id: str) -> None:
        """A session is claimed whose runner died. The last receive of a message must not be at stake with it."""
        for held in self._of_task():
            work = self.read(held.message.body)
            at_stake = held.message.receive_count >= MAX_RECEIVES and not held.failed and not held.again
            if at_stake and work is not None and work.session_id == session_id:
                self._simulation.violated(f"{held.message.message_id} would be lost with one more runner")

    def used_up(self, letter: DeadLetter) -> None:
        """The queue moved a message after too many receives: only faults can have used it up, never a drain or an
        outage of the table."""
        self._receive_ends(letter.message_id)
        if self._faulty_receives[letter.message_id] < MAX_RECEIVES - 1:
            self._simulation.violated(f"{letter.message_id} is a dead letter, and could have worked")

    def deleted(self, message: Message, left: list[str], lost: set[str]) -> None:
        """A message is deleted only when its session rests, its turn is over, or something else carries it on: a
        message that is ``left``, a Lambda, another runner that took the session since, or a request that the queue took
        and ``lost``. Where one of those comes to nothing, the session is due."""
        work, held = self.read(message.body), self._in_hand.get(message.receipt)
        if work is None or held is None:
            return
        session_id, heads = work.session_id, self._simulation.heads
        carried_on = (
            session_id in {read.session_id for body in left if (read := self.read(body)) is not None}
            or session_id in lost
            or self._simulation.functions.alive(session_id)
            or heads.rested_since(session_id, held.since)
            or heads.claimed_since(session_id, held.since, but_for=message.message_id)
            or heads.turn(session_id) > work.turn
        )
        if not carried_on:
            self._simulation.violated(f"{message.message_id} was deleted, and nothing carries {session_id} on")

    def _receive_ends(self, message_id: str) -> None:
        """A message is seen again that was not let go of: the process that had it in hand had bad luck."""
        held = self._in_hand.pop(self._latest_receipts.get(message_id, ""), None)
        if held is None:
            return
        self._faulty_receives[message_id] += 1
        if not held.excused:
            self._simulation.violated(f"{message_id} was seen again while {held.process.name} had it in hand")

    # ---- looking ----

    def read(self, body: str) -> For | None:
        """What a message is for; ``None`` where that cannot be told."""
        if body not in self._read:
            self._read[body] = self._parse(body)
        return self._read[body]

    def _parse(self, body: str) -> For | None:
        try:
            parsed = parse(body)
            if isinstance(parsed, Job):
                return For(session_id_of_job(parsed.tenant_id, parsed.job_id), 1)
            token = self._simulation.tokens.verify(parsed.continuation_token)
        except TurnkeeperError:
            return None
        return For(token.session_id, token.turn)

    def _of_process(self) -> list[InHand]:
        task = self._scheduler.current
        return [held for held in self._in_hand.values() if task and held.process is task.process]

    def _of_task(self) -> list[InHand]:
        """What the current task is about: a worker names its tasks after their messages."""
        task = self._scheduler.current
        return [held for held in self._of_process() if task and task.name.endswith(f"/{held.message.message_id}")]
