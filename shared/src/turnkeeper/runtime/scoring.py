"""Scoring turns once they have ended, and noticing when an agent's scores fall."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from turnkeeper.core.scoring import Evaluator, Score, Scoring
from turnkeeper.core.session import Entry, Head, Spec
from turnkeeper.core.trajectory import Trajectory, trajectory_of
from turnkeeper.evaluation import EVERY_TURN, evaluate
from turnkeeper.evaluation.run import scores_of
from turnkeeper.ports import Alerts, Clock
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.store import contents
from turnkeeper.runtime.store.records import Records
from turnkeeper.runtime.store.scores import Scores, Sums, merged
from turnkeeper.runtime.threads import Parallel, run_one

logger = logging.getLogger(__name__)

#: Entries before a turn that are read with it: what an answer says may come from an earlier turn's results.
ENTRIES_BEFORE = 200
#: How long an evaluator may take for a turn; the function that scores may take three times as long.
EVALUATOR_SECONDS = 20.0
#: A fall is looked for in this many hours against as many days before them.
WINDOW_HOURS = 2
BASELINE_DAYS = 3
#: With fewer turns than this, chance says more than the agent does.
LEAST_TURNS = 20
#: How far apart two shares of turns have to be, and by how many standard errors.
LEAST_DIFFERENCE = 0.1
STANDARD_ERRORS = 3.0
TELL_AGAIN = timedelta(hours=6)


class Patience:
    """Has evaluators asked in threads, and waits for each so long: one that hangs keeps no other, and no other turn,
    from its scores. It is not asked again before it has come back, so that it holds one thread and not more."""

    def __init__(self, parallel: Parallel) -> None:
        self._parallel = parallel
        #: By their ids: what asks one holds it.
        self._away: set[int] = set()

    def ask(self, evaluator: Evaluator, trajectory: Trajectory) -> list[Score]:
        """Raises what :func:`~turnkeeper.evaluation.scores_of` does, and TimeoutError."""
        if id(evaluator) in self._away:
            raise TimeoutError("it has not come back from an earlier turn")

        def asked() -> list[Score]:
            self._away.add(id(evaluator))
            try:
                return scores_of(evaluator, trajectory)
            finally:
                self._away.discard(id(evaluator))

        if (done := run_one(self._parallel, asked, seconds=EVALUATOR_SECONDS)) is None:
            raise TimeoutError(f"it took longer than {EVALUATOR_SECONDS:.0f} seconds")
        return done.result()


@dataclass(eq=False, repr=False)
class Scorer:
    records: Records
    scores: Scores
    catalog: Catalog
    clock: Clock
    patience: Patience

    def score(self, head: Head) -> list[Score] | None:
        """Assess the turn that a head has come to rest with, once; ``None`` where it is not one of the sample, or is
        assessed already.

        Raises:
            Unavailable, StoreBusy: later it may be read, or written.
        """
        agent = self.catalog.find(head.agent)
        scoring = agent.scoring if agent is not None else Scoring()
        if head.companion is not None and head.companion.kind == "judge":
            return None
        if not scoring.takes(head.session_id, head.turn.number) or _was_denied(head):
            return None
        trajectory = self.trajectory(head)
        evaluators = EVERY_TURN if scoring.evaluators is None else scoring.evaluators
        scores = evaluate(evaluators, trajectory, self.patience.ask)
        return scores if self.scores.keep(head, trajectory, scores, self.clock.now()) else None

    def trajectory(self, head: Head) -> Trajectory:
        """The head's turn, with as much of what was before as it may build on."""
        entries = list(self._entries(head))
        try:
            spec = self.records.spec(head.tenant_id, head.version) if head.version else None
        except contents.Lost:
            spec = None
        plan = self.records.plan(head.tenant_id, head.session_id)
        return trajectory_of(head, entries, spec or Spec(model="", system="", tools=()), plan, turn_only=True)

    def _entries(self, head: Head) -> Iterator[Entry]:
        after = max(0, head.turn.seq - 1 - ENTRIES_BEFORE)
        while after < head.last_seq:
            page = self.records.entries(head.tenant_id, head.session_id, after=after)
            if not page:
                return
            yield from (entry for entry in page if entry.seq <= head.last_seq)
            after = page[-1].seq


def _was_denied(head: Head) -> bool:
    """A shadow that its own plan's money or kill switch ended: that says nothing of the version."""
    return head.companion is not None and head.stop is not None and head.stop.reason in ("cost_cap", "paused")


@dataclass(eq=False, repr=False)
class ScoreWatch:
    """Tells people when fewer turns of an agent pass a check than did."""

    scores: Scores
    catalog: Catalog
    alerts: Alerts
    clock: Clock
    #: By agent, the version whose turns are no sign of the agent's own: a candidate, which is held against another one.
    left_out: Callable[[str], str | None] = lambda _: None

    def look(self) -> None:
        """For all agents. Raises Unavailable where nobody could be told."""
        now = self.clock.now()
        for agent in self.catalog.agents:
            before = now - timedelta(hours=WINDOW_HOURS)
            left_out = self.left_out(agent)
            latest = self._merged(agent, left_out, before, now + timedelta(hours=1))
            if latest.turns < LEAST_TURNS:
                continue
            usual = self._merged(agent, left_out, before - timedelta(days=BASELINE_DAYS), before)
            for name, was, is_now in falls(usual, latest):
                if self.scores.tell_of_fall(agent, name, now, again_after=TELL_AGAIN):
                    subject = f"{name} of agent {agent} fell: {is_now:.0%} of its turns pass, {was:.0%} did"
                    data = {"agent": agent, "score": name, "turns": latest.turns, "was": was, "is": is_now}
                    self.alerts.alert("score_fell", subject, data)

    def _merged(self, agent: str, left_out: str | None, since: datetime, until: datetime) -> Sums:
        return merged(sums for version, sums in self.scores.sums(agent, since, until).items() if version != left_out)


def falls(usual: Sums, latest: Sums) -> Iterator[tuple[str, float, float]]:
    """Names of checks that fewer turns pass than usual, with both shares: by more than chance explains."""
    for name, (count, _, _, failed) in latest.scores.items():
        usual_count, _, _, usual_failed = usual.scores.get(name, (0, 0, 0, 0))
        if not enough_turns(usual_count, count):
            continue
        was, is_now = 1 - usual_failed / usual_count, 1 - failed / count
        both = 1 - (failed + usual_failed) / (count + usual_count)
        if beyond_chance(was - is_now, both, usual_count, count):
            yield name, was, is_now


def enough_turns(*counts: int) -> bool:
    """Whether shares of so many turns can be held against each other."""
    return min(counts) >= LEAST_TURNS


def beyond_chance(difference: float, both: float, *counts: int) -> bool:
    """Whether two shares are further apart than chance explains, and than anybody need hear of.

    Args:
        difference: by which the one is above the other; below 0 where it is not.
        both: the share of both together.
        counts: of how many turns each is a share.
    """
    error = math.sqrt(max(both * (1 - both), 1e-9) * sum(1 / count for count in counts))
    return difference >= LEAST_DIFFERENCE and difference / error >= STANDARD_ERRORS
