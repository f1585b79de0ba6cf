"""The wheel in an environment of its own, in a folder that knows nothing of the clone: as a new user has it."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.support.installed import Installed, copy_tree, install_wheel
from tests.support.repository import REPOSITORY
from turnkeeper_project import kit_version


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    return install_wheel(REPOSITORY, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The next version, which writes another workflow, and has a changelog."""
    tree = copy_tree(tmp_path_factory.mktemp("tree"))
    for name, old, new in (
        ("pyproject.toml", f'version = "{kit_version()}"', 'version = "99.0.0"'),
        (
            "shared/src/turnkeeper_project/template/workflows/turnkeeper.yml",
            "timeout-minutes: 20",
            "timeout-minutes: 21",
        ),
        ("CHANGELOG.md", "## Unreleased", f"## 99.0.0\n\n- Everything is better.\n\n## {kit_version()}"),
    ):
        text = (tree / name).read_text()
        assert old in text
        (tree / name).write_text(text.replace(old, new))
    return install_wheel(tree, tmp_path_factory.mktemp("newer"))


@pytest.fixture
def project(installed: Installed, tmp_path: Path) -> Path:
    done = installed.run("init", "mine", "--agent", "greeter", "--json", cwd=tmp_path)
    assert json.loads(done.stdout) == {
        "project": str(tmp_path / "mine"), "agent": "greeter", "version": kit_version(),
    }  # fmt: skip
    (tmp_path / "mine" / "node_modules").symlink_to(REPOSITORY / "node_modules")
    return tmp_path / "mine"


def test_the_wheel_carries_what_is_deployed_and_no_litter(installed: Installed) -> None:
    names = set(zipfile.ZipFile(installed.wheel).namelist())
    kit = "turnkeeper_project/kit/"
    for folder in ("functions", "fargate_worker", "server", "deploy"):
        files = [
            file for file in (REPOSITORY / folder).rglob("*") if file.is_file() and "__pycache__" not in file.parts
        ]
        assert files
        assert {kit + file.relative_to(REPOSITORY).as_posix() for file in files} <= names
    assert {
        kit + name for name in ("package-lock.json", "requirements/runtime.in", "requirements/ministack.txt")
    } <= names
    assert [name for name in names if "__pycache__" in name or name.endswith(".pyc")] == []
    assert [
        name
        for name in names
        if name.startswith(("functions/", "fargate_worker/", "server/", "deploy/", "tests/", "agents/"))
    ] == []


def test_it_helps_without_a_project_and_says_where_one_is_needed(installed: Installed, tmp_path: Path) -> None:
    assert "init" in installed.run("--help", cwd=tmp_path).stdout
    done = installed.run("lock", "--json", cwd=tmp_path, code=2)
    assert "`turnkeeper init NAME`" in json.loads(done.stdout)["error"]["detail"]


def test_a_stale_lock_stops_lock_image_and_synth_alike(installed: Installed, project: Path) -> None:
    (project / "agents/greeter/requirements.txt").write_text("airportsdata>=20250101\n")
    wanted = "agents/greeter/requirements.txt:1 wants airportsdata>=20250101"
    for command in (["lock", "--check"], ["image"]):
        done = installed.run(*command, "--json", cwd=project, code=1)
        assert wanted in json.loads(done.stdout)["error"]["detail"]
    assert wanted in installed.run("synth", cwd=project, code=1).stderr


def test_a_stage_is_synthesized_from_the_wheel_and_names_no_path(installed: Installed, project: Path) -> None:
    # CDK's own rules see these stacks in tests/infra, and take ten seconds to load.
    done = installed.run("synth", "--json", cwd=project, CDK_VALIDATION="false")
    assert json.loads(done.stdout)["stage"] == "dev"
    templates = list((project / "cdk.out").glob("MineDev*.template.json"))
    assert len(templates) == 4
    assert [file for file in templates if str(project.parent) in file.read_text()] == []
    [dockerfile] = (project / "cdk.out").glob("asset.*/Dockerfile")
    assert (dockerfile.parent / "app" / "agents" / "greeter" / "agent.py").is_file()
    assert (dockerfile.parent / "requirements.txt").read_text() == (project / "requirements.lock").read_text()
    laid_out = Path(installed.run("image", cwd=project).stdout.strip())
    assert (laid_out / "Dockerfile").read_bytes() == dockerfile.read_bytes()


def test_a_stage_that_is_not_there_is_refused_with_those_that_are(installed: Installed, project: Path) -> None:
    done = installed.run("deploy", "--stage", "nosuch", "--json", cwd=project, code=2)
    assert "dev, prod" in json.loads(done.stdout)["error"]["detail"]


def test_a_project_follows_a_newer_kit(newer: Installed, project: Path) -> None:
    workflow = project / ".github/workflows/turnkeeper.yml"
    said = json.loads(newer.run("upgrade", "--check", "--json", cwd=project).stdout)
    assert (said["old"], said["new"], said["done"]) == (kit_version(), "99.0.0", False)
    assert "Everything is better." in said["changelog"]
    assert "timeout-minutes: 20" in workflow.read_text()
    edited = project.parent / "edited"
    shutil.copytree(project, edited, symlinks=True)
    (edited / ".github/workflows/turnkeeper.yml").write_text("name: ours\n")

    newer.run("upgrade", cwd=project)
    assert "timeout-minutes: 21" in workflow.read_text()
    assert '"turnkeeper[infra]==99.0.0"' in (project / "pyproject.toml").read_text()
    assert json.loads(newer.run("upgrade", "--check", "--json", cwd=project).stdout)["written"] == []

    newer.run("upgrade", cwd=edited)
    assert (edited / ".github/workflows/turnkeeper.yml").read_text() == "name: ours\n"
    assert "timeout-minutes: 21" in (edited / ".github/workflows/turnkeeper.yml.new").read_text()
