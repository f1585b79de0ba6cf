"""What of this machine is for the worker."""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path

from turnkeeper.core.worker_size import WorkerSize, worker_size
from turnkeeper.settings import Settings

logger = logging.getLogger(__name__)

_CGROUP = Path("/sys/fs/cgroup")


def sized(settings: Settings) -> Settings:
    """The settings with processes and slots of this machine's size, where they name none."""
    own = size_of_this(settings.worker_concurrency if "worker_concurrency" in settings.model_fields_set else None)
    processes, slots = settings.worker_processes or own.processes, own.sessions
    if processes > 1 and importlib.util.find_spec("claude_agent_sdk") is not None:
        # Its programs are processes already, and only one worker process knows whose files are whose.
        logger.info("the Claude Agent SDK is installed: the worker is one process")
        processes = 1
    return settings.model_copy(update={"worker_processes": min(processes, slots), "worker_concurrency": slots})


def size_of_this(sessions: int | None = None, cgroup: Path = _CGROUP) -> WorkerSize:
    """For so many sessions, or as many as it holds, by the container's limits where it has some."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory_mb = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20
    quota = _words(cgroup / "cpu.max")
    if len(quota) == 2 and quota[0] != "max":
        cores = min(cores, int(quota[0]) / int(quota[1]))
    limit = _words(cgroup / "memory.max")
    if limit and limit[0] != "max":
        memory_mb = min(memory_mb, int(limit[0]) / 2**20)
    return worker_size(cores, memory_mb, sessions)


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []
