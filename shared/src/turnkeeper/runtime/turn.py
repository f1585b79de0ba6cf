"""One runner's part of a turn: decide and act until it rests or is handed off."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from turnkeeper.core import decide
from turnkeeper.core.admission import admit
from turnkeeper.core.decide import CallModel, Finish, HandOff, Judgement, RunTools
from turnkeeper.core.errors import (
    CostCapExceeded,
    PromptFailed,
    ProviderError,
    TenantPaused,
    UnpricedModel,
)
from turnkeeper.core.fallbacks import next_model
from turnkeeper.core.lifecycle import leaving, running
from turnkeeper.core.session import Head, Stop
from turnkeeper.core.transcript import Block, tool_uses
from turnkeeper.ports import Clock, Ids, ModelReply, Redacts
from turnkeeper.runtime.compacting import Compacting, TooLong, is_refused
from turnkeeper.runtime.ending import Ending
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.model_step import ModelStep, Waits
from turnkeeper.runtime.prompting import Prompting
from turnkeeper.runtime.relaying import Relay
from turnkeeper.runtime.repairing import repaired
from turnkeeper.runtime.store.treasury import Admitted
from turnkeeper.runtime.tool_step import ToolStep
from turnkeeper.runtime.toolbox import Toolbox
from turnkeeper.runtime.worksheet import Worksheet
from turnkeeper.runtime.world import Allowance

logger = logging.getLogger(__name__)

#: Kept of a runner's hard end for writing down what happened.
RESERVE_SECONDS = 10.0
#: A runner that is told to stop still begins calls that take this long at most.
DRAIN_TOOL_SECONDS = 30.0
#: Longer waits than this for a provider's bad day end the turn; it can be resumed.
MAX_BACKOFF_SECONDS = 60.0
#: A worker puts a session that waits for money in flight back for this long, at most this many times in a row.
PUT_BACK_SECONDS = 15
PUT_BACKS = 20
WAYS_ON = "Take the latest turns out of the conversation (rewind), or go on in a copy of an earlier state (fork)."
#: Of what a runner has, what it still has after the little that comes before its first step.
_NEARLY = 0.9
#: Runners that a session may cost in a row without anything coming of it: then it is what kills them.
MAX_CLAIMS = 10


@dataclass
class Turn:
    sheet: Worksheet
    model: ModelStep
    prompting: Prompting
    compacting: Compacting
    tools: ToolStep
    toolbox: Toolbox
    ending: Ending
    allowance: Allowance
    lease: Lease
    clock: Clock
    ids: Ids
    redactor: Redacts
    relay: Relay
    #: The session's agent is deployed, and sound.
    agent_found: bool
    _started: float = field(init=False)
    _step_started: float = field(init=False)

    def __post_init__(self) -> None:
        self._started = self._step_started = self.clock.monotonic()

    # ---- the loop ----

    def drive(self, instead: Callable[[], Head] | None = None) -> Head:
        """The head as this runner left it: at rest, or on its way to another runner.

        Args:
            instead: brings it there in place of this loop, once it is known that there is something to drive.
        """
        sheet = self.sheet
        claims = sheet.head.lease.claims
        self._doubt("the runner was lost")
        if claims > MAX_CLAIMS:
            return self.give_up({"hint": f"{claims - 1} runners in a row were lost before anything came of it."})
        if sheet.head.unbegun:
            sheet.write(running.take_up_unbegun(sheet.head, sheet.now()))
            self.tools.own_calls = True
        if not self.agent_found:
            return self.give_up({"hint": f"Agent {sheet.head.agent!r} is not deployed any more, or is broken."})
        if instead is not None:
            return instead()
        while (left := self._act()) is None:
            pass
        return left

    def _act(self) -> Head | None:
        """One action; the head where it ended this runner's part."""
        if self.lease.cancelled:
            self.sheet.head = leaving.request_cancel(self.sheet.head, None)
        action = decide.next_action(
            self.sheet.head,
            self.sheet.entries,
            results_pending=self.sheet.answers is not None,
            elapsed_seconds=self.sheet.elapsed_seconds(),
            left_seconds=self._left(self.allowance.turn_seconds),
            turn_seconds=self.allowance.turn_seconds or 0.0,
        )
        match action:
            case Finish():
                return self.ending.finish(action.stop, self.tools.honest(action.answers))
            case RunTools():
                return self._run_tools(action.calls)
            case HandOff():
                return self.ending.hand_off()
            case CallModel():
                return self.ending.hand_off() if self.allowance.draining() else self._call_model()

    def narrow(self, granted: tuple[str, ...]) -> None:
        """Policy has become stricter: what the session is given is less from now on, and stays so."""
        if granted != self.sheet.head.granted_tools:
            self.sheet.keep(running.narrow(self.sheet.head, self.sheet.now(), granted))

    def fail(self, error: Exception) -> Head:
        """End the turn after an error of our own, with everything done so far kept, as far as it can be written."""
        self._doubt("the runner failed")
        stop = Stop(reason="internal_error", detail={"error": type(error).__name__})
        return self.ending.finish(stop, self.tools.unknown() if self.sheet.answers is None else ())

    def give_up(self, detail: Mapping[str, Any]) -> Head:
        """The turn ends by no fault of its own. Calls that are still open may have been made: so they are answered."""
        stop = Stop(reason="internal_error", detail=dict(detail))
        return self.ending.finish(stop, self.tools.unknown())

    def _doubt(self, why: str) -> None:
        if (change := running.doubt(self.sheet.head, self.sheet.now(), why)) is not None:
            self.sheet.write(change)

    def given_up(self) -> bool:
        """Whatever runs is not waited for any more."""
        return self.lease.lost or self.lease.cancelled or self.allowance.expired()

    # ---- tools ----

    def _run_tools(self, calls: Sequence[Block]) -> Head | None:
        sheet = self.sheet
        left = self._left(self.allowance.hard_seconds)
        if self.tools.own_calls and self._better_elsewhere(calls, left):
            return self.ending.hand_off(open_calls=True, unbegun=True)
        ran = self.tools.run(calls, left_seconds=None if left is None else left - RESERVE_SECONDS, stop=self.given_up)
        sheet.raise_if_lost()
        if ran.given_up and self.allowance.expired() and not self.lease.cancelled:
            # Not waited for: the next runner finds what was put down and runs again what may run again.
            return self.ending.hand_off(open_calls=True)
        flags = self.tools.take(calls, ran.answers)
        judged = decide.judge_results(
            sheet.head, calls, ran.answers, hash_of=self.tools.hash_of, changes=self.toolbox.changes
        )
        took = int((self.clock.monotonic() - self._step_started) * 1000)
        sheet.head = running.see_results(
            sheet.head,
            breakers=judged.breakers,
            nudged=judged.nudged,
            took_millis=took if self.tools.own_calls else None,
            flags=flags,
        )
        self._warn(judged)
        return None if judged.stop is None else self.ending.finish(judged.stop)

    def _better_elsewhere(self, calls: Sequence[Block], left: float | None) -> bool:
        """None of the calls has begun, and this runner may end before the longest of them does."""
        longest = self.tools.longest_seconds(calls)
        if self.allowance.draining():
            return longest > DRAIN_TOOL_SECONDS
        if left is None or self.sheet.head.placement == "interactive":
            return False
        more = self.allowance.next_hard_seconds
        return longest > left - RESERVE_SECONDS and (more is None or left < _NEARLY * more)

    def _warn(self, judged: Judgement) -> None:
        if judged.warning is not None:
            self.sheet.warnings.append(judged.warning)

    # ---- the model ----

    def _call_model(self) -> Head | None:
        self._step_started = self.clock.monotonic()
        try:
            self.prompting.take()
            compaction = self.compacting.due()
        except PromptFailed as failed:
            return self.ending.finish(
                Stop(reason="internal_error", detail={"code": failed.code, "hint": failed.detail})
            )
        except TooLong:
            return self.ending.finish(Stop(reason="context_window", detail={"hint": WAYS_ON}))
        if compaction is not None and not compaction.summarized:
            self.compacting.clear(compaction)
            return None
        waits = Waits(
            seconds=self._contention_seconds(),
            or_less=not self._may_put_back(),
            stop=self._waits_no_longer,
        )
        try:
            request, admitted = (
                self.model.begin(waits) if compaction is None else self.compacting.begin(compaction, waits)
            )
        except UnpricedModel as unpriced:
            return self.ending.finish(Stop(reason="internal_error", detail={"code": unpriced.code}))
        except TenantPaused:
            return self.ending.finish(Stop(reason="paused"))
        except CostCapExceeded as refused:
            return self.refused(refused)
        except ProviderError as failed:
            self.sheet.head = running.miss_attempt(self.sheet.head, asked=failed.asked)
            return self._after_failure(failed)
        left = self._left(self.allowance.hard_seconds)
        try:
            reply = self.model.call(
                request,
                left_seconds=None if left is None else left - RESERVE_SECONDS,
                stop=self.given_up,
                on_event=self.relay.answer(self._next_seq) if compaction is None else None,
            )
        except ProviderError as failed:
            self.relay.void(self._next_seq)
            self.model.book_failure(admitted.reservation, failed)
            if compaction is not None and is_refused(failed):
                self.compacting.go_without(compaction)
                return None
            return self._after_failure(failed)
        if compaction is not None:
            self.compacting.settle(compaction, admitted.reservation, reply)
            return None
        return self._take(reply, admitted)

    def _take(self, reply: ModelReply, admitted: Admitted) -> Head | None:
        """The model's answer: what it means for the turn, written with its money."""
        content, dropped = decide.kept(admit(reply.content, self.sheet.kept.call_ids))
        reply = replace(reply, content=content)
        judged = decide.judge_reply(
            self.sheet.head,
            reply.content,
            reply.stop_reason,
            hash_of=self.tools.hash_of,
            polls=self.toolbox.polls,
            clamp=admitted.clamp,
            compacts=self.model.context is not None,
        )
        if judged.answers:
            self.tools.audit(tool_uses(reply.content), judged.answers)
        duration = int((self.clock.monotonic() - self._step_started) * 1000)
        if judged.stop is not None:
            judged = replace(judged, stop=self.ending.shown(judged.stop))
        self.model.settle(admitted.reservation, reply, judged, duration)
        self.tools.own_calls = True
        self._warn(judged)
        if dropped and judged.stop is None:
            kept = decide.MAX_KEPT_CALLS
            self.sheet.warnings.append(f"Of your calls the first {kept} were taken; {dropped} more were left out.")
        return None if judged.stop is None else self.sheet.head

    def _after_failure(self, failed: ProviderError) -> Head | None:
        """Wait and let the loop try again, or end the turn: resumable, nothing lost."""
        if self.lease.cancelled or self.allowance.draining():
            return None
        if failed.data.get("context_window"):
            return self._too_long(failed)
        if repaired(self.sheet, self.redactor, failed):
            return None
        head = self.sheet.head
        if (model := next_model(head, self.sheet.spec, failed)) is not None:
            self.sheet.head = running.fall_back(head, model)
            return None
        wait = self._backoff_seconds(head.turn.attempts, failed.retry_after_seconds)
        if failed.retryable and head.turn.attempts < head.limits.max_attempts and wait <= MAX_BACKOFF_SECONDS:
            left = self._left(self.allowance.turn_seconds)
            if left is not None and wait > left:
                return self.ending.hand_off(delay_seconds=math.ceil(wait), waits_for=leaving.PROVIDER)
            self.relay.waits(self._next_seq, "provider")
            self._sleep(wait)
            return None
        detail = {
            "attempts": head.turn.attempts,
            "status_code": failed.status_code,
            "error": self.redactor.redact_text(failed.detail)[:500],
            "retry_after_seconds": failed.retry_after_seconds,
        }
        if failed.status_code == 400:
            detail["hint"] = WAYS_ON
        return self.ending.finish(Stop(reason="provider_error", detail=detail))

    def _too_long(self, failed: ProviderError) -> Head | None:
        """The API refused the request for its length: room is made, as long as there is something to leave out."""
        if self.model.context is None:
            return self.ending.finish(Stop(reason="context_window", detail={"hint": WAYS_ON}))
        self.model.learned_window = failed.data.get("window") or self.model.learned_window
        self.compacting.refused = True
        return None

    def _backoff_seconds(self, attempts: int, retry_after: float | None) -> float:
        """Exponential with jitter; what the provider asks for comes first."""
        if retry_after is not None:
            return retry_after + self.ids.jitter()
        return float(min(0.5 * 2**attempts, 30.0)) * (0.5 + self.ids.jitter() / 2)

    def _sleep(self, seconds: float) -> None:
        """In small pieces: a cancel or a drain does not wait for a back-off."""
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0.001:
            if self.given_up() or self.allowance.draining():
                return
            self.clock.sleep(min(left, 0.5))

    def refused(self, refused: CostCapExceeded) -> Head | None:
        """Only money in flight in the way: a worker puts the session back for a while. Else the turn stops."""
        head = self.sheet.head
        if refused.contended and (self.lease.cancelled or self.allowance.draining()):
            return None  # It waited no longer because of that, which the loop sees to.
        if refused.contended and self._may_put_back():
            self.sheet.head = running.put_back(head)
            return self.ending.hand_off(delay_seconds=PUT_BACK_SECONDS, waits_for=leaving.MONEY)
        detail = dict(refused.data)
        if refused.contended:
            detail["retry_after_seconds"] = PUT_BACK_SECONDS
        return self.ending.finish(Stop(reason="cost_cap", detail=detail))

    def _waits_no_longer(self) -> bool:
        """Asked whenever a call is about to wait for money in flight."""
        if self.given_up() or self.allowance.draining():
            return True
        self.relay.waits(self._next_seq, "money")
        return False

    @property
    def _next_seq(self) -> int:
        """Of the entry that comes next."""
        return self.sheet.head.last_seq + 1

    def _may_put_back(self) -> bool:
        return self.allowance.runner == "fargate" and self.sheet.head.turn.put_backs < PUT_BACKS

    def _contention_seconds(self) -> float:
        most = self.allowance.contention_seconds
        left = self._left(self.allowance.turn_seconds)
        return most if left is None else max(0.0, min(left, most))

    def _left(self, seconds: float | None) -> float | None:
        return None if seconds is None else seconds - (self.clock.monotonic() - self._started)
