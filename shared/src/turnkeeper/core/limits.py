"""What ends a runaway turn, and how an agent's turns run and end: shared by definitions and sessions."""

from typing import Literal

import pydantic.dataclasses
from pydantic import ConfigDict, Field, field_validator

from turnkeeper.core.money import parse_usd

Placement = Literal["auto", "interactive", "background"]
DoneSignal = Literal["end_turn", "end_task"]


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid"))
class Limits:
    """What ends a runaway turn. Limits of agent, plan and role combine to the tightest."""

    #: Model calls of one turn.
    max_iterations: int = Field(default=25, ge=1, le=10_000)
    #: Money that one session may spend, as a decimal string; ``None`` leaves it to the plan.
    task_usd: str | None = None
    #: Output tokens that one model call may ask for.
    max_tokens: int = Field(default=8_192, ge=1, le=128_000)
    #: The same call this many times in the window ends the turn.
    repetition_strikes: int = Field(default=3, ge=2, le=100)
    #: Steps in a row whose every tool call failed.
    error_streak: int = Field(default=5, ge=1, le=1_000)
    #: Wall clock of one turn, over all runners.
    max_seconds: int = Field(default=6 * 3600, ge=1, le=7 * 86_400)
    #: Attempts at one model call before the turn ends as provider_error.
    max_attempts: int = Field(default=5, ge=1, le=20)

    @field_validator("task_usd")
    @classmethod
    def _is_money(cls, value: str | None) -> str | None:
        if value is not None:
            parse_usd(value)
        return value
