"""How many sessions a worker holds, and in how many processes, by what a machine has.

Measured by ``benchmarks.capacity`` with calls of two seconds, faster than models mostly are: a step takes 7 to 12 ms of
a core, so 64 sessions keep a quarter to two fifths of one busy. The rest is for tools, and for moments in which many
go on at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: What a core carries, and also what one process holds. With more sessions the threads of a process wait for one
#: another rather than for the core: only one of them runs at a time, and each system call makes it wait for its turn.
SESSIONS_A_CORE: Final = 64
#: A process before its first session: 123 MB as measured, and what agents import.
PROCESS_MB: Final = 384
#: A session whose conversation is a megabyte, which is more than fits into most models: 3.8 MB as measured, and what
#: its tools hold. One of a few steps takes 0.6 MB.
SESSION_MB: Final = 8


@dataclass(frozen=True, slots=True)
class WorkerSize:
    processes: int
    #: Of all processes together.
    sessions: int


def worker_size(cores: float, memory_mb: float, sessions: int | None = None) -> WorkerSize:
    """What a worker on such a machine is, with as many sessions as are asked for or, by default, as it holds; at least
    one process with one session.

    >>> worker_size(1, 4096), worker_size(2, 1536), worker_size(2, 8192, sessions=256)
    (WorkerSize(processes=1, sessions=64), WorkerSize(processes=2, sessions=96), WorkerSize(processes=4, sessions=256))
    """
    most = max(1, int(memory_mb // (2 * PROCESS_MB)))
    processes = max(1, min(int(cores), most))
    if sessions is None:
        room = (memory_mb - processes * PROCESS_MB) // SESSION_MB
        share = cores / processes if processes > cores else 1
        sessions = max(processes, int(min(processes * SESSIONS_A_CORE * share, room)))
    wanted = max(processes, -(-sessions // SESSIONS_A_CORE))
    return WorkerSize(min(wanted, most, sessions), sessions)
