"""What a continuation token says: its holder may go on with one session, of one user, from one position."""

from collections.abc import Callable

from turnkeeper.core.session import Frozen, Head, Transcript
from turnkeeper.core.stops import resumable, stops_again


class Continuation(Frozen):
    tenant_id: str
    user_id: str
    session_id: str
    #: Where the session was: a token of an earlier position never runs a turn again.
    turn: int
    seq: int


def continuation_of(head: Head) -> Continuation:
    return Continuation(
        tenant_id=head.tenant_id,
        user_id=head.user_id,
        session_id=head.session_id,
        turn=head.turn.number,
        seq=head.last_seq,
    )


def worth_a_token(head: Head) -> bool:
    """Whether there is something to go on with, or to wait for."""
    return not head.resting or resumable(head)


def may_go_on(
    head: Head,
    turn: int | None,
    seq: int,
    *,
    max_iterations: int | None = None,
    read: Callable[[], Transcript] | None = None,
) -> bool:
    """Whether a token of this position lets a stopped turn go on: one token ends one stop.

    Args:
        max_iterations: the limit that the turn would be given; ``None`` for its own.
        read: gets the transcript, where a user holds the token. Users may hold one from before the stop, which they
            were given while the turn ran, and ask on purpose: theirs is for the first stop from its position on, until
            the model has said more. ``None`` for messages of the queue, which come late and twice: theirs is for a stop
            at its very position only, since a duplicate of a handoff would undo whatever stopped the turn after it.
    """
    if not resumable(head) or stops_again(head, max_iterations) or head.turn.number != turn:
        return False
    if seq >= head.last_seq or read is None:
        return seq >= head.last_seq
    since = [entry for entry in read().entries if entry.seq >= seq]
    stop = next((entry.seq for entry in since if entry.status == "stopped"), head.last_seq)
    return not any(entry.type == "assistant" and entry.seq > stop for entry in since)
