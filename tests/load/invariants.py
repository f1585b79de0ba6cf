"""What must hold after a run, whatever died when, of what is seen from outside. docs/invariants.md explains the list.

Each invariant is a function that tells what breaks it, in a sentence each; none where it holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import get_args

from tests.e2e.outside import RESTING, Document, assert_scopes, assert_transcript, results, text_of
from tests.load.evidence import Evidence, over
from tests.load.memory import grown
from turnkeeper.core.session import StopReason

#: Stops with which the kit says that something of its own failed.
OWN_FAULT = "internal_error"


def every_session_rests(seen: Evidence) -> Iterator[str]:
    for session in seen.sessions.values():
        if session["status"] not in RESTING:
            since = session["lease_expires_at"] or session["updated_at"]
            yield f"{session['session_id']} is {session['status']} (runner {session['runner']}, {since})"


def every_accepted_input_stands_once(seen: Evidence) -> Iterator[str]:
    """In its session; and one of which nobody knows whether it was taken in, at most once."""
    stands: dict[str, list[str]] = defaultdict(list)
    for session_id, events in seen.events.items():
        for text in (text_of(event.get("content") or ()) for event in events if event["type"] == "user"):
            for mark in (word.strip("()") for word in text.split() if word.startswith("(m")):
                stands[mark].append(session_id)
    if not any(said.accepted for said in seen.record.inputs):
        yield "no input was accepted: nothing is proved"
    for said in seen.record.inputs:
        found, session = stands.get(said.mark, []), seen.sessions.get(said.session_id or "")
        if session is not None and session["status"] == "erased":
            continue
        if said.accepted and session is None:
            yield f"an input of {said.kind} was accepted, and there is no session {said.session_id}"
        elif said.accepted and found != [said.session_id]:
            yield f"an input of {said.kind} in {said.session_id} stands {len(found)} times: {found}"
        elif len(found) > (0 if said.refused else 1):
            yield f"an input of {said.kind} {'was refused and ' * said.refused}stands {len(found)} times: {found}"


def every_session_was_begun_by_somebody(seen: Evidence) -> Iterator[str]:
    """A job that is sent twice begins one session; a lost answer may hide one."""
    known = {said.session_id for said in seen.record.inputs}
    unknown = [session_id for session_id in seen.sessions if session_id not in known]
    lost = sum(said.session_id is None and not said.refused for said in seen.record.inputs)
    if len(unknown) > lost:
        yield f"{len(unknown)} sessions that nobody began, and {lost} answers were lost: {unknown[:10]}"


def every_input_has_an_answer_or_a_typed_stop(seen: Evidence) -> Iterator[str]:
    reasons = set(get_args(StopReason))
    for session_id, events in seen.events.items():
        session = seen.sessions[session_id]
        if session["status"] == "erased":
            continue
        open_since = 0
        for event in events:
            if event["type"] == "user" and not event.get("by_kit"):
                if open_since:
                    yield f"{session_id}: the input at {open_since} is followed by another one, and was not answered"
                open_since = event["seq"]
            elif event["type"] == "status" and event.get("stop"):
                open_since = 0
                if event["stop"]["reason"] not in reasons:
                    yield f"{session_id} stopped at {event['seq']} for no known reason: {event['stop']['reason']}"
        if open_since and session["status"] in RESTING:
            yield f"{session_id}: the input at {open_since} was not answered, and the session is {session['status']}"


def transcripts_are_whole(seen: Evidence) -> Iterator[str]:
    """Numbered without gaps, one result for each call, and head = sum of the entries."""
    for session_id, session in seen.sessions.items():
        if session["status"] != "erased":
            yield from _told(session_id, partial(assert_transcript, session, seen.events[session_id]))


def no_turn_ends_by_an_error_of_the_kits_own(seen: Evidence) -> Iterator[str]:
    for session_id, events in seen.events.items():
        for stop in (event["stop"] for event in events if event.get("stop")):
            if stop["reason"] == OWN_FAULT:
                yield f"{session_id}: {stop}"


def every_call_is_answered(seen: Evidence) -> Iterator[str]:
    """By the API, with something else than an error of the kit's own; by the command line, without one."""
    yield from seen.record.failures


def no_error_is_logged(seen: Evidence) -> Iterator[str]:
    """By worker and functions; what the provider, tools and callers do wrong is none."""
    yield from seen.logged


def what_has_ended_stays_so(seen: Evidence) -> Iterator[str]:
    """A session of which somebody was told that it is cancelled or erased is just that."""
    for session_id, status in seen.record.ended.items():
        found = seen.sessions[session_id]["status"] if session_id in seen.sessions else "not there"
        if found != status:
            yield f"{session_id} was told to be {status}, and is {found}"


def once_effects_happen_at_most_once(seen: Evidence) -> Iterator[str]:
    for (session_id, call), times in Counter((*line.split()[:2],) for line in seen.once).items():
        if times > 1:
            yield f"{call} of {session_id} happened {times} times"


def idempotent_calls_keep_their_key(seen: Evidence) -> Iterator[str]:
    used: dict[tuple[str, str], set[str]] = defaultdict(set)
    for session_id, call, key in (line.split()[:3] for line in seen.keyed):
        used[session_id, call].add(key)
    for (session_id, call), found in used.items():
        if len(found) > 1:
            yield f"{call} of {session_id} ran with {len(found)} keys"


