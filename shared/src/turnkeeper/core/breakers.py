"""What stops a runaway loop long before a cap does: repetition, error streaks, iterations, the wall clock.

Repetition is seen over hashes of tool name and normalized arguments, so that neither the order of keys, nor the form of
a number, nor white space hides it. A cycle (A B A B A B) shows as each of its calls coming back.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.session import Breakers

#: Calls that the window remembers. With three strikes, cycles of up to a third of it are seen.
WINDOW = 24

_SPACE = re.compile(r"\s+")


def _normalized(value: Any) -> Any:
    """The same for values that mean the same: 1.0 as 1, white space folded, text trimmed."""
    match value:
        case float() if math.isfinite(value) and value.is_integer():
            return int(value)
        case float():
            return repr(value)
        case str():
            return _normalized_text(value)
        case Mapping():
            return {_normalized_text(str(key)): _normalized(item) for key, item in value.items()}
        case list() | tuple():
            return [_normalized(item) for item in value]
        case _:
            return value


def _normalized_text(text: str) -> str:
    return _SPACE.sub(" ", text).strip()


def call_hash(name: str, arguments: Mapping[str, Any], volatile: Collection[str] = ()) -> str:
    """Hash of a tool call, without its volatile arguments; 16 hex digits."""
    kept = {key: value for key, value in arguments.items() if key not in volatile}
    return _digest([name, _normalized(kept)])


def poll_hash(call: str, result: Any) -> str:
    """Hash of a declared poll: of the call with what it saw, so that only a poll that sees nothing new repeats."""
    return _digest([call, result])


def _digest(value: Any) -> str:
    return hashlib.sha256(sorted_json(value)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as the repetition breaker sees it."""

    tool: str
    arguments: Mapping[str, Any]
    hash: str


@dataclass(frozen=True, slots=True)
class Repetition:
    """What was repeated, how often; ``final`` where it is the last strike."""

    call: Call
    times: int
    final: bool


def see_calls(state: Breakers, calls: Sequence[Call], strikes: int) -> tuple[Breakers, Repetition | None]:
    """Count the calls of one answer. The worst repetition among them, if any is worth telling: the strike before the
    last is a warning, the last is final.

    Several same calls in one answer count each: a model that asks three times at once for the same is looping too.
    Declared polls are counted when their results are in, by :func:`poll_hash`; all others before they run.
    """
    window = list(state.window)
    worst: Repetition | None = None
    for call in calls:
        window.append(call.hash)
        times = window.count(call.hash)
        if times >= max(2, strikes - 1) and (worst is None or times > worst.times):
            worst = Repetition(call=call, times=times, final=times >= strikes)
    kept = tuple(window[-WINDOW:])
    return replace(state, window=kept), worst


def see_outcomes(state: Breakers, *, failed: int, total: int) -> Breakers:
    """Count a step whose every call failed; anything that worked ends the streak."""
    if total == 0:
        return state
    return replace(state, error_streak=state.error_streak + 1 if failed == total else 0)
