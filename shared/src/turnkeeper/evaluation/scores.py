"""What an evaluator is, and what it answers."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from turnkeeper.core.trajectory import Trajectory

logger = logging.getLogger(__name__)

#: Of a reason, what is kept.
MAX_REASON_CHARS = 500


@dataclass(frozen=True, slots=True)
class Score:
    """One verdict on a trajectory.

    ``value`` is from 0 (as bad as can be) to 1. ``passed`` says whether that is good enough; ``None`` where the
    evaluator only measures. ``seq`` is the entry where it went wrong first, where there is one.
    """

    name: str
    value: float
    passed: bool | None
    reason: str
    seq: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.value <= 1:
            raise ValueError(f"score {self.name}: {self.value} is not from 0 to 1")
        object.__setattr__(self, "reason", self.reason[:MAX_REASON_CHARS])

    @classmethod
    def check(cls, name: str, passed: bool, reason: str, seq: int | None = None) -> Score:
        """A verdict that knows yes and no only."""
        return cls(name, float(passed), passed, reason, None if passed else seq)

    @classmethod
    def share(
        cls, name: str, good: int, total: int, reason: str, *, at_least: float = 1.0, seq: int | None = None
    ) -> Score:
        """A verdict by parts: ``good`` of ``total`` (which is not 0) are as they should be."""
        value = good / total
        return cls(name, value, value >= at_least, reason, None if value >= at_least else seq)


@runtime_checkable
class Evaluator(Protocol):
    """Scores trajectories. Not every evaluator has something to say about every one: then it answers nothing."""

    def score(self, trajectory: Trajectory) -> Iterable[Score]: ...


def evaluate(evaluators: Iterable[Evaluator], trajectory: Trajectory) -> list[Score]:
    """The scores of all of them, in order. One that raises says so in a score of its own and takes none of the others
    down: what is evaluated may be anything that a model wrote."""
    scores: list[Score] = []
    for evaluator in evaluators:
        name = type(evaluator).__name__
        try:
            scores.extend(evaluator.score(trajectory))
        except Exception as error:
            logger.exception("evaluator %s failed on session %s", name, trajectory.session_id)
            scores.append(Score(f"{name}_failed", 0.0, None, f"the evaluator failed: {type(error).__name__}"))
    return scores
