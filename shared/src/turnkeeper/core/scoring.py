"""What an evaluator is, what it answers, and which of them an agent wants."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from turnkeeper.core.canonical import without_surrogates
from turnkeeper.core.values import dataclass

if TYPE_CHECKING:
    from turnkeeper.core.trajectory import Trajectory

#: Of a reason, what is kept.
MAX_REASON_CHARS = 500
#: Names are dimensions of metrics and attributes of items.
NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")


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
        if not NAME.fullmatch(self.name):
            raise ValueError(f"a score's name is lower case letters, digits and '_', at most 48: {self.name!r}")
        if not 0 <= self.value <= 1:
            raise ValueError(f"score {self.name}: {self.value} is not from 0 to 1")
        if self.passed is not None and not isinstance(self.passed, bool):
            raise ValueError(f"score {self.name}: passed is True, False or None, not {self.passed!r}")
        if not isinstance(self.reason, str):
            raise ValueError(f"score {self.name}: the reason is text, not {self.reason!r}")
        if self.seq is not None and type(self.seq) is not int:
            raise ValueError(f"score {self.name}: seq is an entry's, a whole number, not {self.seq!r}")
        object.__setattr__(self, "value", float(self.value))
        object.__setattr__(self, "reason", without_surrogates(self.reason[:MAX_REASON_CHARS]))

    def named(self, name: str) -> Score:
        return self if name == self.name else replace(self, name=name)

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


@dataclass(frozen=True, kw_only=True)
class Judge:
    """A model that reads a share of the turns, once they have ended, and scores each by a rubric.

    What it costs is no tenant's money: it is reserved and booked for the tenant's companion, under the plan that
    ``evals_plan`` in policy.toml names. Without that nothing is judged.
    """

    #: What a good turn is, in words.
    rubric: str
    model: str
    #: The share of turns that are judged, chosen by session and turn.
    sample: float = 0.05
    #: From this score on, a turn has passed.
    at_least: float = 0.5

    def __post_init__(self) -> None:
        if not self.rubric.strip():
            raise ValueError("judge: the rubric is blank")
        if not (0 <= self.sample <= 1 and 0 <= self.at_least <= 1):
            raise ValueError("judge: sample and at_least are from 0 to 1")

    def takes(self, session_id: str, turn: int) -> bool:
        """Whether this turn is one of the sample."""
        return _place(f"judge {session_id} {turn}") < self.sample


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How an agent's turns are scored once they have ended, beside the user's way."""

    #: ``None``: those that suit every agent (:data:`turnkeeper.evaluation.EVERY_TURN`); ``()``: none.
    evaluators: Sequence[Evaluator] | None = None
    #: The share of turns that are scored, chosen by session and turn: the same ones whoever chooses.
    sample: float = 1.0
    #: ``None``: nobody is asked what they think of it.
    judge: Judge | None = None

    def __post_init__(self) -> None:
        if self.judge is not None and not isinstance(self.judge, Judge):
            raise ValueError("scoring: judge is a Judge(...)")
        if not 0 <= self.sample <= 1:
            raise ValueError("scoring: sample is a share from 0 to 1")
        for evaluator in self.evaluators or ():
            if not isinstance(evaluator, Evaluator):
                raise ValueError(f"scoring: {evaluator!r} is no evaluator: it has no method score(trajectory)")

    def takes(self, session_id: str, turn: int) -> bool:
        """Whether this turn is one of the sample."""
        return _place(f"{session_id} {turn}") < self.sample


def _place(name: str) -> float:
    """From 0 to 1, always the same for a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
