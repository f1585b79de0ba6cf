from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.wiring import POLICY, Folder
from turnkeeper.settings import PREFIX


@pytest.fixture
def deployed(tmp_path: Path) -> Folder:
    """A folder to deploy from, with nothing in it."""
    return Folder(tmp_path / "deployed")


@pytest.fixture
def folder(deployed: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """Agents in three folders, and a second root beside the first; an environment with nothing else in it."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "ANTHROPIC_", PREFIX))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "a key of the environment")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "eu-central-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    deployed.policy(POLICY)
    deployed.agent("desk")
    deployed.agent("lab", folder="more")
    deployed.agent("shop", folder="yet-more")
    elsewhere = Folder(deployed.root / "elsewhere")
    elsewhere.policy(POLICY.replace("free", "paid"))
    elsewhere.agent("till")
    return deployed
