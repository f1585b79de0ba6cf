"""What this version writes down about itself, for `turnkeeper upgrade` of a later one: `make docs` runs this module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from turnkeeper.core.policy import PlanLimits, PlanPolicy, Policy, RolePolicy
from turnkeeper.core.scopes import SCOPES
from turnkeeper_infra.config import Config
from turnkeeper_infra.config.tables import Runners, RunnerSecret, Statement
from turnkeeper_project import kit_version, template, upgrading

NEVER_IN_A_FILE = {"local", "nag", "project", "source_root", "local_dependencies"}
FILE = Path(upgrading.__file__).parent / "releases" / f"{kit_version()}.json"


def keys(model: type[BaseModel], prefix: str, *leave_out: str) -> list[str]:
    return [f"{prefix}{name}" for name in model.model_fields if name not in leave_out]


def record() -> dict[str, Any]:
    """The keys of stage files and policy.toml, and files that all projects have alike. Notes are written by hand."""
    notes = json.loads(FILE.read_text())["notes"] if FILE.is_file() else []
    return {
        "files": {name: upgrading.digest(template.template_file(name)) for name in template.KEPT_BY_UPGRADE},
        "notes": notes,
        "policy": sorted(
            [
                *keys(Policy, ""),
                *keys(PlanPolicy, "plans.NAME.", "caps", "limits"),
                *(f"plans.NAME.{row.plan_key}" for row in SCOPES.values()),
                *keys(PlanLimits, "plans.NAME.limits."),
                *keys(RolePolicy, "roles.NAME."),
            ]
        ),
        "stages": sorted(
            [
                *keys(Config, "", *NEVER_IN_A_FILE),
                *keys(Runners, "runners."),
                *keys(RunnerSecret, "runners.secrets."),
                *keys(Statement, "runners.policies."),
            ]
        ),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(record(), indent=2) + "\n")
