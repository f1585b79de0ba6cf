"""What can be done with a session as it is now, as commands and calls that work in this state. Derived from
:mod:`turnkeeper.core.stops`: who may let it go on, and whether it would stop again at once."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any, assert_never

from turnkeeper.core.money import NANO, format_usd, parse_usd
from turnkeeper.core.session import Stop
from turnkeeper.core.stops import STOPS, resumable, stops_again
from turnkeeper.core.story.facts import Facts, budget


def what_now(facts: Facts) -> tuple[str, ...]:
    """One way on in each; commands of the command line stand between backticks."""
    return tuple(Ways(facts).all())


class Ways:
    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.head = facts.head
        self.id = facts.head.session_id
        self.tenant = shlex.quote(facts.head.tenant_id)
        self.of_tenant = f" --tenant {self.tenant}"
        #: Another engine than the kit's own keeps what it remembers itself: no rewind, no fork.
        self.copies = facts.head.engine is None

    def all(self) -> Iterator[str]:
        if self.head.companion is not None:
            yield "Nothing: the kit made it of another session's turn, to try or to judge it, and it ends by itself."
        else:
            yield from self._ways()
        yield from self._doubtful()
        yield f"Look at who did what: `turnkeeper audit show {self.id}{self.of_tenant}`."

    def _ways(self) -> Iterator[str]:
        match self.head.status:
            case "running" | "queued":
                yield from self._under_way()
            case "erased":
                yield "Nothing can go on here; begin another session."
            case "completed" | "failed" | "cancelled":
                yield self._fork() if self.copies else "It goes no further; begin another session."
            case "idle":
                yield self._say()
                yield from self._flags()
                yield from self._back()
            case "stopped":
                yield from self._stopped()
                yield from self._flags()
                yield self._say()
                yield from self._back()
            case _:
                assert_never(self.head.status)

    # ---- in every state ----

    def _under_way(self) -> Iterator[str]:
        yield f"Follow it: `turnkeeper watch {self.id}{self._caller}`; all that runs: `turnkeeper top{self.of_tenant}`."
        yield f"End it: `turnkeeper cancel {self.id}{self._caller}`, or POST /v1/sessions/{self.id}/cancel."
        if self.facts.paused:
            yield f"The tenant is paused, so its next model call stops it: `turnkeeper tenant unpause {self.tenant}`."
        if self.head.handoff is not None and self.head.handoff.sends > 1:
            yield (
                "Its message seems to get lost: see `turnkeeper dead list`; `turnkeeper redrive` sends what is there "
                "again."
            )

    @property
    def _caller(self) -> str:
        return f"{self.of_tenant} --user {shlex.quote(self.head.user_id)}"

    def _say(self) -> str:
        agent = shlex.quote(self.head.agent)
        return (
            f"Say something in it: `turnkeeper chat {agent} --session {self.id}{self._caller}`, or "
            f"POST /v1/sessions/{self.id}/turns."
        )

    def _back(self) -> Iterator[str]:
        if not self.copies:
            return
        yield f"Take its latest turn back: `turnkeeper rewind {self.id} --turns 1{self._caller}`."
        yield self._fork()

    def _fork(self) -> str:
        return f"Go on in a copy, with money of its own: `turnkeeper fork {self.id}{self._caller}`."

    @property
    def _or_copy(self) -> str:
        return ", or go on in a copy" if self.copies else ""

    def _flags(self) -> Iterator[str]:
        if any(flag.seq > self.head.flags_cleared_seq for flag in self.head.flags):
            clear = f"`turnkeeper resume {self.id}{self.of_tenant} --clear-flags`"
            yield (
                "A tool result was flagged, so tools that act once are held back. Read it first; then an operator may "
                f"let them run: {clear}."
            )

    def _doubtful(self) -> Iterator[str]:
        if self.head.account.in_doubt_nanousd and self.facts.admin:
            yield "Whether money in doubt was spent, the provider's report says: `turnkeeper reconcile --file REPORT`."
        unknown = sorted(
            {
                outcome.tool
                for entry in self.facts.entries
                if entry.seq >= self.facts.first_seq
                for outcome in entry.outcomes
                if outcome.outcome == "unknown"
            }
        )
        if unknown:
            named = self.facts.say(", ".join(unknown))
            yield f"Find out whether these calls took effect before they are made again: {named}."

    # ---- stopped ----

    def _stopped(self) -> Iterator[str]:
        stop = self.head.stop
        if stop is not None:
            yield from self._before_it_goes_on(stop)
        if not resumable(self.head, "operator"):
            return
        if stop is not None and stop.reason == "paused" and self.facts.paused:
            return
        if stops_again(self.head):
            yield from self._more_iterations()
        else:
            yield f"Let it go on: {self._resume()}, or POST /v1/continue with its continuation token."

    def _resume(self, option: str = "") -> str:
        caller = self._caller if not option else f"{self.of_tenant} {option}"
        return f"`turnkeeper resume {self.id}{caller}`"

    def _more_iterations(self) -> Iterator[str]:
        most, used = self.facts.most_iterations, self.head.turn.iterations
        if used >= most:
            yield f"Its plan and role allow no more than {most} iterations: say something in it{self._or_copy}."
            return
        more = min(most, used + max(self.head.limits.max_iterations, 5))
        resume = self._resume(f"--max-iterations {more}")
        yield f"Look at its latest steps first. Where it gets on, an operator gives it more: {resume}."

    def _before_it_goes_on(self, stop: Stop) -> Iterator[str]:
        """What has to change first."""
        detail = stop.detail
        match stop.reason:
            case "cost_cap":
                yield from self._money(detail)
            case "paused":
                yield from self._unpause()
            case "error_streak":
                yield "Mend what its tools need: the errors are told above."
            case "repetition":
                yield "See above what it repeats; where it would only do so again, say what to do instead."
            case "provider_error":
                wait = detail.get("retry_after_seconds")
                if wait:
                    yield f"The provider asked to be left in peace for {self.facts.say(wait, 20)} seconds."
                yield f"Where one model does not work, another may: {self._resume('--model MODEL')}."
            case "internal_error":
                yield f"Mend what is named there; the logs say more: `turnkeeper logs --session {self.id} --since 1d`."
            case "context_window":
                yield (
                    "It would be as long again: take turns back, or go on in a copy of an earlier entry (`--at-seq`)."
                    if self.copies
                    else "It would be as long again; begin another session."
                )
            case (
                "end_turn"
                | "end_task"
                | "iteration_limit"
                | "deadline"
                | "no_done_signal"
                | "refusal"
                | "max_tokens"
                | "cancelled"
            ):
                if (way_on := STOPS[stop.reason].way_on) and not STOPS[stop.reason].needs_iterations:
                    yield way_on
            case _:
                assert_never(stop.reason)

    def _unpause(self) -> Iterator[str]:
        if self.facts.paused:
            unpause, resume = f"`turnkeeper tenant unpause {self.tenant}`", self._resume()
            yield f"Once the reason for it is gone, an operator lifts it: {unpause}. Then {resume}."
        else:
            yield "The pause is lifted already."

    def _money(self, detail: dict[str, Any]) -> Iterator[str]:
        scope = str(detail.get("scope"))
        if detail.get("contended"):
            yield "Wait a little, until the calls in flight are done."
            return
        state = next((state for state in self.facts.scopes if state.scope == scope), None)
        try:
            needed = parse_usd(detail.get("needed_usd", "0"))
        except ValueError:
            needed = 0
        available = state.available if state else None
        if state is not None and (available is None or available >= max(needed, 1)):
            yield f"There is room again in {budget(scope)}: it can go on at once."
            return
        if (resets := (state.resets_at if state else None) or detail.get("resets_at")) is not None:
            yield f"Wait until {budget(scope)} starts anew, at {self.facts.say(resets, 40)}."
        if scope == "task" and self.facts.capped_by_agent:
            way_on = "go on in a copy" if self.copies else "begin another session"
            yield f"The agent's own `task_usd` is in the way, which is fixed for this session: {way_on}."
            return
        cap = self._cap(scope, state, needed)
        yield f"Or an operator raises its cap: `turnkeeper tenant set {self.tenant} --cap {cap}`."

    def _cap(self, scope: str, state: Any, needed: int) -> str:
        """A cap that admits the call that was refused, in whole dollars; without the amounts for whoever may not know
        them."""
        if state is None or not self.facts.may_see(scope):
            return f"{shlex.quote(scope)}=USD"
        enough = state.spent + state.reserved + max(needed, state.cap or 0)
        return f"{scope}={format_usd(-(-enough // NANO) * NANO).split('.')[0]}.00"
