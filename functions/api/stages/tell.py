"""The last stage: what became of it, as documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from functions.api.documents.sessions import (
    ContextDocument,
    ScoreDocument,
    SessionDocument,
    SessionForUsers,
    SessionSummary,
    TurnDocument,
)
from functions.api.http import Response
from functions.api.problems import problem
from turnkeeper.core.continuation import continuation_of, worth_a_token
from turnkeeper.core.errors import TenantPaused, TurnkeeperError, UnpricedModel, cap_text
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle.losing import last_heard, silent_since
from turnkeeper.core.money import format_usd
from turnkeeper.core.scoring import Score
from turnkeeper.core.session import Entry, Head, Stop
from turnkeeper.core.stops import BEFORE_FIRST_CALL, refusal_of, refusal_of_earlier
from turnkeeper.core.tracing import turn_context
from turnkeeper.core.transcript import output_of
from turnkeeper.core.usage import Usage
from turnkeeper.core.views import View, stop_for_users
from turnkeeper.runtime.intake import Identity
from turnkeeper.telemetry import fields
from turnkeeper.wiring.front_door import FrontDoorKit

if TYPE_CHECKING:
    from turnkeeper.runtime.store.scores import Assessment

#: By which the latest turn of the session that an answer tells of is found among the traces.
TRACE_HEADER = "x-trace-id"


def seen(view: View, document: dict[str, Any]) -> dict[str, Any]:
    """The document of a turn or a session, or a list's line, as it is told in a view."""
    if view == "full":
        return document
    told = {name: document[name] for name in SessionForUsers.model_fields if name in document}
    return {**told, "stop": told["stop"] and stop_for_users(told["stop"])}


def turn(kit: FrontDoorKit, head: Head, number: int, view: View, answer: Callable[[], Entry | None]) -> Response:
    """A turn of a session as it is now, or as it ended where others have followed. Of an erased one nothing tells what
    each turn was, so that it is told as a whole.

    Args:
        answer: the last thing that the model said in the turn that the head is in.
    """
    fields.note(**fields.of_head(head))
    if head.turn.number != number and head.status != "erased":
        entries = kit.sessions.load(head.tenant_id, head.session_id).entries
        earlier = _earlier_turn(head, entries, number)
        refused = _refusal(head, refusal_of_earlier(earlier.stop), earlier.stop, None)
        return refused or Response.json(seen(view, earlier.dump()))
    token = _token(kit, head)
    response = _refusal(head, refusal_of(head), head.stop, token) or Response.json(
        seen(view, TurnDocument(**_turn(head, token, answer())).dump()), 200 if head.resting else 202
    )
    return response.with_headers({TRACE_HEADER: turn_context(head).trace_id})


def session(kit: FrontDoorKit, who: Identity, head: Head, view: View) -> Response:
    """A session. A token is of use to the session's own user only, so nobody else is given one."""
    fields.note(**fields.of_head(head))
    answer = Response.json(seen(view, SessionDocument(**members(kit, who, head)).dump()))
    return answer.with_headers({TRACE_HEADER: turn_context(head).trace_id})


def members(kit: FrontDoorKit, who: Identity, head: Head) -> dict[str, Any]:
    """Those of a session's document."""
    token = _token(kit, head) if head.user_id == who.user_id else None
    answer = kit.sessions.latest_answer(head.tenant_id, head.session_id, since=head.turn.seq)
    return {
        **_turn(head, token, answer),
        **_facts(head),
        **watch(kit, head),
        "role": head.role,
        "version": head.version,
        "trace_id": turn_context(head).trace_id,
        "granted_tools": list(head.granted_tools),
        "limits": head.limits,
        "scores": _scores(kit, head),
        "flags": list(head.flags),
        "repairs": head.repairs,
        "context": ContextDocument(
            tokens=head.account.context_tokens, window=head.window or None, left_out=head.left_out
        ),
        "forked_from": head.forked_from,
        "plan": kit.sessions.plan(head.tenant_id, head.session_id),
    }


def _scores(kit: FrontDoorKit, head: Head) -> list[ScoreDocument]:
    scored = kit.scores.of_session(head.tenant_id, head.session_id)
    return [_score(made, score) for made in scored for score in made.scores]


def _score(made: Assessment, score: Score) -> ScoreDocument:
    return ScoreDocument(
        turn=made.turn,
        name=score.name,
        value=score.value,
        passed=score.passed,
        reason=score.reason,
        seq=score.seq,
        at=made.at,
        version=made.version,
    )


