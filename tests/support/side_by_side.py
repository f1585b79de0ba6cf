"""Who runs what where tests run side by side: `make test` has more workers than a small machine has processors.

What mostly waits (for processes, for a model, for time to pass) comes first in the queue, the longest first of all, and
all workers but the last take from there. The last takes what computes, from the other end, and gives way to the others
where processors are short. They meet, so that no long test is left over.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.support.repository import REPOSITORY

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController  # type: ignore[import-untyped]

_WAITING = ("e2e", "browser", "docs")
#: Files that share kits, as one piece of work: each process that runs one of them brings up the kits that it asks for.
_TOGETHER = {
    "kits that move turns": ("crashes", "streams", "handoff"),
    "a kit, money": ("money_outside", "breakers_outside", "bad_input", "explaining", "spend_outside"),
    "a kit, turns": ("turns", "queue", "hooks", "gateway", "first_hour"),
}
#: Files of a minute and more; what is missing here only begins later.
LONGEST = (
    *(file for files in _TOGETHER.values() for file in files),
    *("money_races", "local_kit", "worker_process", "shapes", "serve", "traces", "project", "demo"),
    *("rollout", "vercel", "tutorial", "load"),
)
#: From the end, where whoever computes begins.
_COMPUTING = ("unit", "contract", "simulation", "properties", "infra")
_GIVES_WAY = 5


def waiting_files() -> list[Path]:
    return [path for folder in _WAITING for path in (REPOSITORY / "tests" / folder).glob("test_*.py")]


def place_in_queue(item: pytest.Item) -> tuple[int, int]:
    folder, name = item.path.relative_to(REPOSITORY / "tests").parts[0], item.path.stem.removeprefix("test_")
    if folder in _WAITING:
        return 0, LONGEST.index(name) if name in LONGEST else len(LONGEST)
    return 1, _COMPUTING.index(folder) if folder in _COMPUTING else 0


class FromBothEnds(LoadScopeScheduling):  # type: ignore[misc]
    """`--dist loadscope`, as said above."""

    def _assign_work_unit(self, node: WorkerController) -> None:
        if computes(node.gateway.id, self.numnodes):
            self.workqueue.move_to_end(next(reversed(self.workqueue)), last=False)
        super()._assign_work_unit(node)

    def _split_scope(self, nodeid: str) -> str:
        scope: str = super()._split_scope(nodeid)
        folder, name = scope.split("/")[1], scope.rpartition("/test_")[2].removesuffix(".py")
        if folder == "infra" and "simulation" not in name:
            return folder  # They share a synthesis of every variant.
        return next((what for what, files in _TOGETHER.items() if folder == "e2e" and name in files), scope)


def computes(worker: str, workers: int) -> bool:
    return workers > 1 and worker == f"gw{workers - 1}"


def give_way(config: pytest.Config) -> None:
    """In a worker: that it computes is no hindrance to those that wait for an answer in time."""
    given: dict[str, Any] = getattr(config, "workerinput", {})
    if given and computes(given["workerid"], given["workercount"]):
        os.nice(_GIVES_WAY)
