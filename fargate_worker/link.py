"""What ties the processes of one worker together: each knows which one it is, says where it answers, and ends with the
one that started it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

#: In the environment of a process that another one started: its number and two file descriptors, ``number:read:write``.
VARIABLE = "TURNKEEPER_WORKER_LINK"


@dataclass(frozen=True)
class Link:
    #: Of all processes of the worker, from 0 on.
    number: int
    #: Ends when the one that started this process does.
    read: int
    write: int

    @classmethod
    def of(cls, environment: MutableMapping[str, str] = os.environ) -> Self | None:
        """``None`` in a process that is a worker by itself. What it starts is told nothing of it."""
        text = environment.pop(VARIABLE, None)
        return cls(*map(int, text.split(":"))) if text else None

    def say(self, port: int) -> None:
        """It takes jobs now, and tells of itself on this port."""
        with suppress(OSError):
            os.write(self.write, f"{port}\n".encode())

    def watch(self, gone: Callable[[], object]) -> None:
        """``gone`` is called once, when the one that started this process is gone, whatever ended it."""

        def body() -> None:
            with suppress(OSError):
                while os.read(self.read, 64):
                    pass
            gone()

        threading.Thread(target=body, name="link", daemon=True).start()
