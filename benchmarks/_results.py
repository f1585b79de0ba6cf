"""What a benchmark found: printed in one layout, and kept as `benchmarks/results/NAME.json`. A benchmark says::

    with Results("ready") as results:
        results.cpu("front door ready", milliseconds_of_each_round, of="turnkeeper")
        results.count("modules imported", "modules", 412, of="turnkeeper")
        results.wall("turn answered", milliseconds_of_each_round, of="turnkeeper")

Every figure is what is measured, its unit, one value or one of each round, and what it is measured of (``of``: the kit,
the floor, a peer) and at (``step=10, kilobytes=1.5``). Counts are printed before CPU time, CPU time before wall time.
The file is written by `python -m benchmarks` only, so that a run by hand with options of its own leaves it alone.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal, Self

ROOT: Final = Path(__file__).resolve().parent.parent
KEPT: Final = ROOT / "benchmarks" / "results"
#: Names the folder that results are written to. Without it they are printed only.
FOLDER_VARIABLE: Final = "TURNKEEPER_BENCH_RESULTS"
PACKAGES: Final = ("boto3", "botocore", "anthropic")

#: ``count``: does not depend on how fast the machine is; USD and shares are of these, too.
Kind = Literal["count", "cpu", "wall"]
_TITLES: Final[Mapping[Kind, str]] = {"count": "counts", "cpu": "CPU time", "wall": "wall time"}


@dataclass(frozen=True)
class Figure:
    kind: Kind
    what: str
    unit: str
    #: One of each round.
    values: tuple[float, ...]
    #: What it is measured of and at.
    by: Mapping[str, str | float]

    def told(self) -> dict[str, Any]:
        spread = {"median": median(self.values), "least": min(self.values), "most": max(self.values)}
        rounded = {name: float(f"{value:.6g}") for name, value in spread.items()}
        return {
            "kind": self.kind,
            "what": self.what,
            "unit": self.unit,
            **self.by,
            **rounded,
            "rounds": len(self.values),
        }

    def __str__(self) -> str:
        spread = f" ({_short(min(self.values))} to {_short(max(self.values))}, {len(self.values)} rounds)"
        return f"{_short(median(self.values)):>10} {self.unit}{spread if len(self.values) > 1 else ''}"


@dataclass
class Results:
    """What one benchmark finds. At its end, if that is a good one, it is printed and kept."""

    name: str
    #: Installed packages whose versions matter beside the usual ones.
    packages: Sequence[str] = ()
    #: What else has to be known to read the figures, such as the peers' versions.
    about: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)

    def count(self, what: str, unit: str, values: float | Sequence[float], **by: str | float) -> None:
        self._add("count", what, unit, values, by)

    def cpu(self, what: str, values: float | Sequence[float], unit: str = "ms", **by: str | float) -> None:
        self._add("cpu", what, unit, values, by)

    def wall(self, what: str, values: float | Sequence[float], unit: str = "ms", **by: str | float) -> None:
        self._add("wall", what, unit, values, by)

    def _add(
        self, kind: Kind, what: str, unit: str, values: float | Sequence[float], by: Mapping[str, str | float]
    ) -> None:
        each = (float(values),) if isinstance(values, int | float) else tuple(map(float, values))
        self.figures.append(Figure(kind, what, unit, each, by))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        if error is not None:
            return
        print("\n".join(self.lines()), flush=True)
        if folder := os.environ.get(FOLDER_VARIABLE):
            Path(folder).mkdir(parents=True, exist_ok=True)
            path = Path(folder) / f"{self.name}.json"
            path.write_text(json.dumps(self.told(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    def told(self) -> dict[str, Any]:
        return {
            "benchmark": self.name,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine(),
            "versions": versions(self.packages),
            **self.about,
            "figures": [figure.told() for figure in self._in_order()],
        }

    def _in_order(self) -> list[Figure]:
        return sorted(self.figures, key=lambda figure: list(_TITLES).index(figure.kind))

    def lines(self) -> Iterator[str]:
        for kind, figures in groupby(self._in_order(), key=lambda figure: figure.kind):
            yield _TITLES[kind]
            for figure in figures:
                at = ", ".join(str(v) if isinstance(v, str) else f"{k} {v:g}" for k, v in figure.by.items())
                yield f"  {f'{figure.what}: {at}' if at else figure.what:<64} {figure}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def machine() -> dict[str, Any]:
    """What figures in seconds depend on; ``load`` says whether somebody else was at work."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
    }


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    found = {name: metadata.version(name) for name in (*PACKAGES, *packages)}
    return {"python": platform.python_version(), **found}


def commit() -> str:
    """The checkout's, with a plus sign where files have been changed since."""
    found = subprocess.run(
        ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or "unknown"
