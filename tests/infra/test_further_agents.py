"""Agents in folders outside of the project: in every asset, with what they share, and told by no path of here."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.infra.variants import IAM, Synthesize
from tests.support.repository import REPOSITORY
from turnkeeper_infra import bundle
from turnkeeper_infra.config import ConfigError
from turnkeeper_project import kit_source

AGENT = """
from turnkeeper import Agent

from .._shared.words import SYSTEM

agent = Agent(name="NAME", model="claude-sonnet-5-5", system=SYSTEM)
"""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two, each with one agent and a shared module of the same name."""
    made = []
    for name in ("second", "third"):
        folder = tmp_path_factory.mktemp(name)
        for inside, text in {
            f"{name}/agent.py": AGENT.replace("NAME", name),
            "_shared/words.py": f"SYSTEM = '{name}!'\n",
        }.items():
            path = folder / inside
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        made.append(folder)
    return made


@pytest.fixture(scope="session")
def synthesized(synthesize: Synthesize, folders: list[Path]) -> Path:
    return synthesize(**IAM, agents=":".join(map(str, folders)))


def test_no_lambda_and_no_task_is_told_a_path_of_this_machine(synthesized: Path, folders: list[Path]) -> None:
    texts = [file.read_text() for file in synthesized.glob("*.template.json")]
    assert len(texts) == 4
    for known in (*map(str, folders), str(REPOSITORY), str(Path.home()) + "/", str(Path(sys.executable).parent)):
        assert [text for text in texts if known in text] == []
    told = [
        resource["Properties"]["Environment"]["Variables"]["TURNKEEPER_AGENTS"]
        for text in texts
        for resource in json.loads(text)["Resources"].values()
        if resource["Type"] == "AWS::Lambda::Function"
        and "TURNKEEPER_AGENTS" in resource["Properties"].get("Environment", {}).get("Variables", {})
    ]
    assert len(told) >= 4
    assert set(told) == {"agents_2:agents_3"}


def test_what_was_laid_out_loads_every_agent_with_its_own_shared_modules(synthesized: Path) -> None:
    """As the worker does, from the image's folder: nothing of the folders that it was made from is used."""
    [dockerfile] = synthesized.glob("asset.*/Dockerfile")
    program = (
        "import json; from pathlib import Path; from turnkeeper.runtime.catalog import load_agents; "
        "found = load_agents([Path('agents_2'), Path('agents_3')]); "
        "print(json.dumps([{name: agent.system for name, agent in found.agents.items()}, dict(found.broken)]))"
    )
    app = dockerfile.parent / "app"
    paths = ":".join([str(app), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=app, env={"PYTHONPATH": paths}, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout) == [{"second": "second!", "third": "third!"}, {}]


def test_the_code_holds_them_too(
    source_root: Path, folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "cache_folder", lambda: tmp_path)
    sources = bundle.Sources(source_root, kit_source(source_root), tuple(folders))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    names = zipfile.ZipFile(bundle.build_code(sources, version)).namelist()
    assert {"agents_2/second/agent.py", "agents_2/_shared/words.py", "agents_3/third/agent.py"} <= set(names)
    before = bundle.code_hash(sources, version)
    (folders[1] / "third" / "more.py").write_text("")
    assert bundle.code_hash(sources, version) != before


def test_what_they_ask_for_has_to_be_locked(synthesize: Synthesize, tmp_path: Path) -> None:
    (tmp_path / "fourth").mkdir()
    (tmp_path / "fourth" / "requirements.txt").write_text("lamp>=1\n")
    with pytest.raises(ConfigError, match=r"fourth/requirements.txt:1 wants lamp>=1.*`turnkeeper lock`"):
        synthesize(**IAM, agents=str(tmp_path))
