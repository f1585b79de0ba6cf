"""What is made when it is first used: for what a process has to name, and may never need."""

from __future__ import annotations

from collections.abc import Callable
from threading import RLock
from typing import Any, TypeVar, cast
from weakref import WeakSet

T = TypeVar("T")


def late(make: Callable[[], T]) -> T:
    """Stands for what ``make`` makes, and makes it, once, when something of it is first asked for: then with the errors
    of making it. Safe to share between threads."""
    return cast(T, _Late(make))


def make_all() -> None:
    """Make all that was put off so far, as before a snapshot of the process is taken."""
    for each in list(_all):
        each._late_made()


class _Late:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._late: list[Any] = []
        self._late_make = make
        self._late_lock = RLock()
        _all.add(self)

    def _late_made(self) -> Any:
        if not self._late:
            with self._late_lock:
                if not self._late:
                    self._late.append(self._late_make())
        return self._late[0]

    def __getattr__(self, name: str) -> Any:
        made = self._late
        return getattr(made[0] if made else self._late_made(), name)


_all: WeakSet[_Late] = WeakSet()
