"""What is done with one message: the worker's rules, without its threads.

A message is deleted only when its session rests or another message carries it on (docs/decisions/0010).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from fargate_worker.following import Followers
from fargate_worker.holding import MAX_RECEIVES, Held, Holding
from fargate_worker.reading import Reader, Rejected, Work
from fargate_worker.stopping import Stopping
from turnkeeper.core.errors import LeaseLost, SessionBusy, SessionEnded, SessionNotFound, Unavailable, WrittenByNewer
from turnkeeper.runtime.engine import Engine
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import StoreBusy
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)

#: A message that could not be worked on because the table or the queue was out of reach is seen again after this long.
RETRY_SECONDS = 15
#: One that failed by a defect of our own.
FAILED_SECONDS = 30


@dataclass(frozen=True)
class Carrier:
    """Carries a message's session on."""

    engine: Engine
    reader: Reader
    holding: Holding
    followers: Followers
    stopping: Stopping
    allowance: Allowance

    def carry_on(self, held: Held) -> None:
        """Run the message's session as far as it goes on this worker. Afterwards the message is not in hand any more,
        or it is followed because another runner has the session. Never raises."""
        with fields.scope():
            self._carry_on_or_give_back(held)

    def _carry_on_or_give_back(self, held: Held) -> None:
        try:
            self._carry_on(held)
        except (StoreBusy, Unavailable, WrittenByNewer) as error:
            logger.warning("message %s is put back: %s", held.message.message_id, error)
            self.holding.give_back(held, RETRY_SECONDS)
        except Exception as error:
            logger.exception("message %s failed", held.message.message_id)
            if held.message.receive_count >= MAX_RECEIVES:
                self.holding.reject(held, "internal_error", type(error).__name__)
            else:
                self.holding.give_back(held, FAILED_SECONDS, at_fault=True)

    def _carry_on(self, held: Held) -> None:
        try:
            work = held.work = held.work or self.reader.read(held.message)
        except Rejected as rejected:
            self.holding.reject(held, rejected.error_code, rejected.detail)
            return
        fields.note(tenant_id=work.tenant_id, session_id=work.session_id)
        if self.stopping.draining:
            self.holding.give_back(held)
            return
        if held.message.receive_count >= MAX_RECEIVES - 1 and self.reader.was_cut_off(work):
            # The runner before died with it, which is no fault of the message: if this one dies too, a new one is
            # seen when this one would have been. One receive before the last, since a runner may die before it gets
            # here. A session that kills its runners is ended by its own count.
            self.holding.replace(held, self.holding.visibility_seconds)
        try:
            self._run(work)
        except SessionEnded:
            self.holding.delete(held)
        except SessionNotFound as error:
            self.holding.reject(held, error.code, error.detail)
        except (SessionBusy, LeaseLost):
            self._follow(held, work)
        else:
            # At rest, or handed off and sent: the new message carries it on. Where it was handed off and could not be
            # sent, the engine raised: then this message, given back, carries it on.
            self.holding.delete(held)

    def _run(self, work: Work) -> None:
        try:
            head = self.engine.run(work.tenant_id, work.session_id, self.allowance)
        except SessionEnded:
            # Looked at only here: in the common case it runs, and nothing more is read for that.
            if not self.reader.resume(work):
                raise
            head = self.engine.run(work.tenant_id, work.session_id, self.allowance)
        said = {**fields.of_head(head), "status": head.status, "last_seq": head.last_seq}
        logger.info("the turn was run", extra=said)

    def _follow(self, held: Held, work: Work) -> None:
        if self.stopping.draining:
            self.holding.give_back(held)
        else:
            self.followers.follow(held, work)
