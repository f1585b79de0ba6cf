"""What is made when it is first used: for parts that a process has to name, and may never need."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar, cast

T = TypeVar("T")


def late(make: Callable[[], T]) -> T:
    """Stands for what ``make`` makes, and makes it, once, when something of it is first asked for: then with the errors
    of making it. Safe to share between threads."""
    return cast(T, _Late(make))


class _Late:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._made: list[Any] = []
        self._make = make
        self._making = Lock()

    def __getattr__(self, name: str) -> Any:
        if not self._made:
            with self._making:
                if not self._made:
                    self._made.append(self._make())
        return getattr(self._made[0], name)
