"""What is in the assets, and that building one twice is building it once."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.repository import REPOSITORY
from turnkeeper_infra import bundle
from turnkeeper_infra import names as kit_names
from turnkeeper_project import kit_source

HOST = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def sources(source_root: Path) -> bundle.Sources:
    return bundle.Sources(source_root, kit_source(source_root))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "cache_folder", lambda: tmp_path / "bundles")


def test_code_is_copied_as_it_is_and_compiled(sources: bundle.Sources) -> None:
    archive = zipfile.ZipFile(bundle.build_code(sources, HOST))
    names = archive.namelist()
    assert "functions/api/handler.py" in names
    assert archive.read("functions/api/handler.py") == (sources.kit.root / "functions/api/handler.py").read_bytes()
    assert f"functions/api/__pycache__/handler.cpython-{HOST.replace('.', '')}.pyc" in names
    assert not [name for name in names if name.startswith("fargate_worker")]


def test_the_manifest_tells_of_the_agents_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also after an edit, as `turnkeeper dev` swaps it in; where it cannot tell of one, there is none."""
    project = tmp_path / "project"
    (project / "agents" / "lab").mkdir(parents=True)
    (project / "policy.toml").write_text((REPOSITORY / "policy.toml").read_text())
    sources = bundle.Sources(project, kit_source(REPOSITORY))

    def built(model: str) -> zipfile.ZipFile:
        text = f"from turnkeeper import Agent\nagent = Agent(name='lab', model={model}, system='s')\n"
        (project / "agents" / "lab" / "agent.py").write_text(text)
        return zipfile.ZipFile(bundle.build_code(sources, HOST))

    for model in ("m-1", "m-2"):
        told = json.loads(built(repr(model)).read("agents.json"))
        assert [(each["name"], each["model"]) for each in told["agents"]] == [("lab", model)]
    assert "agents.json" not in built("1 / 0").namelist()
    assert "lab" in capsys.readouterr().err


def test_what_is_started_as_a_program_may_be(sources: bundle.Sources) -> None:
    (sources.kit.functions / "api" / "serve.sh").write_text("#!/bin/sh\n")
    archive = zipfile.ZipFile(bundle.build_code(sources, HOST))
    modes = {entry.filename: entry.external_attr >> 16 for entry in archive.infolist()}
    assert modes.pop(kit_names.STREAM_PROGRAM) == 0o755
    assert set(modes.values()) == {0o644}


def test_what_agents_share_travels_with_them(sources: bundle.Sources, assembly: Path) -> None:
    """In the Lambdas' asset, and in what the worker's image is built from."""
    shared = "agents/_shared/words.py"
    assert shared in zipfile.ZipFile(bundle.build_code(sources, HOST)).namelist()
    [dockerfile] = assembly.glob("asset.*/Dockerfile")
    assert (dockerfile.parent / "app" / shared).is_file()
    assert "COPY app /app" in (REPOSITORY / "fargate_worker" / "Dockerfile").read_text()


def test_the_same_sources_give_the_same_bytes(
    sources: bundle.Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for attempt in ("one", "two"):
        folder = tmp_path / attempt
        monkeypatch.setattr(bundle, "cache_folder", lambda folder=folder: folder)
        digests.add(hashlib.sha256(bundle.build_code(sources, HOST).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_building_again_takes_what_is_there(sources: bundle.Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bundle.build_code(sources, HOST)
    monkeypatch.setattr(bundle, "_zip", lambda *_, **__: pytest.fail("built twice"))
    assert bundle.build_code(sources, HOST) == first


def test_a_build_that_fails_leaves_nothing_behind(sources: bundle.Sources, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(bundle, "_zip", fail)
    with pytest.raises(OSError, match="disk full"):
        bundle.build_code(sources, HOST)
    assert list(bundle.cache_folder().iterdir()) == []


def test_a_change_of_code_changes_the_hash(sources: bundle.Sources) -> None:
    handler = sources.kit.root / "functions/sweep/handler.py"
    before, content = bundle.code_hash(sources, HOST), handler.read_text()
    handler.write_text(content + "# changed\n")
    assert bundle.code_hash(sources, HOST) != before
    handler.write_text(content)
    assert bundle.code_hash(sources, HOST) == before


def test_the_manifest_is_made_anew_with_another_lock(tmp_path: Path) -> None:
    """What an agent's calls cost, and what its tools' schemas are, is the word of what is installed."""
    sources = bundle.Sources(tmp_path, kit_source(REPOSITORY))
    hashes = [bundle.code_hash(sources, HOST)]
    for version in ("1.0", "1.1"):
        (tmp_path / "requirements.lock").write_text(f"genai-prices=={version}\n")
        hashes.append(bundle.code_hash(sources, HOST))
    assert len(set(hashes)) == 3


def test_a_compiler_for_another_python_is_asked_of_uv(monkeypatch: pytest.MonkeyPatch, sources: bundle.Sources) -> None:
    """Lambda's Python need not be the one that deploys; where there is none at all, that is said."""
    monkeypatch.setattr(bundle, "find_uv", lambda: "false")
    with pytest.raises(RuntimeError, match=r"Python 3\.99 is needed"):
        bundle.build_code(sources, "3.99")


def test_what_only_tests_and_evals_read_stays_here() -> None:
    sources = bundle.Sources(REPOSITORY, kit_source(REPOSITORY))
    names = {
        name.as_posix() for entry in (sources.kit.functions, sources.kit.worker) for _, name in sources.files(entry)
    }
    assert {"turnkeeper/bootstrap.py", "agents/support/data/invoices.csv", "functions/score/handler.py"} <= names
    assert not [name for name in names if name.startswith("turnkeeper/testing/") or "/evals/" in name]


@pytest.mark.timeout(60)  # a pipe is read for ever
def test_an_agent_behind_a_link_is_deployed_like_the_others(tmp_path: Path) -> None:
    agents, elsewhere = tmp_path / "project" / "agents", tmp_path / "elsewhere"
    for folder in (agents, elsewhere):
        folder.mkdir(parents=True)
    (elsewhere / "agent.py").write_text("pass\n")
    sources = bundle.Sources(agents.parent, kit_source(REPOSITORY))
    before = bundle.code_hash(sources, HOST)
    (agents / "linked").symlink_to(elsewhere)
    (agents / "gone").symlink_to("nowhere")
    os.mkfifo(agents / "pipe")
    assert bundle.code_hash(sources, HOST) != before
    names = zipfile.ZipFile(bundle.build_code(sources, HOST)).namelist()
    assert "agents/linked/agent.py" in names
    assert not {"agents/gone", "agents/pipe"}.intersection(names)
