"""`Judged` in a case: a model's verdict by a rubric, where cases are run with `--live`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from secrets import token_hex

from pydantic_evals.evaluators import EvaluationReason, EvaluatorContext
from pydantic_evals.evaluators import Evaluator as PydanticEvaluator

from turnkeeper.adapters.redaction import Redactor
from turnkeeper.core import judging
from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.scoring import Judge, Score
from turnkeeper.core.trajectory import Trajectory
from turnkeeper.runtime.intake import Identity
from turnkeeper_local.evals.case import About, Inputs, OneCase, reasons
from turnkeeper_local.evals.play import CaseKit, Stage

#: What a run plays on; without Claude, nobody is asked.
STAGE: ContextVar[Stage | None] = ContextVar("stage", default=None)


@dataclass(repr=False)
class Judged(PydanticEvaluator[Inputs, Trajectory, About]):
    """A model reads the turn and scores it by a rubric. With `--live` only."""

    rubric: str
    model: str = "claude-sonnet-5-5"
    at_least: float = 0.5

    def __post_init__(self) -> None:
        self._judge()  # so that what it does not take is told when the file is read

    def _judge(self) -> Judge:
        return Judge(rubric=self.rubric, model=self.model, at_least=self.at_least)

    def evaluate(self, ctx: EvaluatorContext[Inputs, Trajectory, About]) -> Mapping[str, EvaluationReason]:
        stage = STAGE.get()
        if stage is None or stage.live is None:
            return {}
        return reasons([verdict(stage, self._judge(), ctx.output)])


def verdict(stage: Stage, judge: Judge, trajectory: Trajectory) -> Score:
    """What the stage's model says, in a session of its own: its call is capped as any of a case is."""
    assert stage.live is not None, "nobody is asked without Claude"
    agent = Agent(name="judge", model=judge.model, system=judging.SYSTEM, limits=judging.LIMITS)
    # A plan that names its agents does not name this one.
    plans = {name: plan.model_copy(update={"agents": None}) for name, plan in stage.policy.plans.items()}
    kit = CaseKit(replace(stage, policy=stage.policy.model_copy(update={"plans": plans})), agent, stage.live)
    asked = judging.asked(judge.rubric, trajectory, nonce=token_hex(8), redact=Redactor().redact_text)
    try:
        head = kit.turn(Identity("evals", "judge", stage.policy.default_role), agent, list(asked), None, {})
    except TurnkeeperError as error:
        return judging.failed(error.code)
    if head.status != "idle":
        return judging.failed(head.stop.reason if head.stop else head.status)
    return judging.verdict(kit.trajectory(head.tenant_id, head.session_id).output_text, judge.at_least)


def sessions_of(cases: Iterable[OneCase]) -> int:
    """How many sessions are played for these cases: one for each, and one for each judge."""
    return sum(1 + judges_of(case) for case in cases)


def judges_of(case: OneCase) -> int:
    return sum(isinstance(one, Judged) for one in case.evaluators)
