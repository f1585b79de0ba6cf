"""What was sent while the load ran, and what was answered: written by all users at once, read at the end."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class Input:
    """Something that was said, by HTTP or as a job."""

    kind: str
    tenant: str
    #: Stands in this input and in no other.
    mark: str
    #: None where the answer to its beginning was lost.
    session_id: str | None
    #: Whether it was certainly taken in: an answer, or the queue, said so.
    accepted: bool
    #: Seconds since the epoch.
    at: float = 0.0
    #: Whether it was certainly not taken in.
    refused: bool = False


@dataclass
class Record:
    """Of one run."""

    inputs: list[Input] = field(default_factory=list)
    #: How many answers of each kind of traffic there were: `200 idle`, `402 cost_cap_exceeded`.
    answers: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    #: Seconds from an input until its turn was told to rest.
    latencies: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    #: Answers that were no answers: an error of the kit's own, or none at all.
    failures: list[str] = field(default_factory=list)
    #: Statuses that nothing leads out of, as somebody was told of them.
    ended: dict[str, str] = field(default_factory=dict)
    #: Bodies that were sent to the queue and can never work, with the reason that is theirs.
    nonsense: dict[str, str] = field(default_factory=dict)
    #: Turns that did not rest while somebody waited for them.
    slow: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def said(self, entry: Input) -> None:
        with self._lock:
            self.inputs.append(entry)

    def answered(self, kind: str, what: str) -> None:
        with self._lock:
            self.answers[kind][what] += 1

    def took(self, kind: str, seconds: float) -> None:
        with self._lock:
            self.latencies[kind].append(seconds)

    def failed(self, what: str) -> None:
        with self._lock:
            self.failures.append(what)

    def told(self, session_id: str, status: str) -> None:
        """Erased is what may follow any of the others."""
        with self._lock:
            if self.ended.get(session_id) != "erased":
                self.ended[session_id] = status

    def meant(self, body: str, code: str) -> None:
        with self._lock:
            self.nonsense[body] = code

    def waited_in_vain(self) -> None:
        with self._lock:
            self.slow += 1
