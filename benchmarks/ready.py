"""CPU time until a process can answer, beside a process that only makes a client of DynamoDB.

Processes are started one after the other, each kind in turn, so that what else the machine does meets all of them
alike. Each is ended where it is ready: what Python does at its end is in nobody's way. The code is that of a bundle,
compiled and with its manifest. `--tree DIR` measures the bundle of another checkout beside it.
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

from benchmarks._results import Results

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


FRONT, TURN = "import functions.api.handler", "import functions.turn.handler"
SDK = "import anthropic; anthropic.Anthropic(api_key='k').messages"
#: What is run, by what it is called, whose it is, and what its environment says besides.
KINDS = [
    ("DynamoDB client ready", "boto3 (the floor)", "import boto3; boto3.client('dynamodb')", {}),
    (
        "DynamoDB client ready",
        "botocore",
        "import botocore.session as s; s.get_session().create_client('dynamodb')",
        {},
    ),
    ("front door ready", "turnkeeper", FRONT, {}),
    ("front door ready for a snapshot", "turnkeeper", FRONT, SNAPSHOT),
    ("turn runner ready", "turnkeeper", TURN, {}),
    ("turn runner ready for a snapshot", "turnkeeper", TURN, SNAPSHOT),
    ("client of the model ready", "anthropic", SDK, {}),
    ("one model ready", "pydantic", "import pydantic\nclass A(pydantic.BaseModel): a: int", {}),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--tree", type=Path, help="another checkout, to compare with")
    options = parser.parse_args(sys.argv[1:] if __name__ == "__main__" else [])
    with tempfile.TemporaryDirectory() as folder, Results("ready") as results:
        code = _bundle(REPOSITORY, Path(folder, "code"))
        kinds = [(what, of, script, code, more) for what, of, script, more in KINDS]
        if options.tree is not None:
            other = _bundle(options.tree.resolve(), Path(folder, "other"))
            kinds += [
                (*kind[:1], "the other tree", kind[2], other, kind[4])
                for kind in kinds
                if FRONT in kind or TURN in kind
            ]
        taken: list[list[float]] = [[] for _ in kinds]
        for _ in range(options.rounds + 1):
            for (_, _, script, root, more), millis in zip(kinds, taken, strict=True):
                millis.append(_cpu_millis(script, root, more))
        _, *floors = taken[0]  # the first of each met cold disks
        for (what, of, *_), (_, *millis) in zip(kinds, taken, strict=True):
            results.cpu(what, millis, of=of)
            # In each round beside its own floor: a machine that others share is not as fast in one as in another.
            times = statistics.median(mine / floor for mine, floor in zip(millis, floors, strict=True))
            results.count(what, "times the floor", round(times, 2), of=of)
    return 0


def _cpu_millis(code: str, root: Path, more: dict[str, str]) -> float:
    """CPU time of a process that runs this and ends."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(root), "LAMBDA_TASK_ROOT": str(root), **LAMBDA, **more}
    command = [sys.executable, "-P", "-c", f"{code}\nimport os; os._exit(0)"]
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
