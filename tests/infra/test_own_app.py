"""An app of a team's own, as docs/own-repository.md shows it: synthesized from the page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.infra.variants import IAM
from tests.support.repository import REPOSITORY

PAGE = (REPOSITORY / "docs" / "own-repository.md").read_text()


def test_the_app_of_the_page_is_synthesized(source_root: Path, tmp_path: Path) -> None:
    [program] = re.findall(r"```python\n(# app\.py\n.*?)```", PAGE, re.DOTALL)
    common = json.loads((REPOSITORY / "cdk.json").read_text())["context"]
    chosen = {"stage_file": "", "project": str(source_root), "source_root": str(source_root), **IAM}
    (tmp_path / "app.py").write_text(program)
    told = {"CDK_CONTEXT_JSON": json.dumps({**common, **chosen}), "CDK_OUTDIR": str(tmp_path / "out")}
    told["CDK_VALIDATION"] = "false"  # The kit's stacks are validated elsewhere, and it takes ten seconds.
    environment = {**os.environ, **told, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "app.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    templates = {path.name.split(".")[0]: json.loads(path.read_text()) for path in tmp_path.glob("out/*.template.json")}
    assert templates.keys() == {"TurnkeeperState", "TurnkeeperApi", "TurnkeeperWorker", "TurnkeeperObserve", "Reports"}
    kinds = [resource["Type"] for resource in templates["TurnkeeperState"]["Resources"].values()]
    assert "AWS::Backup::BackupPlan" in kinds
    policies = json.dumps(templates["Reports"])
    assert "dynamodb:Query" in policies
