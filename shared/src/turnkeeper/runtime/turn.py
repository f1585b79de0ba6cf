"""One runner's part of a turn: decide and act until it rests or is handed off."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from turnkeeper.core import decide
from turnkeeper.core.agent import Agent
from turnkeeper.core.audit import AuditKind
from turnkeeper.core.decide import CallModel, Finish, HandOff, Judgement, RunTools
from turnkeeper.core.errors import (
    CostCapExceeded,
    LeaseLost,
    ProviderError,
    TenantPaused,
    Unavailable,
    UnpricedModel,
)
from turnkeeper.core.policy import Terms
from turnkeeper.core.session import Entry, Handoff, Head, Status, Stop, Transcript
from turnkeeper.core.transcript import Block, tool_uses
from turnkeeper.ports import StoreBusy
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.model_step import ModelStep
from turnkeeper.runtime.store.changes import Resolved
from turnkeeper.runtime.tool_step import ToolStep
from turnkeeper.runtime.toolbox import Toolbox
from turnkeeper.runtime.worksheet import Worksheet

if TYPE_CHECKING:
    from turnkeeper.runtime.engine import Allowance, World

#: Kept of a runner's hard end for writing down what happened.
RESERVE_SECONDS = 10.0
#: A runner that is told to stop still begins calls that take this long at most.
DRAIN_TOOL_SECONDS = 30.0
#: Longer waits than this for a provider's bad day end the turn; it can be resumed.
MAX_BACKOFF_SECONDS = 60.0
#: A worker puts a session that waits for money in flight back for this long, at most this many times in a row.
PUT_BACK_SECONDS = 15
PUT_BACKS = 20
#: Runners that a session may cost in a row without anything coming of it: then it is what kills them.
MAX_CLAIMS = 10


class Turn:
    def __init__(
        self,
        world: World,
        transcript: Transcript,
        terms: Terms,
        agent: Agent | None,
        toolbox: Toolbox,
        *,
        allowance: Allowance,
        lease: Lease,
    ) -> None:
        self._world = world
        self._agent = agent
        self._toolbox = toolbox
        self._allowance = allowance
        self._lease = lease
        self._sheet = Worksheet(world.sessions, world.clock, lease, transcript, allowance.runner)
        self._model = ModelStep(world, self._sheet, terms, toolbox)
        blocks_once = agent is not None and agent.block_once_after_flag
        self._tools = ToolStep(world, self._sheet, toolbox, blocks_once=blocks_once)
        self._started = self._step_started = world.clock.monotonic()

    # ---- the loop ----

    def drive(self) -> Head:
        """The head as this runner left it: at rest, or on its way to another runner."""
        claims = self._sheet.head.claims
        self._doubt("the runner was lost")
        if claims > MAX_CLAIMS:
            return self._give_up({"hint": f"{claims - 1} runners in a row were lost before anything came of it."})
        if self._sheet.head.unbegun:
            # Unset before any of them runs: if this runner dies now, nobody can know any more.
            self._sheet.write(unbegun=False, claims=claims)
            self._tools.own_calls = True
        if self._agent is None:
            return self._give_up({"hint": f"Agent {self._sheet.head.agent!r} is not deployed any more, or is broken."})
        while (left := self._act()) is None:
            pass
        return left

    def _act(self) -> Head | None:
        """One action; the head where it ended this runner's part."""
        if self._lease.cancelled:
            self._sheet.change(cancel_requested=True)
        action = decide.next_action(
            self._sheet.head,
            self._sheet.entries,
            results_pending=self._sheet.answers is not None,
            elapsed_seconds=self._sheet.elapsed_seconds(),
            left_seconds=self._left(self._allowance.turn_seconds),
            turn_seconds=self._allowance.turn_seconds or 0.0,
        )
        match action:
            case Finish():
                return self._finish(replace(action, answers=self._tools.honest(action.answers)))
            case RunTools():
                return self._run_tools(action.calls)
            case HandOff():
                return self._hand_off()
            case CallModel():
                return self._hand_off() if self._allowance.draining() else self._call_model()

    def narrow(self, granted: tuple[str, ...]) -> None:
        """Policy has become stricter: what the session is given is less from now on, and stays so."""
        head = self._sheet.head
        if granted == head.granted_tools:
            return
        removed = [name for name in head.granted_tools if name not in granted]
        record = self._world.auditor.record(head, "grant", tools=list(granted), removed=removed, role=head.role)
        self._sheet.audit.append(record)
        self._sheet.change(granted_tools=granted)

    def fail(self, error: Exception) -> Head:
        """End the turn after an error of our own, with everything done so far kept, as far as it can be written."""
        detail = {"error": type(error).__name__}
        self._doubt("the runner failed")
        if self._sheet.answers is None:
            return self._give_up(detail)
        try:
            return self._finish(Finish("stopped", Stop(reason="internal_error", detail=detail)))
        except (LeaseLost, StoreBusy, Unavailable):
            raise
        except Exception:  # noqa: BLE001 - whatever it is, it is in what waits to be written
            self._sheet.drop_waiting()
            return self._give_up(detail)

    def _give_up(self, detail: Mapping[str, Any]) -> Head:
        """The turn ends by no fault of its own. Calls that are still open may have been made: so they are answered."""
        stop = Stop(reason="internal_error", detail=dict(detail))
        return self._finish(Finish("stopped", stop, self._tools.unknown()))

    def _doubt(self, error: str) -> None:
        """Money that was set aside for a call of which nothing is known. The call is made again: it is no iteration."""
        head = self._sheet.head
        if (lost := head.pending) is not None:
            iterations = head.iterations if head.attempts else max(0, head.iterations - 1)
            resolved = Resolved(lost, "in_doubt", lost.amount_nanousd, {"error": error})
            self._model.book(resolved, iterations=iterations, claims=head.claims)

    def _given_up(self) -> bool:
        """Whatever runs is not waited for any more."""
        return self._lease.lost or self._lease.cancelled or self._allowance.expired()

    # ---- tools ----

    def _run_tools(self, calls: Sequence[Block]) -> Head | None:
        sheet = self._sheet
        left = self._left(self._allowance.hard_seconds)
        if self._tools.own_calls and self._better_elsewhere(calls, left):
            return self._hand_off(open_calls=True, unbegun=True)
        ran = self._tools.run(calls, left_seconds=None if left is None else left - RESERVE_SECONDS, stop=self._given_up)
        sheet.raise_if_lost()
        if ran.given_up and self._allowance.expired() and not self._lease.cancelled:
            # Not waited for: the next runner finds what was put down and runs again what may run again.
            return self._hand_off(open_calls=True)
        answers = ran.answers
        self._tools.take(calls, answers)
        judged = decide.judge_results(
            sheet.head, calls, answers, hash_of=self._tools.hash_of, polls=self._toolbox.polls
        )
        took = int((self._world.clock.monotonic() - self._step_started) * 1000)
        millis = (*sheet.head.step_millis[:-1], took) if self._tools.own_calls else sheet.head.step_millis
        sheet.change(breakers=judged.breakers, nudged=judged.nudged, step_millis=millis)
        self._warn(judged)
        if judged.ends:
            assert judged.stop is not None
            return self._finish(Finish(judged.status, judged.stop))
        return None

    def _better_elsewhere(self, calls: Sequence[Block], left: float | None) -> bool:
        """None of the calls has begun, and this runner may end before the longest of them does."""
        longest = self._tools.longest_seconds(calls)
        if self._allowance.draining():
            return longest > DRAIN_TOOL_SECONDS
        if left is None or self._sheet.head.placement == "interactive":
            return False
        return longest > left - RESERVE_SECONDS

    def _warn(self, judged: Judgement) -> None:
        if judged.warning is not None:
            self._sheet.warnings.append(judged.warning)

    # ---- the model ----

    def _call_model(self) -> Head | None:
        self._step_started = self._world.clock.monotonic()
        try:
            request, reservation = self._model.begin(
                wait_seconds=self._contention_seconds(), stop=lambda: self._given_up() or self._allowance.draining()
            )
        except UnpricedModel as unpriced:
            return self._finish(Finish("stopped", Stop(reason="internal_error", detail={"code": unpriced.code})))
        except TenantPaused:
            return self._finish(Finish("stopped", Stop(reason="paused")))
        except CostCapExceeded as refused:
            return self._refused(refused)
        except ProviderError as failed:
            self._sheet.change(attempts=self._sheet.head.attempts + failed.asked)
            return self._after_failure(failed)
        left = self._left(self._allowance.hard_seconds)
        try:
            reply = self._model.call(
                request, left_seconds=None if left is None else left - RESERVE_SECONDS, stop=self._given_up
            )
        except ProviderError as failed:
            self._model.book_failure(reservation, failed)
            return self._after_failure(failed)
        content, dropped = decide.kept(reply.content)
        reply = replace(reply, content=content)
        judged = decide.judge_reply(
            self._sheet.head, reply.content, reply.stop_reason, hash_of=self._tools.hash_of, polls=self._toolbox.polls
        )
        if judged.answers:
            self._tools.audit(tool_uses(reply.content), judged.answers)
        duration = int((self._world.clock.monotonic() - self._step_started) * 1000)
        self._model.settle(reservation, reply, judged, self._rest_after(judged), duration)
        self._tools.own_calls = True
        self._warn(judged)
        if dropped and not judged.ends:
            kept = decide.MAX_KEPT_CALLS
            self._sheet.warnings.append(f"Of your calls the first {kept} were taken; {dropped} more were left out.")
        return self._sheet.head if judged.ends else None

    def _after_failure(self, failed: ProviderError) -> Head | None:
        """Wait and let the loop try again, or end the turn: resumable, nothing lost."""
        if self._lease.cancelled or self._allowance.draining():
            return None
        if failed.data.get("context_window"):
            return self._finish(Finish("stopped", Stop(reason="context_window")))
        head = self._sheet.head
        wait = self._backoff_seconds(head.attempts, failed.retry_after_seconds)
        if failed.retryable and head.attempts < head.limits.max_attempts and wait <= MAX_BACKOFF_SECONDS:
            left = self._left(self._allowance.turn_seconds)
            if left is not None and wait > left:
                return self._hand_off(delay_seconds=math.ceil(wait))
            self._sleep(wait)
            return None
        detail = {
            "attempts": head.attempts,
            "status_code": failed.status_code,
            "error": self._world.redactor.redact_text(failed.detail)[:500],
            "retry_after_seconds": failed.retry_after_seconds,
        }
        return self._finish(Finish("stopped", Stop(reason="provider_error", detail=detail)))

    def _backoff_seconds(self, attempts: int, retry_after: float | None) -> float:
        """Exponential with jitter; what the provider asks for comes first."""
        if retry_after is not None:
            return retry_after + self._world.ids.jitter()
        return float(min(0.5 * 2**attempts, 30.0)) * (0.5 + self._world.ids.jitter() / 2)

    def _sleep(self, seconds: float) -> None:
        """In small pieces: a cancel or a drain does not wait for a back-off."""
        until = self._world.clock.monotonic() + seconds
        while (left := until - self._world.clock.monotonic()) > 0.001:
            if self._given_up() or self._allowance.draining():
                return
            self._world.clock.sleep(min(left, 0.5))

    def _refused(self, refused: CostCapExceeded) -> Head | None:
        """Only money in flight in the way: a worker puts the session back for a while. Else the turn stops."""
        head = self._sheet.head
        if refused.contended and (self._lease.cancelled or self._allowance.draining()):
            return None  # It waited no longer because of that, which the loop sees to.
        if refused.contended and self._allowance.runner == "fargate" and head.put_backs < PUT_BACKS:
            self._sheet.change(put_backs=head.put_backs + 1)
            return self._hand_off(delay_seconds=PUT_BACK_SECONDS)
        detail = {**refused.data, "before_first_call": head.iterations == 0}
        if refused.contended:
            detail["retry_after_seconds"] = PUT_BACK_SECONDS
        return self._finish(Finish("stopped", Stop(reason="cost_cap", detail=detail)))

    def _contention_seconds(self) -> float:
        most = self._allowance.contention_seconds
        left = self._left(self._allowance.turn_seconds)
        return most if left is None else max(0.0, min(left, most))

    # ---- ends ----

    def _finish(self, finish: Finish) -> Head:
        """The turn rests: what waits is written, the lease released."""
        sheet = self._sheet
        if finish.answers:
            self._tools.take(sheet.open_calls(), finish.answers)
        entries = sheet.waiting()
        self._audit_stop(finish.stop)
        stop = self._shown(finish.stop)
        status_entry, resting = self._rest(finish.status, stop, sheet.head.last_seq + len(entries) + 1)
        sheet.write(*entries, status_entry, **resting)
        return sheet.head

    def _rest_after(self, judged: Judgement) -> Any:
        if not judged.ends or judged.stop is None:
            return None
        stop = self._shown(judged.stop)
        self._audit_stop(stop)
        return lambda seq: self._rest(judged.status, stop, seq)

    def _rest(self, status: Status, stop: Stop, seq: int) -> tuple[Entry, Mapping[str, Any]]:
        """The status entry, and the head's fields at rest."""
        resting = {
            "status": status,
            "stop": stop,
            "lease_owner": None,
            "handoff": None,
            "put_backs": 0,
            "untold_nanousd": 0,
        }
        return self._sheet.status_entry(seq, status, stop), resting

    def _shown(self, stop: Stop) -> Stop:
        """Arguments in a stop go where the transcript does not: to lists of sessions, logs and alerts."""
        if "arguments" not in stop.detail:
            return stop
        tool = self._toolbox.get(stop.detail["tool"])
        secret = tool.secret_arguments if tool else frozenset()
        arguments = self._world.auditor.arguments(stop.detail["arguments"], secret)
        return stop.model_copy(update={"detail": {**stop.detail, "arguments": arguments}})

    def _audit_stop(self, stop: Stop) -> None:
        kind = _AUDITED_STOPS.get(stop.reason)
        if kind is not None:
            actor = self._world.sessions.cancel_actor(self._sheet.head) if kind == "cancel" else None
            # Arguments are contents, which an audit record's detail must not hold.
            detail = {name: value for name, value in stop.detail.items() if name not in {"arguments", "reason"}}
            record = self._world.auditor.record(self._sheet.head, kind, actor=actor, reason=stop.reason, **detail)
            self._sheet.audit.append(record)

    def _hand_off(self, *, delay_seconds: int = 0, open_calls: bool = False, unbegun: bool = False) -> Head:
        """The session is on its way to another runner: written first, sent after. The write alone is enough for the
        sweep to send it. With calls still open there is no status entry: their results come next in the transcript."""
        sheet, head = self._sheet, self._sheet.head
        to_function = head.placement == "interactive"
        status: Status = "running" if to_function else "queued"
        entries = list(sheet.waiting())
        untold = head.untold_nanousd
        if not open_calls:
            entries.append(sheet.status_entry(head.last_seq + len(entries) + 1, status))
            untold = 0
        sheet.write(
            *entries,
            status=status,
            lease_owner=None,
            handoff=Handoff(to="function" if to_function else "queue", at=sheet.now(), delay_seconds=delay_seconds),
            untold_nanousd=untold,
            unbegun=unbegun,
        )
        return sheet.head

    def _left(self, seconds: float | None) -> float | None:
        return None if seconds is None else seconds - (self._world.clock.monotonic() - self._started)


_AUDITED_STOPS: dict[str, AuditKind] = {
    "cost_cap": "cap_trip",
    "paused": "cap_trip",
    "iteration_limit": "breaker_trip",
    "repetition": "breaker_trip",
    "error_streak": "breaker_trip",
    "deadline": "breaker_trip",
    "no_done_signal": "breaker_trip",
    "cancelled": "cancel",
}
