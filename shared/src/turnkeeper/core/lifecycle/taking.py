"""Sessions come into being, take inputs, and go on where they stopped."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle.change import Change, asked_for, busy, ended, must_take_input, record_of, written
from turnkeeper.core.lifecycle.running import narrow
from turnkeeper.core.session import Breakers, Entry, ForkedFrom, Head, LeftOut, Tally, TurnState
from turnkeeper.core.stops import STOPS, resumable
from turnkeeper.core.tracing import NOWHERE, Origin
from turnkeeper.core.transcript import Block, text_block
from turnkeeper.core.versions import Deployed


def create(head: Head, now: datetime, content: tuple[Block, ...]) -> Change:
    """A new session, with its first input, on its way to a runner."""
    return written(asked_for(head, now), now, _said(now, content), records=(_created(head, now), _granted(head, now)))


def begin_turn(
    head: Head,
    now: datetime,
    content: tuple[Block, ...],
    *,
    role: str | None = None,
    actor: str | None = None,
    deployed: Deployed | None = None,
    tools: Collection[str] | None = None,
    origin: Origin = NOWHERE,
) -> Change:
    """A user's next input to a session at rest.

    Args:
        role, actor: of whoever says it, where it is not the session itself. With another role than the session's the
            turn has the tools of both only.
        deployed: the agent as it is now, which the turn begins with; ``None`` for the version that the session has.
        tools: names of those that the agent has now. What else was granted is taken away for good. ``None`` where the
            agent is not there, or cannot be loaded: that says nothing about its tools.
        origin: the request that it came with.

    Raises:
        SessionEnded: nothing can be said in it any more.
        SessionBusy: a turn is running.
    """
    must_take_input(head)
    turn = TurnState(
        number=head.turn.number + 1,
        seq=head.last_seq + 1,
        started_at=iso(now),
        role=head.turn.role,
        first_call=head.account.calls + 1,
        traceparent=origin.traceparent,
        request_id=origin.request_id,
    )
    moved, moves = _moved(head, now, deployed) if deployed is not None else (head, ())
    kept, removed, losses = _kept(moved, now, tools)
    after, records = _by(replace(kept, turn=turn, stop=None), now, role, actor)
    said = replace(_said(now, content), removed_tools=removed)
    return written(asked_for(after, now), now, said, records=(*moves, *losses, *records))


def _without_the_rest(head: Head, now: datetime) -> str:
    """When the turn would have begun had it not rested since: a cap that is raised the next day, or a pause that is
    lifted, must not find the turn's time used up by waiting for it."""
    began, rested = (datetime.fromisoformat(at) for at in (head.turn.started_at, head.updated_at))
    return iso(now - max(rested - began, timedelta()))


def go_on(
    head: Head,
    now: datetime,
    *,
    role: str | None = None,
    actor: str | None = None,
    operator: str | None = None,
    max_iterations: int | None = None,
    clear_flags: bool = False,
    deployed: Deployed | None = None,
    tools: Collection[str] | None = None,
    note: str | None = None,
    request_id: str | None = None,
) -> Change:
    """A stopped turn goes on. It is somebody's explicit word, so what the breakers had against it is forgotten;
    iterations and money are not.

    Args:
        role, actor: of the user whose word it is; ``None`` where nobody of the session asked for it, and the turn
            stays in the hands that it was in.
        operator: whose word it is, where it is no user's.
        max_iterations: the limit of iterations from now on; ``None`` for what it was.
        clear_flags: let ``once`` tools run again after a flag.
        deployed: what it runs on from now on; ``None`` for the version that it has.
        tools: as for :func:`begin_turn`.
        note: what the kit says to the model, where it would otherwise have nothing to answer.
        request_id: of the request that it is the word of. The turn stays in the trace that it began in.

    Raises:
        SessionBusy: somebody else did so first, or it is running.
        SessionEnded: there is nothing to go on with.
    """
    if not head.resting:
        raise busy(head)
    if not resumable(head, "operator" if operator else "user"):
        raise ended(head)
    row = STOPS[head.stop.reason] if head.stop else None
    turn = replace(
        head.turn,
        model=None,
        attempts=0,
        cancel_requested=False,
        cancel_actor=None,
        first_call=head.account.calls + 1,
        request_id=request_id,
        breakers=Breakers() if row and row.forgets_breakers else head.turn.breakers,
        started_at=iso(now) if row and row.restarts_clock else _without_the_rest(head, now),
        tally=Tally() if row and row.restarts_clock else replace(head.turn.tally, runs=0),
    )
    limits = head.limits if max_iterations is None else replace(head.limits, max_iterations=max_iterations)
    cleared = head.last_seq if clear_flags else head.flags_cleared_seq
    after = replace(head, turn=turn, limits=limits, flags_cleared_seq=cleared, stop=None)
    after, records = (after, ()) if role is None else _by(after, now, role, actor)
    if deployed is not None:
        after, moves = _moved(after, now, deployed, operator)
        records = (*records, *moves)
    if operator is not None or max_iterations is not None or clear_flags:
        records = (*records, _operated(head, now, "resume", operator, max_iterations, clear_flags))
    after, removed, losses = _kept(after, now, tools)
    records = (*records, *losses)
    said = Entry(type="user", at=iso(now), content=(text_block(note or ""),), by_kit=True, removed_tools=removed)
    entries = [said] if note else []
    return written(asked_for(after, now), now, *entries, records=records)


