"""What memory each process of the kit takes at most: a local kit of its own, with the bundle that is deployed.

The processes are the emulator's Lambdas, each with the handler's real imports, and the worker. What they
are given to do is meant to be much: inputs of megabytes, 40 KB of results a step, long pages of events. The defaults of
`memory_mb` are set from these figures (docs/cost.md).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from benchmarks._results import Results
from tests.e2e.outside import Caller, call, running_stack, tools

LARGE_INPUT_BYTES = 2_400_000


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder)) as stack:
        caller = stack.caller()
        stack.set_caps(caller.tenant, **dict.fromkeys(("task", "user_daily", "user_monthly", "tenant_monthly"), "500"))
        _work(caller)
        peaks = sorted(_peaks(stack.kit.aws_endpoint_url))
    with Results("memory") as results:
        for name, each in groupby(peaks, key=itemgetter(0)):
            results.count("peak of resident memory", "MB", [megabytes for _, megabytes in each], of=name)
    return 0


def _work(caller: Caller) -> None:
    caller.turn("handy", "[[say hi]]", placement="background")
    caller.turn("handy", " ".join(tools(call("big", size=40_000 + n)) for n in range(3)) + " [[say done]]")
    words = " ".join(f"word{number}" for number in range(LARGE_INPUT_BYTES // 12))
    for _ in range(2):
        turn = caller.turn("handy", words)
        caller.events(turn["session_id"])
        caller.http.post(f"/v1/sessions/{turn['session_id']}/fork", json={}, headers={"Prefer": "wait=0"})


def _peaks(endpoint_url: str) -> Iterator[tuple[str, float]]:
    """Of every process that was told of this emulator, by what it is."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            pairs = [line.partition("=") for line in (process / "environ").read_bytes().decode().split("\0")]
            status = (process / "status").read_text()
        except (OSError, UnicodeDecodeError):
            continue  # gone, or somebody else's
        variables = {name: value for name, _, value in pairs}
        name = variables.get("POWERTOOLS_SERVICE_NAME")
        if name and variables.get("AWS_ENDPOINT_URL") == endpoint_url and "VmHWM:" in status:
            yield name, int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    sys.exit(main())
