"""What a continuation token says: its holder may go on with one session, of one user, from one position."""

from __future__ import annotations

from turnkeeper.core.session import Frozen, Head


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