def what_is_told_as_done_was_done(seen: Evidence) -> Iterator[str]:
    """And no effect is of a call that no transcript holds, or is told to have been denied."""
    for tool, effects in (("pay", seen.once), ("stamp", seen.keyed)):
        done = {(*line.split()[:2],) for line in effects}
        told: dict[tuple[str, ...], str] = {}
        for session_id, events in seen.events.items():
            for result in results([{"results": event.get("results") or ()} for event in events]):
                if result["tool"] == tool:
                    told[session_id, result["tool_use_id"]] = result["outcome"]
        for (session_id, call), outcome in told.items():
            if outcome == "ok" and (session_id, call) not in done:
                yield f"{call} of {session_id} is told as done, and was not"
        for session_id, call in sorted(done - told.keys()):
            session = seen.sessions.get(session_id)
            if session is None or session["status"] not in {"erased", "running", "queued"}:
                yield f"{call} of {session_id} was done, and no result tells of it"
        for session_id, call in sorted(each for each in done & told.keys() if told[each] == "denied"):
            yield f"{call} of {session_id} was done, and is told as denied"


def counters_are_the_sum_of_sessions(seen: Evidence) -> Iterator[str]:
    """And at rest nothing is reserved. After midnight a user's month stands for the day; after the end of a month only
    the ledger's own look at its counters is left."""
    for tenant, books in seen.books.items() if seen.same_month else ():
        sessions = _of(seen, tenant)
        for user, scopes in books.scopes.items():
            whole = scopes if seen.same_day else {**scopes, "user_daily": scopes["user_monthly"]}
            yield from _told(f"{user} of {tenant}", partial(assert_scopes, whole, sessions, user))


def the_ledger_is_the_counters(seen: Evidence) -> Iterator[str]:
    """`turnkeeper spend report` finds no difference, and its total is what the sessions cost."""
    for tenant, books in seen.books.items():
        for difference in books.report["differences"]:
            yield f"{tenant}: {difference}"
        cost = sum((Decimal(session["cost_usd"]) for session in _of(seen, tenant)), Decimal(0))
        total = books.report["total"]
        if Decimal(total["total_usd"]) != cost or Decimal(total["reserved_usd"]):
            yield f"{tenant}: the ledger has {total['total_usd']} and {total['reserved_usd']} reserved, sessions {cost}"


def no_cap_is_passed(seen: Evidence) -> Iterator[str]:
    """At any time that it was looked at, and at the end."""
    yield from seen.passed
    for tenant, books in seen.books.items():
        for user, scopes in books.scopes.items():
            for line in filter(None, map(over, scopes.values())):
                yield f"{user} of {tenant}: {line}"


def audit_chains_verify(seen: Evidence) -> Iterator[str]:
    for tenant, books in seen.books.items():
        chains = books.audit["chains"]
        yield from (f"{tenant}: {chain}" for chain in chains if chain["problems"])
        missing = {each["session_id"] for each in _of(seen, tenant)} - {chain["session_id"] for chain in chains}
        if missing or not books.audit["ok"]:
            yield f"{tenant}: ok is {books.audit['ok']}, and there is no chain of {sorted(missing)[:10]}"


def dead_letters_are_those_that_were_meant(seen: Evidence) -> Iterator[str]:
    for (body, code), times in Counter(seen.dead).items():
        expected = seen.record.nonsense.get(body)
        if expected is None:
            yield f"a dead letter that was not meant ({code or 'without a reason'}): {body[:300]}"
        elif (code, times) != (expected, 1):
            yield f"{times} dead letters, {code} instead of {expected}: {body[:300]}"
    for body, code in seen.record.nonsense.items():
        if body not in {found for found, _ in seen.dead}:
            yield f"no dead letter ({code}) came of {body[:300]}"


def the_queue_is_empty(seen: Evidence) -> Iterator[str]:
    if seen.queue is not None and seen.queue != (0, 0):
        yield f"{seen.queue[0]} messages wait, {seen.queue[1]} are in somebody's hands"


def memory_does_not_grow(seen: Evidence) -> Iterator[str]:
    yield from grown(seen.curves, bound_percent=seen.growth_bound_percent, needed=seen.measured)


INVARIANTS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    every_session_rests,
    every_accepted_input_stands_once,
    every_session_was_begun_by_somebody,
    every_input_has_an_answer_or_a_typed_stop,
    transcripts_are_whole,
    no_turn_ends_by_an_error_of_the_kits_own,
    every_call_is_answered,
    no_error_is_logged,
    what_has_ended_stays_so,
    once_effects_happen_at_most_once,
    idempotent_calls_keep_their_key,
    what_is_told_as_done_was_done,
    counters_are_the_sum_of_sessions,
    the_ledger_is_the_counters,
    no_cap_is_passed,
    audit_chains_verify,
    dead_letters_are_those_that_were_meant,
    the_queue_is_empty,
    memory_does_not_grow,
)


def judged(seen: Evidence) -> dict[str, list[str]]:
    """By invariant, in words: what breaks it. What cannot be judged by what was seen did not hold."""
    return {invariant.__name__.replace("_", " "): list(_broken(invariant, seen)) for invariant in INVARIANTS}


def _broken(invariant: Callable[[Evidence], Iterator[str]], seen: Evidence) -> Iterator[str]:
    if seen.unseen is not None:
        yield f"not judged, the look at the end failed: {seen.unseen}"
        return
    try:
        yield from invariant(seen)
    except Exception as error:  # noqa: BLE001 - it is told
        yield f"cannot be judged: {type(error).__name__} {str(error)[:500]}"


def _of(seen: Evidence, tenant: str) -> list[Document]:
    return [session for session in seen.sessions.values() if session["tenant_id"] == tenant]


def _told(of_what: str, check: Callable[[], None]) -> Iterator[str]:
    try:
        check()
    except (AssertionError, KeyError) as error:
        yield f"{of_what}: {type(error).__name__} {str(error)[:500]}"
