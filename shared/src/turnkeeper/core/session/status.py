"""How a session stands, and what ended its latest turn."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["idle", "running", "queued", "completed", "stopped", "failed", "cancelled", "erased"]
RunnerKind = Literal["lambda", "fargate"]
StopReason = Literal[
    "end_turn",
    "end_task",
    "cost_cap",
    "iteration_limit",
    "repetition",
    "error_streak",
    "deadline",
    "no_done_signal",
    "refusal",
    "max_tokens",
    "context_window",
    "cancelled",
    "paused",
    "provider_error",
    "internal_error",
]

#: No runner works on the session and none is on its way.
RESTING: frozenset[Status] = frozenset({"idle", "completed", "stopped", "failed", "cancelled", "erased"})
#: Nothing can be said in the session any more.
ENDED: frozenset[Status] = frozenset({"completed", "failed", "cancelled", "erased"})


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Stop(Frozen):
    reason: StopReason
    detail: dict[str, Any] = Field(default_factory=dict)
