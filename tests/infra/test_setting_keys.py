"""The stacks and what they deploy agree on the names of the settings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from functions.turn import handler
from turnkeeper.core.worker_size import WorkerSize, worker_size
from turnkeeper.settings import PREFIX, Settings
from turnkeeper_infra import names
from turnkeeper_infra.config import Config


def test_the_runtime_reads_every_setting_that_the_stacks_hand_out() -> None:
    sources = (file.read_text() for file in Path(names.__file__).parent.rglob("*.py"))
    handed_out = {key for source in sources for key in re.findall(rf"{PREFIX}\w+", source)}
    assert len(handed_out) > 15
    assert {key.removeprefix(PREFIX).lower() for key in handed_out} <= Settings.model_fields.keys()


def test_the_turn_function_asks_for_the_alias_that_is_published() -> None:
    assert handler.LIVE_ALIAS == names.LIVE_ALIAS


@pytest.mark.parametrize("told", [{}, *({"worker_concurrency": sessions} for sessions in (1, 2, 64, 65, 256, 1000))])
@pytest.mark.parametrize("vcpus", [1, 2, 4, 8])
def test_a_task_is_given_the_size_that_a_worker_takes_on_such_a_machine(vcpus: int, told: dict[str, int]) -> None:
    """The stacks import nothing of the runtime, so each has the figures."""
    config = Config.of({"stage": "dev", "identity": "local", "local": True, "worker_vcpus": vcpus, **told})
    size = WorkerSize(config.worker_processes, config.worker_concurrency)
    assert size == worker_size(vcpus, vcpus * 4_096, told.get("worker_concurrency"))
