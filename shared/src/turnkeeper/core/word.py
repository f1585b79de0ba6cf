"""Word that a turn has come to rest: what it says, and when an attempt to deliver it follows another.

It says who and how much, never what was said: whoever hears of it asks for the session.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from turnkeeper.core.ledger import iso
from turnkeeper.core.money import format_usd
from turnkeeper.core.session import RESTING, Head, Status, StopReason
from turnkeeper.core.stops import told_detail
from turnkeeper.core.tracing import turn_context

TURN_ENDED: Final = "turnkeeper.turn.ended"


class _Word(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class EndedStop(_Word):
    reason: StopReason
    detail: dict[str, Any] = Field(description="Numbers, names and reasons; nothing that anybody said.")


class EndedTurn(_Word):
    """The session as it was when the turn came to rest."""

    session_id: str
    tenant_id: str
    user_id: str
    agent: str
    turn: int = Field(description="Number of the turn, from 1.")
    status: Status
    stop: EndedStop | None
    steps: int = Field(description="Of the session, up to here.")
    cost_usd: str = Field(description="Of the session, up to here.")
    last_seq: int = Field(description="The entry that tells of it.")
    trace_id: str


class TurnEnded(_Word):
    """A turn has come to rest. The same one has the same ``id``, however often it is heard of."""

    id: str
    type: Literal["turnkeeper.turn.ended"] = TURN_ENDED
    timestamp: str
    data: EndedTurn


def word_of(before: Head | None, after: Head) -> TurnEnded | None:
    """What there is to tell of a change of a session; ``None`` where no turn of somebody's ended with it.

    A session that rests and changes has ended none, unless with a turn that was over as soon as it had begun.
    """
    if after.status not in RESTING or after.companion is not None:
        return None
    begun_before = before.turn.number if before is not None else 0
    if before is None or before.status in RESTING:
        begun_and_ended = after.turn.number > begun_before and after.stop is not None
        if not begun_and_ended:
            return None
    stop = after.stop and EndedStop(reason=after.stop.reason, detail=told_detail(after.stop))
    return TurnEnded(
        id=event_id(after.session_id, after.last_seq),
        timestamp=after.updated_at,
        data=EndedTurn(
            session_id=after.session_id,
            tenant_id=after.tenant_id,
            user_id=after.user_id,
            agent=after.agent,
            turn=after.turn.number,
            status=after.status,
            stop=stop,
            steps=after.steps,
            cost_usd=format_usd(after.account.cost_nanousd),
            last_seq=after.last_seq,
            trace_id=turn_context(after).trace_id,
        ),
    )


def event_id(session_id: str, last_seq: int) -> str:
    """Follows from what it is about, so that whoever tells of it again tells of the same."""
    return f"evt_{session_id.removeprefix('ses_')}_{last_seq}"


WORD: Final = "turnkeeper/word@1"


def word_message(event: TurnEnded) -> str:
    """The message that has a turn's end told."""
    return json.dumps({"schema": WORD, "event": event.model_dump(mode="json")}, separators=(",", ":"))


# ---- deliveries ----

Channel = Literal["webhook", "reply"]
#: ``dead``: given up; it is replayed by an operator only.
DeliveryState = Literal["pending", "delivered", "dead"]

GIVE_UP_AFTER: Final = timedelta(hours=24)
_FIRST_SECONDS: Final = 5.0
_FACTOR: Final = 4.0
_LONGEST_SECONDS: Final = 6 * 3600.0

#: Failures in a row after which an address is left alone for a while, so that one that hangs holds up nobody else.
FAILURES_BEFORE_HOLD: Final = 5
_HOLD_SECONDS: Final = 10.0
_LONGEST_HOLD_SECONDS: Final = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Word on its way to one receiver. One item of the table; what is told is frozen into it."""

    event: TurnEnded
    channel: Channel
    #: Where to: an address, or the name of a queue. ``None`` once it was erased.
    to: str | None
    created_at: str
    state: DeliveryState = "pending"
    #: Since it was created, or replayed last.
    attempts: int = 0
    #: Since when it is tried.
    since: str
    next_at: str
    last_at: str | None = None
    #: HTTP status of the last answer; ``None`` where there was none.
    last_status: int | None = None
    #: What went wrong, or the beginning of what was answered, without secrets.
    last_answer: str | None = None

    @property
    def id(self) -> str:
        return f"{self.event.id}_{self.channel}"

    def answered(self, now: datetime, answer: Attempted, jitter: float) -> Delivery:
        """After an attempt.

        Args:
            jitter: from 0 to 1, so that those that failed together are not tried together.
        """
        tried = replace(
            self,
            attempts=self.attempts + 1,
            last_at=iso(now),
            last_status=answer.status,
            last_answer=answer.text,
        )
        if answer.taken:
            return replace(tried, state="delivered")
        until = datetime.fromisoformat(self.since) + GIVE_UP_AFTER
        at = now + timedelta(seconds=back_off_seconds(tried.attempts, jitter))
        if at < (asked := now + timedelta(seconds=min(answer.asked_seconds, 2 * 86_400))) <= until:
            at = asked
        if answer.final or at > until:
            return replace(tried, state="dead")
        return replace(tried, next_at=iso(at))

    def given_up(self, why: str) -> Delivery:
        return replace(self, state="dead", last_answer=why)

    def replayed(self, now: datetime) -> Delivery:
        """As if it were new; the id stays, so that a receiver that had it knows it again."""
        return replace(self, state="pending", attempts=0, since=iso(now), next_at=iso(now))

    def is_too_old(self, now: datetime) -> bool:
        return now > datetime.fromisoformat(self.since) + GIVE_UP_AFTER


@dataclass(frozen=True, slots=True)
class Attempted:
    """What came of one attempt."""

    taken: bool
    status: int | None = None
    text: str | None = None
    #: How long it asks to be left alone. What goes beyond the day is not heeded.
    asked_seconds: float = 0.0
    #: Another attempt would not help.
    final: bool = False


def back_off_seconds(attempts: int, jitter: float) -> float:
    """From an attempt that failed to the next: 5 s, four times as long each time, at most six hours; up to a quarter
    more or less."""
    return min(_FIRST_SECONDS * _FACTOR ** (attempts - 1), _LONGEST_SECONDS) * (0.75 + jitter / 2)


def hold_seconds(failures: int, asked_seconds: float = 0.0) -> float:
    """How long an address is left alone after so many failures in a row, at least as long as it asks for, at most a
    quarter of an hour; 0 where it is not yet."""
    grown = _HOLD_SECONDS * 2.0 ** min(failures - FAILURES_BEFORE_HOLD, 20) if failures >= FAILURES_BEFORE_HOLD else 0.0
    return min(max(grown, asked_seconds), _LONGEST_HOLD_SECONDS)
