"""What a case is: what it plays, what people want to know of it, and how scores of it are told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_evals import Case, Dataset
from pydantic_evals.evaluators import EvaluationReason

from turnkeeper.core.scoring import Score
from turnkeeper.core.trajectory import Trajectory
from turnkeeper_local.evals.script import Answer, Faked


class Inputs(BaseModel):
    """What a case plays: what the user says, as whom, what the model says, and what tools answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    turns: list[str | list[dict[str, Any]]] = Field(min_length=1, description="What the user says, turn by turn.")
    role: str | None = Field(default=None, description="A role of policy.toml; its default role without.")
    tenant: str = "evals"
    user: str = "case"
    session_metadata: dict[str, Any] = Field(default_factory=dict)
    model: list[Answer] | None = Field(
        default=None,
        description="What the model says, in order, over all turns. Without, the stand-in answers: directives in the "
        "turns work. With `--live` Claude does, and this is passed over.",
    )
    tools: dict[str, Faked] = Field(
        default_factory=dict, description="Tools that answer what is said here; the others are run for real."
    )
    summarize: bool = Field(
        default=True, description="Whether a long conversation is summarized, as in use; a recorded one is not again."
    )
    live: bool = Field(default=True, description="Whether the case is one for `--live`, too.")


class About(BaseModel):
    """What people, and filters, want to know of a case."""

    model_config = ConfigDict(extra="forbid")

    tags: list[str] = Field(default_factory=list, description="Such as happy, hard, adversarial.")
    note: str | None = None
    captured_from: str | None = None
    verdict: Literal["good", "bad"] | None = Field(default=None, description="What a person said of it.")


CaseSet = Dataset[Inputs, Trajectory, About]
OneCase = Case[Inputs, Trajectory, About]


def reasons(scores: Iterable[Score]) -> dict[str, EvaluationReason]:
    """Checks as assertions; measures, and checks by parts, as scores."""
    told: dict[str, EvaluationReason] = {}
    for score in scores:
        reason = score.reason if score.seq is None else f"{score.reason} (entry {score.seq})"
        if score.passed is not None:
            told[score.name] = EvaluationReason(score.passed, reason)
        if score.passed is None or 0 < score.value < 1:
            told[f"{score.name}_share" if score.passed is not None else score.name] = EvaluationReason(
                score.value, reason
            )
    return told
