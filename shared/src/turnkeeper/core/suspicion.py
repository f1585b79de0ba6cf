"""What is suspicious in what tools return and in what is done after it: the kit's own rules, whatever looks for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from turnkeeper.core.tools import Effect

#: A text scores from 0 to 1000; from here on it is flagged.
FLAG_AT: Final = 500
MAX_REASONS: Final = 8


class Finding(BaseModel):
    """Why a text, or a sequence of calls, is suspicious."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    score: int = Field(ge=0, le=1000)
    #: Topics and disguises, strongest first. Never words of the text itself: reasons go to logs and to the console.
    reasons: tuple[str, ...]


class NextCall(NamedTuple):
    """A call that the model asks for, as the sequence check needs it."""

    tool: str
    effect: Effect


def suspicious_sequence(flagged: Iterable[Finding | None], next_calls: Iterable[NextCall]) -> Finding | None:
    """A finding if calls that change something follow results that were flagged.

    ``flagged`` holds the findings of the results that the model has seen since the last user message; ``next_calls``
    what it asks for now. Reading on is not suspicious; writing is, and the more so where it cannot be taken back.
    """
    worst = max((finding.score for finding in flagged if finding), default=0)
    if worst == 0:
        return None
    writes = sorted({call for call in next_calls if call.effect != "read"})
    if not writes:
        return None
    final = any(call.effect == "once" for call in writes)
    reasons = tuple(f"{call.effect} tool {call.tool} after a flagged result" for call in writes[:MAX_REASONS])
    return Finding(score=min(1000, worst + (250 if final else 100)), reasons=reasons)
