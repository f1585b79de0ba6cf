"""What a step of other systems costs, on the same script, the same text and the same machine as `benchmarks.step`.

    python -m benchmarks.step_peers [--only langgraph] [--steps 10,100] [--kilobytes 1.5] [--rounds 3]

Each runs in an environment of its own, locked in `requirements/peers` and made in `.turnkeeper/peers` at the first run.
They keep less than the kit does: none has a ledger, an audit trail, a lease or an injection check; Strands writes to a
a folder or a bucket without a condition. That is said beside their figures in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._results import ROOT, Results
from benchmarks.step import tell, world

LOCKS = ROOT / "requirements" / "peers"

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
    lock = LOCKS / f"{name}.txt"
    python, stamp = folder / "bin" / "python", folder / "locked.txt"
    if not stamp.exists() or stamp.read_text() != lock.read_text():
        uv = str(Path(sys.executable).with_name("uv"))
        subprocess.run([uv, "venv", "--quiet", "--allow-existing", str(folder)], check=True)
        subprocess.run([uv, "pip", "sync", "--quiet", "--python", str(python), str(lock)], check=True)
        stamp.write_text(lock.read_text())
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
    options = parser.parse_args([] if arguments is None else arguments)
    ats = [int(at) for at in options.steps.split(",")]
    names = [name for name in PEERS if name.startswith(options.only)]
    about = {"peers": {name: versions for name in names for versions in [locked(PEERS[name][1])]}}
    with Results("step_peers", about=about) as results:
        for kilobytes in map(float, options.kilobytes.split(",")):
            for name in names:
                rounds = [run(name, kilobytes, ats) for _ in range(options.rounds)]
                tell(results, rounds, name, kilobytes)
    return 0


def locked(name: str) -> dict[str, str]:
    """The versions of what an environment is made of, as its lock file pins them."""
    asked = re.findall(r"^([\w-]+)", (LOCKS / f"{name}.in").read_text(), re.MULTILINE)
    pinned = dict(re.findall(r"^([\w-]+)(?:\[.*\])?==(\S+)", (LOCKS / f"{name}.txt").read_text(), re.MULTILINE))
    return {package: pinned[package] for package in asked}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
