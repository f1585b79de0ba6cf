"""Where a kit keeps what it knows. What can be made again is in the project's cache, which all its kits share."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from turnkeeper_project import find_project


@dataclass(frozen=True, slots=True)
class Home:
    """The state folder of one kit. Two kits on one machine have two homes."""

    path: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Home:
        """`TURNKEEPER_HOME`, or `.turnkeeper` in the project."""
        return cls(Path(environment.get("TURNKEEPER_HOME") or find_project().root / ".turnkeeper").resolve())

    @property
    def local_json(self) -> Path:
        """What the outside reads. Exists while a kit is up and ready."""
        return self.path / "local.json"

    @property
    def kit_json(self) -> Path:
        """What the kit itself remembers: its settings and its processes."""
        return self.path / "kit.json"

    @property
    def state(self) -> Path:
        """What the emulator keeps while it is down: tables, queues, buckets, secrets, stacks."""
        return self.path / "state"

    @property
    def temporary(self) -> Path:
        """Scratch of the emulator and its Lambdas; `down` empties it."""
        return self.path / "tmp"

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def make(self) -> None:
        for folder in (self.path, self.temporary, self.path / "logs"):
            folder.mkdir(parents=True, exist_ok=True)

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """One `up` or `down` at a time; a second one waits."""
        self.path.mkdir(parents=True, exist_ok=True)
        return file_lock(self.path / "kit.lock")


def read_json(path: Path) -> dict[str, Any] | None:
    """The object in a file, or None where there is none, also where the file holds something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """As `write_text`."""
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file at once: a reader sees the old content or the new, never half of it, and where there is no room
    for the new, the old stays."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
        Path(draft).replace(path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock that the system frees when its holder dies, however it dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
