"""The workflow that deploys keeps no key, pins what it runs, and builds arm64 where that is native."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.support.repository import REPOSITORY

TEXT = (REPOSITORY / ".github" / "workflows" / "deploy.yml").read_text()
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
JOBS: dict[str, dict[str, Any]] = WORKFLOW["jobs"]
MAKEFILE = (REPOSITORY / "Makefile").read_text()

PINNED = re.compile(r"[\w.-]+/[\w./-]+@([0-9a-f]{40}|v\d+)")


def test_it_plans_on_a_pull_request_and_deploys_on_main() -> None:
    triggers = WORKFLOW[True]  # YAML 1.1 reads `on` as a truth value
    assert set(triggers) == {"pull_request", "push", "workflow_dispatch"}
    assert triggers["push"]["branches"] == ["main"]
    assert "pull_request_target" not in TEXT
    assert "head.repo.full_name == github.repository" in JOBS["plan"]["if"]
    assert "github.ref == 'refs/heads/main'" in JOBS["deploy"]["if"]


@pytest.mark.parametrize(("job", "role"), [("plan", "AWS_PLAN_ROLE_ARN"), ("deploy", "AWS_DEPLOY_ROLE_ARN")])
def test_where_no_account_is_named_nothing_fails(job: str, role: str) -> None:
    assert f"vars.{role} != ''" in JOBS[job]["if"]


@pytest.mark.parametrize("job", ["plan", "deploy"])
def test_each_job_is_given_a_role_for_who_it_is(job: str) -> None:
    assert JOBS[job]["permissions"] == {"contents": "read", "id-token": "write"}
    [credentials] = [step for step in JOBS[job]["steps"] if "configure-aws-credentials" in step.get("uses", "")]
    assert set(credentials["with"]) == {"role-to-assume", "aws-region"}
    assert "secrets." not in TEXT


@pytest.mark.parametrize("job", ["plan", "deploy"])
def test_every_action_is_pinned(job: str) -> None:
    used = [step["uses"] for step in JOBS[job]["steps"] if "uses" in step]
    assert len(used) >= 4
    assert [name for name in used if not PINNED.fullmatch(name)] == []


def test_arm64_is_built_by_arm64_and_nothing_waits_for_a_terminal() -> None:
    assert JOBS["deploy"]["runs-on"].endswith("-arm")


def test_a_deploy_is_not_cut_off_by_the_next() -> None:
    assert JOBS["deploy"]["concurrency"]["cancel-in-progress"] is False


@pytest.mark.parametrize("job", ["plan", "deploy"])
def test_what_it_calls_is_there_to_make(job: str) -> None:
    called = {
        target for step in JOBS[job]["steps"] for target in re.findall(r"make (?:--[\w-]+ )*(\w+)", step.get("run", ""))
    }
    assert called == {"synth", "diff" if job == "plan" else "deploy"}
    assert all(re.search(rf"^{target}: setup", MAKEFILE, re.MULTILINE) for target in called)
