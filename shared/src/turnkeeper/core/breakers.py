"""What stops a runaway loop long before a cap does: repetition, error streaks, iterations, the wall clock.

Repetition is seen over hashes of tool name and normalized arguments, so that neither the order of keys, nor the form of
a number, nor white space hides it. A cycle (A B A B A B) shows as each of its calls coming back. A call is repeated

- where nothing was changed since it was made before, which is known before it runs;
- where its result is the same as before, which is known afterwards;
- where it comes back twice as often as that, whatever was changed and whatever it saw.

So a balance may be read again after each transfer. A tool that is declared to poll is counted by its results only.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import Breakers

#: Digits of a hash that a head remembers, which is written twice a step. That two of so few calls look alike is one
#: chance in ten millions, and that three do, which would end a turn, one in more than 10^16.
DIGITS = 8
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
    """Hash of a call with what it saw."""
    return _digest([call, result])


def _digest(value: Any) -> str:
    return hashlib.sha256(sorted_json(value)).hexdigest()[:16]


class Call(NamedTuple):
    """A tool call as the repetition breaker sees it."""

    tool: str
    arguments: Mapping[str, Any]
    hash: str


class Repetition(NamedTuple):
    """What was repeated, how often; ``final`` where it is the last strike."""

    call: Call
    times: int
    final: bool


def see_calls(state: Breakers, calls: Sequence[Call], strikes: int) -> tuple[Breakers, Repetition | None]:
    """Count the calls of one answer before they run, but for declared polls. The worst repetition among them, if any is
    worth telling: the strike before the last is a warning, the last is final.

    Several same calls in one answer count each: a model that asks three times at once for the same is looping too.
    """
    window, unchanged = _count(state.window, calls, [call.hash for call in calls], strikes)
    made, whatever = _count(state.calls, calls, [call.hash for call in calls], 2 * strikes)
    if unchanged is None or (whatever is not None and whatever.final):
        unchanged = whatever
    return replace(state, window=window, calls=made), unchanged


def see_results(
    state: Breakers, calls: Sequence[Call], results: Sequence[str], strikes: int, *, changed: Collection[str] = ()
) -> tuple[Breakers, Repetition | None]:
    """Count the calls of one answer by what they saw. The worst repetition that was not seen before they ran.

    Args:
        results: hash of each call's result.
        changed: hashes of those calls that changed something: all others may well see something new now.
    """
    hashes = [poll_hash(call.hash, result) for call, result in zip(calls, results, strict=True)]
    seen, repetition = _count(state.results, calls, hashes, strikes)
    window = _short(state.window)
    if repetition and window.count(repetition.call.hash[:DIGITS]) >= repetition.times:
        repetition = None
    if changed:
        window = tuple(call for call in window if call in _short(changed))
    return replace(state, window=window, results=seen), repetition


def _count(
    window: tuple[str, ...], calls: Sequence[Call], hashes: Sequence[str], strikes: int
) -> tuple[tuple[str, ...], Repetition | None]:
    """The window with these hashes, one for each call, and which of them is in it most often, if often enough."""
    worst: Repetition | None = None
    window = _short(window)
    for call, hashed in zip(calls, _short(hashes), strict=True):
        window = (*window, hashed)
        times = window.count(hashed)
        if times >= max(2, strikes - 1) and (worst is None or times > worst.times):
            worst = Repetition(call=call, times=times, final=times >= strikes)
    return window[-WINDOW:], worst


def _short(hashes: Collection[str]) -> tuple[str, ...]:
    """As they are remembered; a head may still hold them whole."""
    return tuple([hashed[:DIGITS] for hashed in hashes])


def see_outcomes(state: Breakers, *, failed: int, total: int) -> Breakers:
    """Count a step whose every call failed; anything that worked ends the streak."""
    if total == 0:
        return state
    return replace(state, error_streak=state.error_streak + 1 if failed == total else 0)