def clear_flags(head: Head, now: datetime, operator: str) -> Change:
    """Let ``once`` tools run again in a session that rests and may be spoken to; nothing else changes.

    Raises:
        SessionEnded: nothing can be said in it any more.
        SessionBusy: a turn is running.
    """
    must_take_input(head)
    after = replace(head, flags_cleared_seq=head.last_seq)
    return written(after, now, records=(_operated(head, now, "clear_flags", operator, None, True),))


def rewind(head: Head, now: datetime, left_out: tuple[LeftOut, ...], actor: str) -> Change:
    """The latest part of the conversation is taken out of later requests. Nothing is deleted, and what it cost stays.

    Raises:
        SessionEnded: nothing can be said in it any more.
        SessionBusy: a turn is running.
    """
    must_take_input(head)
    turn = replace(head.turn, seq=head.last_seq + 1, attempts=0, breakers=Breakers(), nudged=False)
    entry = Entry(type="rewind", at=iso(now), left_out=left_out, reason="withdrawn by its user")
    record = record_of(head, now, "rewind", actor=actor, left_out=[mark.seq for mark in left_out])
    after = replace(head, status="idle", stop=None, turn=turn, left_out=head.left_out + len(left_out))
    return written(after, now, entry, records=(record,))


def fork(
    head: Head, now: datetime, source: Head, copies: tuple[Entry, ...], content: tuple[Block, ...] | None
) -> Change:
    """A new session with a copy of another's conversation; with an input, on its way to a runner.

    Args:
        head: the new session as it would begin without the copy. Of its tools it keeps those that the other one has.
    """
    at_seq = copies[-1].seq if copies else 0
    turns = sum(entry.by_user for entry in copies)
    base = replace(
        head,
        status="idle",
        last_seq=at_seq,
        turn=replace(head.turn, number=turns + (content is not None), seq=at_seq + 1),
        granted_tools=tuple(name for name in head.granted_tools if name in source.granted_tools),
        left_out=sum(len(entry.left_out) for entry in copies),
        forked_from=ForkedFrom(source.session_id, at_seq),
    )
    records = (
        _created(base, now),
        record_of(base, now, "fork", forked_from=source.session_id, at_seq=at_seq),
        _granted(base, now),
    )
    if content is None:
        change = written(base, now, records=records)
    else:
        change = written(asked_for(base, now), now, _said(now, content), records=records)
    return replace(change, entries=(*copies, *change.entries))


def _said(now: datetime, content: tuple[Block, ...]) -> Entry:
    return Entry(type="user", at=iso(now), content=content)


def _created(head: Head, now: datetime) -> AuditRecord:
    detail = {"agent": head.agent, "placement": head.placement, "role": head.role, "version": head.version}
    return record_of(head, now, "session_created", **detail)


def _granted(head: Head, now: datetime) -> AuditRecord:
    return record_of(head, now, "grant", tools=list(head.granted_tools), role=head.role)


def _moved(
    head: Head, now: datetime, deployed: Deployed, operator: str | None = None
) -> tuple[Head, tuple[AuditRecord, ...]]:
    """The session on its agent as it is now, and a record where that is another version or another name. What the
    latest call read says nothing then about what the next one reads. Money that was left set aside is counted under the
    agent's name, so that changes only where there is none."""
    agent = head.agent if head.account.pending is not None else deployed.agent
    if (head.agent, head.version) == (agent, deployed.version):
        return head, ()
    account = replace(head.account, context_tokens=0)
    after = replace(head, agent=agent, version=deployed.version, done=deployed.done, account=account)
    detail = {"agent": agent, "before": head.version, "after": deployed.version}
    return after, (record_of(head, now, "version", actor=operator, **detail),)


def _kept(
    head: Head, now: datetime, tools: Collection[str] | None
) -> tuple[Head, tuple[str, ...], tuple[AuditRecord, ...]]:
    """The session without what its agent has no more, what that is, and the record of it."""
    removed = () if tools is None else tuple(name for name in head.granted_tools if name not in tools)
    if not removed:
        return head, (), ()
    change = narrow(head, now, tuple(name for name in head.granted_tools if name not in removed), "agent")
    return change.head, removed, change.audit


def _by(head: Head, now: datetime, role: str | None, actor: str | None) -> tuple[Head, tuple[AuditRecord, ...]]:
    """The turn in the hands of this user, and a record where that changes what it may use."""
    other = role if role != head.role else None
    if other == head.turn.role:
        return head, ()
    record = record_of(head, now, "grant", actor=actor, turn=head.turn.number, role=other or head.role)
    return replace(head, turn=replace(head.turn, role=other)), (record,)


def _operated(
    head: Head, now: datetime, action: str, operator: str | None, max_iterations: int | None, clears_flags: bool
) -> AuditRecord:
    detail: dict[str, Any] = {"action": action}
    if max_iterations is not None:
        detail |= {"max_iterations": max_iterations, "before": head.limits.max_iterations}
    if clears_flags:
        detail |= {"clear_flags": True, "up_to_seq": head.last_seq}
    return record_of(head, now, "operator_action", actor=operator, **detail)
