"""A project, and a kit that runs with one package, both of the test's own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.project.wheels import make_wheel
from turnkeeper_project import KitSource, Project


@dataclass
class Bench:
    """What a lock is made from."""

    project: Project
    kit: KitSource
    wheels: Path

    def wants(self, agent: str, *lines: str) -> None:
        file = self.project.agents / agent / "requirements.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{line}\n" for line in lines))

    def kit_runs_with(self, version: str, needs: str = "kitdep>=1,<2") -> None:
        folder = self.kit.root / "requirements"
        folder.mkdir(parents=True, exist_ok=True)
        self.kit.needs.write_text(f"{needs}\n")
        wheel = make_wheel(self.wheels, "kitdep", version)
        import hashlib

        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        pin = f"kitdep=={version} \\\n    --hash=sha256:{digest}\n"
        self.kit.requirements.write_text(f"# layer: 1000 bytes unzipped (kitdep 1000)\n{pin}")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    wheels = tmp_path / "wheels"
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_FIND_LINKS", str(wheels))
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.delenv("TURNKEEPER_CACHE", raising=False)
    project = Project(tmp_path / "project")
    project.agents.mkdir(parents=True)
    project.policy.write_text("")
    made = Bench(project, KitSource(tmp_path / "kit", tmp_path / "kit" / "turnkeeper"), wheels)
    made.kit_runs_with("1.0")
    return made
