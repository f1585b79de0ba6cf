"""Attempts that no entry tells of, money in flight, and how near caps and breakers are, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from turnkeeper.core.ledger import ScopeState, iso
from turnkeeper.core.session import Head
from turnkeeper.core.story.facts import Facts, Line, budget, count, moment, refs, seconds_between, took, usd
from turnkeeper.core.usage import Usage

#: From this share of a limit on, it is near.
NEAR = 0.8

_BECAME = {
    "voided": "cost nothing",
    "settled": "cost {spent}",
    "in_doubt": "is in doubt: nobody knows whether it was carried out, so all {spent} set aside for it count",
    "pending": "is in flight, with {amount} set aside",
}


def calls(facts: Facts) -> Iterator[Line]:
    """Waits for money, and calls that brought no entry. What these cost, the next entry's line tells."""
    told = {entry.call for entry in facts.entries if entry.seq >= facts.first_seq and entry.call is not None}
    for call in facts.calls:
        number = int(call["call"])
        if waited := int(call.get("waited_ms") or 0):
            text = f"Call {number} had waited {took(waited)} for money that other calls had set aside."
            yield Line(at=moment(call["at"]), text=text, refs={"call": number})
        answered = call.get("state") == "settled" and not call.get("error")
        # An erased entry does not say which call it was; one of 0.1 never did, and tells of it all the same.
        if number not in told and not (answered and facts.head.status != "erased"):
            yield _call(facts, number, call)


def _call(facts: Facts, number: int, call: Mapping[str, Any]) -> Line:
    state = str(call.get("state"))
    amounts = {"spent": usd(int(call.get("spent_nanousd") or 0)), "amount": usd(int(call.get("amount_nanousd") or 0))}
    became = _BECAME.get(state, "became {state}").format(state=facts.say(state, 20), **amounts)
    model = facts.say(call.get("model"), 80)
    usage = Usage.of(call.get("usage"))
    status = f"HTTP {facts.say(call['status_code'], 10)}" if call.get("status_code") else ""
    error = facts.quoted(call["error"]) if call.get("error") else ""
    failed = f" failed ({', '.join(filter(None, (status, error)))}) and" if status or error else ""
    read = f" {usage.read_tokens:,} tokens read, {usage.output_tokens:,} written." if usage != Usage() else ""
    at = moment(call.get("resolved_at") or call["at"])
    ids = refs(call=number, request_id=call.get("request_id"))
    return Line(at=at, text=f"Call {number} to {model}{failed} {became}.{read}", refs=ids)


# ---- how it stands now ----


def standing(facts: Facts) -> Iterator[Line]:
    """How the session stands at this moment: its latest turn's breakers, its money, and who pays for it."""
    head, now = facts.head, iso(facts.now)
    if head.status != "erased":
        yield Line(
            at=now,
            text=f"Breakers of turn {head.turn.number} now: {_breakers(facts, head)}.",
            refs={"turn": head.turn.number},
        )
    for state in facts.scopes:
        if facts.may_see(state.scope):
            yield Line(at=now, text=_scope(state), refs=refs(scope=state.scope, agent=state.agent))
    account = head.account
    untold = account.cost_nanousd - sum(entry.cost_nanousd for entry in facts.entries if entry.seq >= facts.first_seq)
    if untold:
        why = "their entries were erased" if head.status == "erased" else "no entry tells it yet"
        yield Line(
            at=now,
            text=f"{usd(untold)} are booked for calls that no line tells the cost of: {why}.",
            cost_nanousd=untold,
        )
    doubt = f", of which {usd(account.in_doubt_nanousd)} are in doubt" if account.in_doubt_nanousd else ""
    flight = f"; {usd(account.reserved_nanousd)} are set aside for a call in flight" if account.pending else ""
    steps, turns = count(head.steps, "step"), count(head.turn.number, "turn")
    yield Line(at=now, text=f"In all it has cost {usd(account.cost_nanousd)}{doubt}, in {turns} and {steps}{flight}.")


def _breakers(facts: Facts, head: Head) -> str:
    turn, limits = head.turn, head.limits
    until = iso(facts.now) if not head.resting else head.updated_at
    state = turn.breakers
    seen = [*state.window, *state.results]
    most = max(Counter(seen).values(), default=0)
    parts = (
        (turn.iterations, limits.max_iterations, "iterations {} of {}"),
        (most, limits.repetition_strikes, "the same tool call {} of {} times"),
        (state.error_streak, limits.error_streak, "steps in a row whose every call failed: {} of {}"),
        (int(seconds_between(turn.started_at, until)), limits.max_seconds, "{} of {} seconds"),
        (turn.attempts, limits.max_attempts, "attempts at this call {} of {}"),
    )
    return ", ".join(
        f"{text.format(has, most_of)}{' (near)' if near(has, most_of) else ''}"
        for has, most_of, text in parts
        if has or most_of == limits.max_iterations
    )


def near(has: int, most: int) -> bool:
    """Whether there is little left; of a few strikes, one."""
    return has > 0 and (has >= NEAR * most or most - has == 1)


def _scope(state: ScopeState) -> str:
    whose = budget(state.scope)
    used = state.spent + state.reserved
    aside = f" and {usd(state.reserved)} set aside" if state.reserved else ""
    if state.cap is None:
        return f"Of {whose}, {usd(state.spent)} are spent{aside} now; it has no cap."
    near_cap = ", near its cap" if used >= NEAR * state.cap else ""
    share = f" ({used * 100 // state.cap} % used{near_cap})" if state.cap else ""
    resets = f"; it starts anew at {state.resets_at}" if state.resets_at else ""
    left = usd(max(0, state.cap - used))
    return f"Of {whose}, {usd(state.spent)} of {usd(state.cap)} are spent{aside} now{share}: {left} are left{resets}."
