"""What a step of other systems costs, on the same script, the same text and the same machine as `benchmarks.step`.

    python -m benchmarks.step_peers [--only langgraph] [--steps 10,100] [--kilobytes 1.5] [--rounds 3] [--json FILE]

Each runs in an environment of its own, locked in `requirements/peers` and made in `.turnkeeper/peers` at the first run.
They keep less than the kit does: none has a ledger, an audit trail, a lease or an injection check; Strands writes to a
a folder or a bucket without a condition. That is said beside their figures in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.step import ROOT, world

#: Script, environment and variant of each.
PEERS = {
    "langgraph": ("langgraph_peer.py", "langgraph", "plain"),
    "langgraph, delta channels": ("langgraph_peer.py", "langgraph", "delta"),
    "strands, files": ("strands_peer.py", "strands", "file"),
    "strands, S3": ("strands_peer.py", "strands", "s3"),
    "pydantic-ai, DBOS on SQLite": ("pydantic_ai_peer.py", "pydantic-ai", "sqlite"),
}


def environment(name: str) -> Path:
    """The Python of a peer's environment, as locked."""
    folder = ROOT / ".turnkeeper" / "peers" / name
    locked = ROOT / "requirements" / "peers" / f"{name}.txt"
    python, stamp = folder / "bin" / "python", folder / "locked.txt"
    if not stamp.exists() or stamp.read_text() != locked.read_text():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--allow-existing", str(folder)], check=True)
        subprocess.run([uv, "pip", "sync", "--quiet", "--python", str(python), str(locked)], check=True)
        stamp.write_text(locked.read_text())
    return python


def run(name: str, kilobytes: float, ats: Sequence[int]) -> dict[str, Any]:
    """As :func:`benchmarks.step.run` tells it of the kit."""
    script, its_environment, variant = PEERS[name]
    python = environment(its_environment)
    with world("benchmarks.peers.world") as address:
        told = subprocess.run(
            [str(python), script, address, variant, str(kilobytes), ",".join(map(str, ats))],
            cwd=ROOT / "benchmarks" / "peers",
            env={**os.environ, "AWS_ENDPOINT_URL": address},
            capture_output=True,
            text=True,
            check=False,
        )
    if told.returncode:
        raise RuntimeError(f"{name}: {told.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.step_peers")
    parser.add_argument("--only", default="", help="those whose names begin so")
    parser.add_argument("--steps", default="10,100")
    parser.add_argument("--kilobytes", default="1.5")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args([] if arguments is None else arguments)
    ats = [int(at) for at in options.steps.split(",")]
    results: list[dict[str, Any]] = []
    for kilobytes in map(float, options.kilobytes.split(",")):
        print(f"{kilobytes:g} KB a result")
        for name in (name for name in PEERS if name.startswith(options.only)):
            rounds = [run(name, kilobytes, ats) for _ in range(options.rounds)]
            cpu = {at: [each["cpu_ms"][str(at)] for each in rounds] for at in ats}
            counts = rounds[-1]["a_step"]
            results.append({"name": name, "kilobytes": kilobytes, "cpu_ms": cpu, "a_step": counts})
            took = ", ".join(
                f"step {at}: {median(each):.2f} ({min(each):.2f} to {max(each):.2f}) ms" for at, each in cpu.items()
            )
            print(f"  {name:<28} {took}")
            print(f"  {'':<28} {', '.join(f'{what} {count:.1f}' for what, count in counts.items())} a step")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
