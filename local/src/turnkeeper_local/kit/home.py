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
from typing import Any, cast

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
    """The object in a file, or None where there is none."""
    try:
        return cast(dict[str, Any], json.loads(path.read_text()))
    except FileNotFoundError:
        return None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file at once: a reader sees the old content or the new, never half of it."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(content, indent=2) + "\n")
    Path(draft).replace(path)


@contextlib.contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Hold a lock that the system frees when its holder dies, however it dies."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
