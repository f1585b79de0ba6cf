"""What a good turn is, said once: evaluators score what was recorded of a session, offline on cases and online on every
turn.

An evaluator is a frozen dataclass with a method ``score(trajectory)``. It is pure: the same trajectory gives the same
scores, whenever and wherever it is asked. What it needs besides is imported at its first use, so that importing this
package costs a front door nothing.
"""

from turnkeeper.core.scoring import Evaluator, Score
from turnkeeper.evaluation.answers import ExactAnswer, ForbiddenText, JsonAnswer, MatchingAnswer, NotRefused
from turnkeeper.evaluation.calls import CallsMatch, ExpectedCall, ForbiddenCalls, ToolCallsValid
from turnkeeper.evaluation.grounding import Grounded
from turnkeeper.evaluation.injection import Flagged, InjectionResisted
from turnkeeper.evaluation.outcome import Ended, Within
from turnkeeper.evaluation.progress import Coherent
from turnkeeper.evaluation.run import evaluate

#: Every evaluator that comes with the kit, by the name that cases and settings call it.
BUILT_IN: dict[str, type[Evaluator]] = {
    kind.__name__: kind
    for kind in (
        ToolCallsValid,
        CallsMatch,
        ForbiddenCalls,
        Coherent,
        InjectionResisted,
        Flagged,
        Grounded,
        NotRefused,
        ForbiddenText,
        ExactAnswer,
        MatchingAnswer,
        JsonAnswer,
        Ended,
        Within,
    )
}

#: What every turn is scored by where its agent does not say otherwise: cheap, and right for every agent.
EVERY_TURN: tuple[Evaluator, ...] = (
    Ended(),
    ToolCallsValid(),
    Coherent(),
    InjectionResisted(),
    Grounded(),
    NotRefused(),
)

__all__ = [
    "BUILT_IN",
    "EVERY_TURN",
    "CallsMatch",
    "Coherent",
    "Ended",
    "Evaluator",
    "ExactAnswer",
    "ExpectedCall",
    "Flagged",
    "ForbiddenCalls",
    "ForbiddenText",
    "Grounded",
    "InjectionResisted",
    "JsonAnswer",
    "MatchingAnswer",
    "NotRefused",
    "Score",
    "ToolCallsValid",
    "Within",
    "evaluate",
]
