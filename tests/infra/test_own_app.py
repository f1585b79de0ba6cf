"""An app of a team's own, as docs/own-repository.md shows it: synthesized from the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.infra.variants import IAM
from tests.support.repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "own-repository.md").read_text()


def test_the_app_of_the_page_is_synthesized(source_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [program] = re.findall(r"```python\n(# app\.py\n.*?)```", PAGE, re.DOTALL)
    common = json.loads((REPOSITORY / "cdk.json").read_text())["context"]
    chosen = {"stage_file": "", "project": str(source_root), "source_root": str(source_root), **IAM}
    monkeypatch.setenv("CDK_CONTEXT_JSON", json.dumps({**common, **chosen}))
    monkeypatch.setenv("CDK_OUTDIR", str(tmp_path))
    exec(compile(program, "app.py", "exec"), {"__name__": "__main__"})
    templates = {path.name.split(".")[0]: json.loads(path.read_text()) for path in tmp_path.glob("*.template.json")}
    assert templates.keys() == {"TurnkeeperState", "TurnkeeperApi", "TurnkeeperWorker", "TurnkeeperObserve", "Reports"}
    kinds = [resource["Type"] for resource in templates["TurnkeeperState"]["Resources"].values()]
    assert "AWS::Backup::BackupPlan" in kinds
    policies = json.dumps(templates["Reports"])
    assert "dynamodb:Query" in policies
