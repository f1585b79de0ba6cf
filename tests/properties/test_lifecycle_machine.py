"""Whatever users, runners, operators and the sweep do to a session, in any order: what must hold of its state holds.

The machine is the store: it keeps the head, the entries, the audit trail and the ledger, and takes changes as they
come. A runner that dies is one that does nothing more. What may be done in a state is written down in the
preconditions, as the runtime keeps to it; what the lifecycle itself has to refuse is tried as well.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar, get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.examples import examples
from tests.support.heads import head, reserved
from turnkeeper.core import audit
from turnkeeper.core.errors import SessionBusy, SessionEnded
from turnkeeper.core.ledger import Resolution, iso
from turnkeeper.core.lifecycle import leaving, losing, running, taking
from turnkeeper.core.lifecycle.change import Change, Resolved, chain, record_of
from turnkeeper.core.lost_runners import OpenCall
from turnkeeper.core.session import Breakers, Entry, Flag, Head, Stop, StopReason
from turnkeeper.core.stops import STOPS, refusal_of, resumable, status_of
from turnkeeper.core.usage import Usage

pytestmark = pytest.mark.examples

LEASE_SECONDS = 30
SKEW_MILLIS = 3_000
INPUT = ({"type": "text", "text": "go"},)

F = TypeVar("F", bound=Callable[..., Any])

stops = st.builds(
    Stop,
    reason=st.sampled_from(get_args(StopReason)),
    detail=st.sampled_from([{}, {"status": "failed"}, {"arguments": {"a": 1}, "tool": "pay"}]),
)
placements = st.sampled_from(["auto", "interactive", "background"])
grants = st.sampled_from([(), ("add",), ("add", "pay")])
amounts = st.integers(0, 100)
#: For what ends a session for good: or few would live long enough for anything else.
seldom = st.integers(0, 9).map(lambda number: number == 9)
roles = st.sampled_from([None, "user", "reader"])
runners: st.SearchStrategy[Literal["lambda", "fargate"]] = st.sampled_from(["lambda", "fargate"])
resolutions: st.SearchStrategy[Resolution] = st.sampled_from(["settled", "voided", "in_doubt"])


@dataclass
class Call:
    amount: int
    state: str = "pending"
    spent: int = 0


def when(holds: Callable[[Head], bool]) -> Callable[[F], F]:
    """In such a state; and not while money is left behind at rest, which only the sweep may settle."""
    return precondition(lambda machine: not machine.left_behind and holds(machine.head))


def is_held(head: Head) -> bool:
    return head.lease.owner is not None


def is_calling(head: Head) -> bool:
    return is_held(head) and head.account.pending is not None


def is_between_calls(head: Head) -> bool:
    return is_held(head) and head.account.pending is None


def takes_inputs(head: Head) -> bool:
    return head.resting and not head.ended


def can_end_in_queue(head: Head) -> bool:
    return head.status == "queued" and not is_held(head) and head.account.pending is None


class LifecycleMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = datetime(2026, 3, 2, 11, 0, tzinfo=UTC)
        self.begin("auto", ())

    def begin(self, placement: Any, granted: tuple[str, ...]) -> None:
        self.head = head(status="queued", placement=placement, granted_tools=granted)
        self.entries: list[Entry] = []
        self.records: list[audit.AuditRecord] = []
        #: Kinds of the records that must be there, in order.
        self.audited: list[str] = []
        self.calls: dict[int, Call] = {}
        #: Runners that took the session since anything came of it.
        self.claims = 0
        #: Money is still set aside in a session at rest.
        self.left_behind = False
        self.write(taking.create(self.head, self.now, INPUT), "session_created", "grant")

    # ---- what the store does ----

    def write(self, change: Change, *audited: str | None, progress: bool = True) -> None:
        """One transaction. ``audited`` are the kinds of its records; without progress, lost runners count on."""
        assert not (change.reserved and change.resolved), "a write reserves or resolves, never both"
        if (new := change.reserved) is not None:
            assert new.reservation.call not in self.calls, "two calls of one number"
            self.calls[new.reservation.call] = Call(new.reservation.amount_nanousd)
        if (done := change.resolved) is not None:
            call = self.calls[done.reservation.call]
            assert call.state == "pending", "a call is settled twice"
            call.state, call.spent = done.resolution, done.spent_nanousd
        self.entries += change.entries
        self.audited += [kind for kind in audited if kind]
        if progress:
            self.claims = 0
        after, records = chain(change.head, change.audit)
        self.records += records
        self.become(after)

    def become(self, after: Head) -> None:
        assert after.lease.fencing_token >= self.head.lease.fencing_token, "a token fell"
        if after.session_id == self.head.session_id and len(self.records) > 2:
            assert set(after.granted_tools) <= set(self.head.granted_tools), "a grant grew"
        self.head = after

    def results(self, wanted: bool) -> tuple[Entry, ...]:
        return (Entry(type="tool_results", at=iso(self.now)),) if wanted else ()

    def resolved(self, resolution: Resolution, part: int) -> Resolved:
        """What may become of the pending call; ``part`` is a percentage of what was set aside."""
        pending = self.head.account.pending
        assert pending is not None
        spent = {"settled": pending.amount_nanousd * part // 100, "voided": 0, "in_doubt": pending.amount_nanousd}
        return Resolved(pending, resolution, spent[resolution])

    # ---- users ----

    @initialize(placement=placements, granted=grants)
    def create(self, placement: Any, granted: tuple[str, ...]) -> None:
        self.begin(placement, granted)

    @when(lambda head: head.ended)
    @rule(placement=placements, granted=grants)
    def create_another(self, placement: Any, granted: tuple[str, ...]) -> None:
        self.begin(placement, granted)

    @when(takes_inputs)
    @rule(role=roles, tools=st.none() | st.frozensets(st.sampled_from(["add", "pay", "new"])))
    def begin_turn(self, role: str | None, tools: frozenset[str] | None) -> None:
        before = self.head
        self.write(
            taking.begin_turn(before, self.now, INPUT, role=role, actor="bob", tools=tools),
            self.lost_with(tools),
            "grant" if (role == "reader") != (before.turn.role == "reader") else None,
        )
        assert (self.head.turn.number, self.head.turn.seq) == (before.turn.number + 1, self.head.last_seq)
        assert self.head.turn.iterations == self.head.turn.attempts == 0
        gone = [name for name in before.granted_tools if tools is not None and name not in tools]
        assert list(self.entries[-1].removed_tools) == gone

    def lost_with(self, tools: frozenset[str] | None) -> str | None:
        """The record of tools that the agent has no more; an agent that cannot be loaded takes none."""
        return None if tools is None or tools >= set(self.head.granted_tools) else "grant"

    @when(resumable)
    @rule(
        role=roles,
        operator=st.sampled_from([None, "operator:eve"]),
        max_iterations=st.sampled_from([None, 9]),
        clear_flags=st.booleans(),
        note=st.sampled_from([None, "Go on."]),
        tools=st.none() | st.frozensets(st.sampled_from(["add", "pay", "new"])),
    )
    def go_on(
        self,
        role: str | None,
        operator: str | None,
        max_iterations: int | None,
        clear_flags: bool,
        note: str | None,
        tools: frozenset[str] | None,
    ) -> None:
        before = self.head
        changes_hands = role is not None and (role == "reader") != (before.turn.role == "reader")
        self.write(
            taking.go_on(
                before,
                self.now,
                role=role,
                actor="bob",
                operator=operator,
                max_iterations=max_iterations,
                clear_flags=clear_flags,
                note=note,
                tools=tools,
            ),
            "grant" if changes_hands else None,
            "operator_action" if operator or max_iterations or clear_flags else None,
            self.lost_with(tools),
        )
        assert self.head.turn.number == before.turn.number, "it is the same turn"
        assert self.head.turn.iterations == before.turn.iterations, "and its iterations are not forgotten"

    @when(takes_inputs)
    @rule()
    def clear_flags(self) -> None:
        self.write(taking.clear_flags(self.head, self.now, "operator:eve"), "operator_action")

    @when(lambda head: not head.resting)
    @rule(actor=st.sampled_from([None, "bob"]))
    def request_cancel(self, actor: str | None) -> None:
        self.become(leaving.request_cancel(self.head, actor))

    @when(lambda head: takes_inputs(head) or can_end_in_queue(head))
    @rule(wanted=seldom)
    def cancel(self, wanted: bool) -> None:
        if wanted:
            self.write(leaving.cancel(self.head, self.now, "bob"), "cancel")

    @when(lambda head: head.status != "erased")
    @rule(wanted=seldom, open_calls=st.integers(0, 2))
    def erase(self, wanted: bool, open_calls: int) -> None:
        if not wanted:
            return
        records = [record_of(self.head, self.now, "tool_call")] * open_calls
        self.write(leaving.erase(self.head, self.now, "bob", records), *["tool_call"] * open_calls, "erase")

    # ---- runners ----

    @rule(seconds=st.sampled_from([1, 20, 60]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @when(lambda head: not head.resting and not is_held(head))
    @rule(runner=runners)
    def claim(self, runner: Literal["lambda", "fargate"]) -> None:
        before = self.head
        self.become(self.claimed(runner))
        self.claims += 1
        assert self.head.lease.fencing_token == before.lease.fencing_token + 1

    @when(is_held)
    @rule(runner=runners, sent_again=st.booleans())
    def follow_a_dead_runner(self, runner: Literal["lambda", "fargate"], sent_again: bool) -> None:
        self.now += timedelta(seconds=LEASE_SECONDS + 4)
        before = self.head
        amount = before.account.reserved_nanousd
        calls = (OpenCall(tool_use_id="t1", tool="add"),)
        if sent_again:
            change = losing.send_on(before, self.now, lease_seconds=LEASE_SECONDS, open_calls=calls)
            self.write(change, progress=False)
            self.claim(runner)
        else:
            change = losing.take_over(
                before,
                self.now,
                "host-1/token",
                runner,
                lease_seconds=LEASE_SECONDS,
                skew_millis=SKEW_MILLIS,
                open_calls=calls,
            )
            self.write(change, progress=False)
            self.claims += 1
        told = self.entries[-1]
        assert (told.type, told.runner, told.in_doubt_nanousd) == ("runner_lost", before.runner, amount)
        assert told.lost_runner is not None
        assert told.lost_runner.taken_over_by == ("sweep" if sent_again else runner)
        assert told.lost_runner.open_calls == (() if before.unbegun else calls)
        assert self.head.account.pending is None

    def leased(self) -> bool:
        millis = int(self.now.timestamp() * 1000)
        return is_held(self.head) and self.head.lease.expires_at + SKEW_MILLIS >= millis

    def claimed(self, runner: Literal["lambda", "fargate"] = "lambda") -> Head:
        owner = f"runner {self.head.lease.fencing_token}"
        return running.claim(self.head, self.now, owner, runner, lease_seconds=LEASE_SECONDS, skew_millis=SKEW_MILLIS)

    @when(is_held)
    @rule()
    def extend(self) -> None:
        self.become(running.extend(self.head, self.now, lease_seconds=LEASE_SECONDS))
        assert self.leased()

    @when(lambda head: is_held(head) and bool(head.granted_tools))
    @rule()
    def narrow(self) -> None:
        self.write(running.narrow(self.head, self.now, self.head.granted_tools[:-1]), "grant", progress=False)

    @when(lambda head: is_held(head) and head.unbegun)
    @rule()
    def take_up_unbegun(self) -> None:
        self.write(running.take_up_unbegun(self.head, self.now), progress=False)
        assert not self.head.unbegun

    @when(is_between_calls)
    @rule(amount=amounts, results=st.booleans())
    def begin_call(self, amount: int, results: bool) -> None:
        before = self.head.turn
        first = not before.attempts
        money = reserved(self.head.account.calls + 1, amount)
        change = running.begin_call(self.head, self.now, self.results(results), money, first_attempt=first)
        self.write(change, progress=results)
        assert self.head.turn.iterations == before.iterations + first

    @when(is_calling)
    @rule(part=st.integers(0, 100), nudged=st.booleans(), stop=st.none() | stops)
    def answer(self, part: int, nudged: bool, stop: Stop | None) -> None:
        change = running.answer(
            self.head,
            self.now,
            (Entry(type="assistant", at=iso(self.now)),),
            self.resolved("settled", part),
            Usage(input_tokens=3, output_tokens=1),
            breakers=Breakers(window=("a",)),
            nudged=nudged,
            took_millis=100,
        )
        if stop is None:
            self.write(change)
        else:
            self.write(leaving.ending(change, self.now, stop), STOPS[stop.reason].audit)
            self.rests_as(stop)

    @when(lambda head: not head.resting)
    @rule(runner=runners, amount=amounts, results=st.booleans(), part=st.integers(0, 100), stop=st.none() | stops)
    def make_a_step(
        self, runner: Literal["lambda", "fargate"], amount: int, results: bool, part: int, stop: Stop | None
    ) -> None:
        """What a runner mostly does, in one: the rules that it is made of seldom follow each other by chance."""
        if not is_held(self.head):
            self.claim(runner)
        self.doubt()
        self.begin_call(amount, results)
        self.answer(part, False, stop)

    @when(is_calling)
    @rule(resolution=resolutions, part=st.integers(0, 100), asked=st.booleans())
    def fail_attempt(self, resolution: Resolution, part: int, asked: bool) -> None:
        self.write(running.fail_attempt(self.head, self.now, self.resolved(resolution, part), asked=asked))
        assert self.head.turn.attempts > 0, "the next one is no new iteration"

    @when(is_between_calls)
    @rule(asked=st.booleans())
    def miss_attempt(self, asked: bool) -> None:
        self.become(running.miss_attempt(self.head, asked=asked))

    @when(is_held)
    @rule()
    def doubt(self) -> None:
        change = running.doubt(self.head, self.now, "the runner was lost")
        assert (change is None) == (self.head.account.pending is None)
        if change is not None:
            self.write(change, progress=False)

    @when(is_between_calls)
    @rule(flags=st.integers(0, 3), took=st.one_of(st.none(), st.just(200)))
    def see_results(self, flags: int, took: int | None) -> None:
        found = [Flag(seq=self.head.last_seq, tool_use_id=f"t{n}", tool="fetch", score=1) for n in range(flags)]
        self.become(running.see_results(self.head, breakers=Breakers(), nudged=False, took_millis=took, flags=found))

    # ---- leaving ----

    @when(is_between_calls)
    @rule(results=st.booleans(), open_calls=st.booleans(), unbegun=st.booleans(), waits_for_money=st.booleans())
    def hand_off(self, results: bool, open_calls: bool, unbegun: bool, waits_for_money: bool) -> None:
        if waits_for_money:
            self.become(running.put_back(self.head))
        change = leaving.hand_off(
            self.head,
            self.now,
            self.results(results),
            delay_seconds=15 if waits_for_money else 0,
            open_calls=open_calls,
            unbegun=unbegun,
        )
        self.write(change)

    @when(is_between_calls)
    @rule(stop=stops, results=st.booleans())
    def rest(self, stop: Stop, results: bool) -> None:
        self.write(leaving.rest(self.head, self.now, self.results(results), stop), STOPS[stop.reason].audit)
        self.rests_as(stop)

    def rests_as(self, stop: Stop) -> None:
        last = self.entries[-1]
        if refusal_of(self.head) is not None:  # It says of itself that no model was called.
            stop = stop.model_copy(update={"detail": {**stop.detail, "before_first_call": True}})
        assert (self.head.status, self.head.stop) == (status_of(stop), stop)
        assert (last.type, last.status, last.stop) == ("status", self.head.status, stop)

    @when(is_calling)
    @rule(stop=stops)
    def rest_without_settling(self, stop: Stop) -> None:
        """What no runner may do, and the sweep has to be able to mend."""
        self.write(leaving.rest(self.head, self.now, (), stop), STOPS[stop.reason].audit)
        self.left_behind = True

    # ---- the sweep ----

    @precondition(lambda machine: machine.left_behind)
    @rule()
    def settle_left_behind(self) -> None:
        before = self.head
        change = leaving.settle_left_behind(before, self.now)
        assert change is not None
        self.write(change, progress=False)
        self.left_behind = False
        assert (self.head.status, self.head.stop, self.head.turn) == (before.status, before.stop, before.turn)
        assert leaving.settle_left_behind(self.head, self.now) is None

    @when(lambda head: head.handoff is not None)
    @rule()
    def send_again(self) -> None:
        before = self.head
        self.write(leaving.send_again(before, self.now), progress=False)
        assert self.head.handoff is not None
        assert self.head.handoff.sends == (before.handoff.sends + 1 if before.handoff else 1)

    # ---- what has to be refused ----

    @rule(attempt=st.sampled_from(["begin_turn", "go_on", "clear_flags", "claim"]))
    def try_what_is_not_allowed(self, attempt: str) -> None:
        rests = SessionEnded if self.head.resting else SessionBusy
        attempts: dict[str, tuple[bool, type[Exception], Callable[[], object]]] = {
            "begin_turn": (takes_inputs(self.head), rests, lambda: taking.begin_turn(self.head, self.now, INPUT)),
            "go_on": (resumable(self.head), rests, lambda: taking.go_on(self.head, self.now)),
            "clear_flags": (takes_inputs(self.head), rests, lambda: taking.clear_flags(self.head, self.now, "eve")),
            "claim": (not self.head.resting and not self.leased(), rests, self.claimed),
        }
        allowed, error, carry_out = attempts[attempt]
        before = copy.deepcopy(self.head)
        try:
            carry_out()
        except (SessionBusy, SessionEnded) as refused:
            assert not allowed
            assert type(refused) is error
            assert refused.data["status"] == before.status
        else:
            assert allowed, f"{attempt} of a session that is {before.status}"
        assert self.head == before

    # ---- what always holds ----

    @invariant()
    def entries_are_numbered_without_gaps(self) -> None:
        assert [entry.seq for entry in self.entries] == list(range(1, self.head.last_seq + 1))

    @invariant()
    def the_books_agree(self) -> None:
        account = self.head.account
        spent = sum(call.spent for call in self.calls.values())
        assert account.cost_nanousd == spent
        assert sum(entry.cost_nanousd for entry in self.entries) + account.untold_nanousd == spent
        doubted = sum(call.spent for call in self.calls.values() if call.state == "in_doubt")
        assert account.in_doubt_nanousd == doubted
        assert sum(entry.in_doubt_nanousd for entry in self.entries) + account.untold_in_doubt_nanousd == doubted
        assert list(self.calls) == list(range(1, account.calls + 1))
        pending = [number for number, call in self.calls.items() if call.state == "pending"]
        assert pending == ([account.pending.call] if account.pending else [])
        assert all(call.spent <= call.amount for call in self.calls.values())

    @invariant()
    def a_session_rests_or_somebody_has_it_or_it_is_on_its_way(self) -> None:
        held, on_its_way = is_held(self.head), self.head.handoff is not None
        assert [self.head.resting, held, on_its_way].count(True) == 1, (self.head.status, held, on_its_way)
        if self.head.resting:
            assert self.left_behind == (self.head.account.pending is not None)
        if self.head.status == "queued":
            assert self.head.handoff is not None
            assert self.head.handoff.to == "queue"

    @invariant()
    def a_session_that_was_stopped_says_why(self) -> None:
        assert (self.head.stop is not None) == (self.head.resting and self.head.status != "erased")

    @invariant()
    def answers_are_counted(self) -> None:
        answers = [entry for entry in self.entries if entry.type == "assistant"]
        assert self.head.steps == len(answers)
        assert self.head.account.usage.input_tokens == 3 * len(answers)
        assert len(self.head.step_millis) <= running.MAX_STEP_TIMES
        assert len(self.head.flags) <= running.MAX_FLAGS
        assert 0 <= self.head.turn.iterations <= self.head.account.calls

    @invariant()
    def lost_runners_are_counted_until_something_comes_of_it(self) -> None:
        assert self.head.lease.claims == self.claims

    @invariant()
    def the_grant_is_what_the_latest_record_of_it_says(self) -> None:
        said = [record.detail for record in self.records if record.kind == "grant"]
        lists = [detail["tools"] for detail in said if detail and "tools" in detail]
        assert list(self.head.granted_tools) == lists[-1]

    @invariant()
    def the_audit_trail_has_what_was_done_and_verifies(self) -> None:
        assert [record.kind for record in self.records] == self.audited
        owner = {"tenant_id": self.head.tenant_id, "session_id": self.head.session_id}
        assert audit.verify(self.records, self.head.audit_seq, self.head.audit_hash, **owner) == []


TestLifecycle: Any = LifecycleMachine.TestCase
TestLifecycle.settings = settings(max_examples=examples(120, all=300), stateful_step_count=60)
