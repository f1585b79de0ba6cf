from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


def unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex}"


def fails(expected: type[E], call: Callable[[], object]) -> E:
    """The error that the call raises."""
    try:
        answer = call()
    except expected as error:
        return error
    raise AssertionError(f"answered {answer!r}, where {expected.__name__} was due")


def eventually(look: Callable[[], T], expected: T, *, seconds: float = 10.0) -> None:
    """For what may lag: the last look counts."""
    until = time.monotonic() + seconds
    while (seen := look()) != expected and time.monotonic() < until:
        time.sleep(0.05)
    assert seen == expected, f"{seen!r} is not {expected!r}"
