"""What is reckoned once of a value that never changes: an agent's definition, its version, what is odd about a tool.

``functools.cache`` compares values, which have to be hashable for it and are walked each time. This asks whether it is
the same object, and forgets with it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import ref

__all__ = ["remembered"]

V = TypeVar("V")
R = TypeVar("R")


def remembered(reckon: Callable[[V], R]) -> Callable[[V], R]:
    """``reckon`` of each object once, as long as that lives. Threads that ask at the same time may both reckon."""
    known: dict[int, tuple[ref[Any], R]] = {}

    @wraps(reckon)
    def of(value: V) -> R:
        found = known.get(id(value))
        if found is not None and found[0]() is value:
            return found[1]
        result = reckon(value)
        key = id(value)
        # Called while the object still holds its address, so that nothing else is known by it yet.
        known[key] = ref(value, lambda _gone: known.pop(key, None)), result
        return result

    return of
