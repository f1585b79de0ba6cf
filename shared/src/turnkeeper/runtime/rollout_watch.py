"""Noticing that a rollout's candidate does worse, and taking it back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from turnkeeper.core.rollout import Rollout
from turnkeeper.ports import Alerts, Clock
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.rollouts import Rollouts
from turnkeeper.runtime.scoring import beyond_chance, enough_turns, falls
from turnkeeper.runtime.store.scores import Scores, Sums


@dataclass(eq=False, repr=False)
class RolloutWatch:
    """Takes a candidate back that does worse than the stable version by more than chance explains."""

    rollouts: Rollouts
    scores: Scores
    catalog: Catalog
    alerts: Alerts
    clock: Clock

    def look(self) -> None:
        """For all agents. Raises Unavailable where nobody could be told, or it was changed meanwhile."""
        for agent in self.catalog.agents:
            rollout = self.rollouts.store.get(agent)
            if rollout is not None and rollout.state == "running" and (why := self._why_abort(rollout)) is not None:
                self.rollouts.abort(agent, actor="turnkeeper", reason=why)
                subject = f"The rollout of {agent} was aborted: {why}"
                data = {"agent": agent, "candidate": rollout.candidate, "stable": rollout.stable, "why": why}
                self.alerts.alert("rollout_aborted", subject, data)

    def candidate(self, agent: str) -> str | None:
        """The version that is being tried, if one is."""
        rollout = self.rollouts.store.get(agent)
        return rollout.candidate if rollout is not None and rollout.state == "running" else None

    def _why_abort(self, rollout: Rollout) -> str | None:
        since = datetime.fromisoformat(rollout.set_at)
        sums = self.scores.sums(rollout.agent, since, self.clock.now() + timedelta(hours=1))
        stable, candidate = sums.get(rollout.stable, Sums()), sums.get(rollout.candidate, Sums())
        for name, was, is_now in falls(stable, candidate):
            return f"{name}: {is_now:.0%} of the candidate's turns pass, {was:.0%} of the stable version's do"
        if (rise := _rise_of_trips(stable, candidate)) is not None:
            was, is_now = rise
            return f"{is_now:.0%} of the candidate's turns trip, {was:.0%} of the stable version's do"
        return None


def _rise_of_trips(stable: Sums, candidate: Sums) -> tuple[float, float] | None:
    if not enough_turns(stable.turns, candidate.turns):
        return None
    was, is_now = stable.trips / stable.turns, candidate.trips / candidate.turns
    both = (stable.trips + candidate.trips) / (stable.turns + candidate.turns)
    return (was, is_now) if beyond_chance(is_now - was, both, stable.turns, candidate.turns) else None
