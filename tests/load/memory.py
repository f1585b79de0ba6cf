"""The memory of the processes of a local kit over time, and whether it grows.

Resident memory of the worker, and of each Lambda that the emulator keeps as a process. A process that was killed is
followed by one with a curve of its own.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, linear_regression

from tests.load.target import Target
from tests.support.meanwhile import meanwhile

#: Whose growth fails a run; others are told.
JUDGED = ("worker", "observer", "scorer")
#: What a process loads at its first turns is no growth.
WARM_UP_SECONDS = 60.0
#: A curve that is shorter than this after its warm-up says nothing.
LEAST_SECONDS = 90.0
_INTERVAL_SECONDS = 3.0
_MIB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass
class Curve:
    """One process: seconds since the run began, and MiB."""

    process: str
    pid: int
    points: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Growth:
    """Of a process after its warm-up: the slope of least squares, over the time that was looked at."""

    process: str
    pid: int
    seconds: float
    first_quarter_mib: float
    last_quarter_mib: float
    mib_per_minute: float
    percent: float


def growth(curve: Curve) -> Growth | None:
    """None where it did not live long enough."""
    begin = curve.points[0][0] + WARM_UP_SECONDS if curve.points else 0.0
    steady = [point for point in curve.points if point[0] >= begin]
    if len(steady) < 8 or steady[-1][0] - steady[0][0] < LEAST_SECONDS:
        return None
    times, sizes = zip(*steady, strict=True)
    seconds, quarter = times[-1] - times[0], len(sizes) // 4
    first, last = fmean(sizes[:quarter]), fmean(sizes[-quarter:])
    slope = linear_regression(times, sizes).slope
    return Growth(curve.process, curve.pid, seconds, first, last, slope * 60, 100 * slope * seconds / first)


def grown(curves: Sequence[Curve], *, bound_percent: float, needed: Sequence[str]) -> Iterator[str]:
    """What grew by more than the bound, and what should have been measured and was not."""
    measured = [found for curve in curves if curve.process in JUDGED and (found := growth(curve)) is not None]
    for each in measured:
        if each.percent > bound_percent:
            yield (
                f"{each.process} {each.pid} grew by {each.percent:.1f} % in {each.seconds:.0f} s, "
                f"from {each.first_quarter_mib:.0f} to {each.last_quarter_mib:.0f} MiB; {bound_percent:g} % are allowed"
            )
    for process in needed:
        if process not in {each.process for each in measured}:
            yield f"no {process} lived long enough to be measured"


@contextlib.contextmanager
def watching_memory(target: Target) -> Iterator[list[Curve]]:
    """Curves that are drawn meanwhile."""
    curves: dict[int, Curve] = {}
    listed: list[Curve] = []
    began = time.monotonic()

    def look() -> None:
        at = time.monotonic() - began
        for pid, process in processes(target):
            with contextlib.suppress(OSError, ValueError, IndexError):  # It has just ended.
                resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / _MIB
                if pid not in curves:
                    curves[pid] = Curve(process, pid)
                    listed.append(curves[pid])
                curves[pid].points.append((at, resident))

    with meanwhile(look, lambda: _INTERVAL_SECONDS):
        yield listed


def processes(target: Target) -> Iterator[tuple[int, str]]:
    """The worker that lives, and the emulator's Lambdas: those whose environment names this emulator and a function."""
    yield target.stack.worker_pid(), "worker"
    emulator = f"AWS_ENDPOINT_URL={target.stack.kit.aws_endpoint_url}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # Somebody else's, or it has just ended.
            environment = (folder / "environ").read_bytes().split(b"\0")
            if emulator in environment:
                for entry in environment:
                    if entry.startswith(b"AWS_LAMBDA_FUNCTION_NAME="):
                        yield int(folder.name), _short(entry.partition(b"=")[2].decode())


def _short(function: str) -> str:
    """`observer` of `TurnkeeperApi-ObserverA5E25CB5-22E5FA8DDCA7F`."""
    name = function.partition("-")[2].partition("-")[0]
    return name[:-8].lower() if len(name) > 8 else name.lower()
