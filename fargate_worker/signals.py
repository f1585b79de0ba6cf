"""The word to stop."""

from __future__ import annotations

import signal


class Signals:
    """Remembers that the process was told to stop: a handler may run at any moment, between any two steps, so it does
    nothing else."""

    def __init__(self) -> None:
        self.stop = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.note)

    def note(self, *_: object) -> None:
        self.stop = True
