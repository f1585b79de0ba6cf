"""Asking evaluators."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable
from itertools import islice

from turnkeeper.core.scoring import Evaluator, Score
from turnkeeper.core.trajectory import Trajectory

#: An evaluator that has more to say than this is broken; all of it is written into one item.
MOST_SCORES = 20

logger = logging.getLogger(__name__)


def scores_of(evaluator: Evaluator, trajectory: Trajectory) -> list[Score]:
    """Raises whatever the evaluator does, ValueError and TypeError where it answers something else."""
    found = list(islice(evaluator.score(trajectory), MOST_SCORES + 1))
    if len(found) > MOST_SCORES:
        raise ValueError(f"more than {MOST_SCORES} scores")
    if strange := [one for one in found if not isinstance(one, Score)]:
        raise TypeError(f"a {type(strange[0]).__name__} is no Score")
    return found


def evaluate(
    evaluators: Iterable[Evaluator],
    trajectory: Trajectory,
    ask: Callable[[Evaluator, Trajectory], list[Score]] = scores_of,
) -> list[Score]:
    """The scores of all of them, in order; where two have one name, the later one is given a number.

    One that raises says so in a score of its own and takes none of the others down: what is evaluated may be anything
    that a model wrote, and an evaluator anything that a user did.

    Args:
        ask: has one of them asked, by :func:`scores_of`.
    """
    scores: dict[str, Score] = {}
    for evaluator in evaluators:
        name = _named(evaluator)
        try:
            found = ask(evaluator, trajectory)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # also SystemExit, or asyncio's CancelledError
            logger.exception("evaluator %s failed on session %s", name, trajectory.session_id)
            found = [Score(f"{name}_failed", 0.0, None, f"the evaluator failed: {type(error).__name__}")]
        for score in found:
            scores[_free(score.name, scores)] = score
    return [score.named(name) for name, score in scores.items()]


def _named(evaluator: Evaluator) -> str:
    """After its class, in the letters that a score's name may have."""
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", type(evaluator).__name__).lower()
    return re.sub(r"^[^a-z]+|[^a-z0-9_]", "", words)[:40] or "evaluator"


def _free(name: str, taken: Iterable[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name[:44]}_{number}"
    return free