def watch(kit: FrontDoorKit, head: Head) -> dict[str, str | None]:
    """How the session's runner is."""
    if head.lease.owner is None:
        return {"lease_expires_at": None, "runner_silent_since": None}
    heard = last_heard(head, kit.settings.lease_seconds)
    silent = silent_since(head, kit.clock.now(), kit.settings.lease_seconds)
    return {
        "lease_expires_at": iso(heard + timedelta(seconds=kit.settings.lease_seconds)),
        "runner_silent_since": iso(silent) if silent else None,
    }


def summary(head: Head) -> SessionSummary:
    return SessionSummary(**_progress(head), **_facts(head))


def scored(kit: FrontDoorKit, head: Head) -> SessionSummary:
    """With the score that a session is among the worst for."""
    worst = [
        (made.worst, made) for made in kit.scores.of_session(head.tenant_id, head.session_id) if made.worst is not None
    ]
    score, made = min(worst, key=lambda one: one[0].value, default=(None, None))
    told = _score(made, score) if made is not None and score is not None else None
    return SessionSummary(**_progress(head), **_facts(head), worst_score=told)


def _token(kit: FrontDoorKit, head: Head) -> str | None:
    return kit.tokens.sign(continuation_of(head)) if worth_a_token(head) else None


# ---- the current turn ----


def _turn(head: Head, token: str | None, answer: Entry | None) -> dict[str, Any]:
    return {**_progress(head), **output_of(head.stop, answer), "continuation_token": token}


def _progress(head: Head) -> dict[str, Any]:
    return {
        "session_id": head.session_id,
        "agent": head.agent,
        "status": head.status,
        "stop": head.stop,
        "turn": head.turn.number,
        "steps": head.steps,
        "usage": head.account.usage,
        "cost_usd": format_usd(head.account.cost_nanousd),
        "in_doubt_usd": format_usd(head.account.in_doubt_nanousd),
        "last_seq": head.last_seq,
    }


def _facts(head: Head) -> dict[str, Any]:
    return {
        "tenant_id": head.tenant_id,
        "user_id": head.user_id,
        "placement": head.placement,
        "runner": head.runner,
        "iterations": head.turn.iterations,
        "created_at": head.created_at,
        "updated_at": head.updated_at,
        "metadata": head.metadata,
    }


def _refusal(head: Head, error: type[TurnkeeperError] | None, stop: Stop | None, token: str | None) -> Response | None:
    """A turn that was stopped before its first model call was refused, as a problem says."""
    if error is None or stop is None:
        return None
    detail: dict[str, Any] = {}
    if error is TenantPaused:
        text = f"Tenant {head.tenant_id} is paused by its operator."
    elif error is UnpricedModel:
        text = "Nobody can price the agent's model."
    else:
        detail = {name: value for name, value in stop.detail.items() if name != BEFORE_FIRST_CALL}
        text = cap_text(detail["scope"], detail["limit_usd"], detail["needed_usd"])
    detail |= {"session_id": head.session_id, "continuation_token": token}
    return problem(error.status, error.code, text, detail)


def _earlier_turn(head: Head, entries: Iterable[Entry], number: int) -> TurnDocument:
    """A turn that later ones have followed, as it was when it ended. Turns of the session that this one is a copy of
    count as turns only, and the copy itself as one that nothing was done in."""
    copied = head.forked_from.seq if head.forked_from else 0
    turn, steps, usage, cost, in_doubt = 0, 0, Usage(), 0, 0
    answer, ended, last_seq = None, None, 0
    for entry in entries:
        if entry.by_user:
            turn += 1
            if turn > number:
                break
            answer, ended = None, None
        last_seq = entry.seq
        if last_seq <= copied:
            continue
        cost, usage = cost + entry.cost_nanousd, usage + Usage.of(entry.usage)
        in_doubt += entry.in_doubt_nanousd
        if entry.type == "assistant":
            answer, steps = entry, steps + 1
        elif entry.type == "status":
            ended = entry
    stop = ended.stop if ended else None
    return TurnDocument(
        session_id=head.session_id,
        agent=head.agent,
        status=(ended.status if ended else None) or "idle",
        stop=stop,
        **output_of(stop, answer),
        turn=number,
        steps=steps,
        usage=usage,
        cost_usd=format_usd(cost),
        in_doubt_usd=format_usd(in_doubt),
        last_seq=last_seq,
        continuation_token=None,
    )
