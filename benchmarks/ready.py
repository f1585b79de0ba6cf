"""CPU time until a process can answer, beside a process that only makes a client of DynamoDB.

Processes are started one after the other, each kind in turn, so that what else the machine does meets all of them alike.
Each is ended where it is ready: what Python does at its end is in nobody's way. The code is that of a bundle, compiled
and with its manifest. `--tree DIR` measures the bundle of another checkout beside it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
LAMBDA = {
    "AWS_LAMBDA_FUNCTION_NAME": "function",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "TURNKEEPER_TABLE": "table",
    "TURNKEEPER_BUCKET": "bucket",
    "TURNKEEPER_QUEUE_URL": "https://sqs.eu-central-1.amazonaws.com/1/queue",
    "TURNKEEPER_DLQ_URL": "https://sqs.eu-central-1.amazonaws.com/1/dead",
    "TURNKEEPER_SIGNING_SECRET_ID": "signing",
    "TURNKEEPER_TURN_FUNCTION": "turn",
    "TURNKEEPER_IDENTITY": "local",
}
SNAPSHOT = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
FLOOR = "floor: boto3, a DynamoDB client"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tree", type=Path, help="another checkout, to compare with")
    options = parser.parse_args([] if sys.argv[0].endswith("benchmarks/__main__.py") else None)
    with tempfile.TemporaryDirectory() as folder:
        code = _bundle(REPOSITORY, Path(folder, "code"))
        front, turn = "import functions.api.handler", "import functions.turn.handler"
        kinds = {
            FLOOR: ("import boto3; boto3.client('dynamodb')", code, {}),
            "the same with botocore alone": (
                "import botocore.session as s; s.get_session().create_client('dynamodb')",
                code,
                {},
            ),
            "pydantic, one model": ("import pydantic\nclass A(pydantic.BaseModel): a: int", code, {}),
            "front door": (front, code, {}),
            "front door, before a snapshot": (front, code, SNAPSHOT),
            "turn runner": (turn, code, {}),
            "turn runner, before a snapshot": (turn, code, SNAPSHOT),
            "the Anthropic SDK's client": ("import anthropic; anthropic.Anthropic(api_key='k').messages", code, {}),
        }
        if options.tree is not None:
            other = _bundle(options.tree.resolve(), Path(folder, "other"))
            kinds |= {"other tree: front door": (front, other, {}), "other tree: turn runner": (turn, other, {})}
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        for _ in range(options.rounds + 1):
            for name, kind in kinds.items():
                taken[name].append(_cpu_millis(*kind))
    floor = statistics.median(taken[FLOOR][1:])
    print(f"CPU time in ms, median (least to most) of {options.rounds} processes each")
    for name, (_, *measured) in taken.items():  # the first of each met cold disks
        median = statistics.median(measured)
        print(
            f"{name:34} {median:6.0f} ({min(measured):.0f} to {max(measured):.0f})  {median / floor:5.2f} of the floor"
        )
    return 0


def _cpu_millis(code: str, root: Path, more: dict[str, str]) -> float:
    """CPU time of a process that runs this and ends."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "LAMBDA_TASK_ROOT": str(root), **LAMBDA, **more}
    command = [sys.executable, "-c", f"{code}\nimport os; os._exit(0)"]
    process = os.posix_spawn(sys.executable, command, environment)
    _, status, used = os.wait4(process, 0)
    if status:
        raise RuntimeError(f"it failed: {code}")
    return (used.ru_utime + used.ru_stime) * 1000


def _bundle(tree: Path, folder: Path) -> Path:
    """The code that a deployment of this checkout would carry, unpacked."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    paths = os.pathsep.join(str(tree / part) for part in ("infra/src", "shared/src"))
    environment = {**os.environ, "PYTHONPATH": paths, "TURNKEEPER_PROJECT": str(tree)}
    made = subprocess.run(
        [sys.executable, "-m", "turnkeeper_infra.bundle", "code", version, "", str(tree)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    with zipfile.ZipFile(made.stdout.strip()) as archive:
        archive.extractall(folder)
    return folder


if __name__ == "__main__":
    sys.exit(main())
