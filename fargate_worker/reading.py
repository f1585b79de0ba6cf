"""From a message to the session that it is for."""

from __future__ import annotations

from dataclasses import dataclass

from turnkeeper.core.continuation import may_go_on
from turnkeeper.core.errors import SessionBusy, SessionEnded, TurnkeeperError
from turnkeeper.ports import Message, Tokens
from turnkeeper.runtime.intake import Intake
from turnkeeper.runtime.jobs import Job, parse


@dataclass(frozen=True, slots=True)
class Work:
    """One session that a message carries on; ``turn`` and ``seq`` are where it was when the message was written, where
    that says so."""

    tenant_id: str
    session_id: str
    turn: int | None = None
    seq: int | None = None


class Rejected(Exception):
    """The message can never work."""

    def __init__(self, error_code: str, detail: str) -> None:
        super().__init__(f"{error_code}: {detail}")
        self.error_code = error_code
        self.detail = detail


@dataclass(frozen=True)
class Reader:
    intake: Intake
    tokens: Tokens

    def read(self, message: Message) -> Work:
        """The session of a message; a job's is made where there is none yet.

        Raises:
            Rejected: it cannot ever work.
            StoreBusy, Unavailable: it may work later.
        """
        try:
            parsed = parse(message.body)
            if isinstance(parsed, Job):
                return Work(parsed.tenant_id, self.intake.take_job(parsed))
            token = self.tokens.verify(parsed.continuation_token)
            return Work(token.tenant_id, token.session_id, token.turn, token.seq)
        except TurnkeeperError as error:
            if error.retryable or error.status >= 500:
                raise
            raise Rejected(error.data.get("error_code", error.code), error.detail) from error
        except ValueError as error:
            # What the table cannot take: a key too long, half a surrogate pair, more than an item holds.
            raise Rejected("invalid_job", str(error)) from error

    def was_cut_off(self, work: Work) -> bool:
        """A runner has the session, or had it and is gone without a word: its lease still stands there."""
        head = self.intake.sessions.head(work.tenant_id, work.session_id)
        return head.status == "running" and head.lease.owner is not None

    def resume(self, work: Work) -> bool:
        """Let a stopped session go on, where the message's token was given out for that very stop; whether it does.

        A token of an earlier position, such as a handoff's that is delivered once more, must not: whatever stopped the
        session since would be undone by a duplicate.
        """
        if work.seq is None:
            return False
        head = self.intake.sessions.head(work.tenant_id, work.session_id)
        if not may_go_on(head, work.turn, work.seq):
            return False
        try:
            self.intake.resume(head)
        except SessionBusy:  # A duplicate was faster: then this one follows it.
            return True
        except SessionEnded:
            return False
        return True
