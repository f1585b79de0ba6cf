"""What is in the assets, and that building one twice is building it once."""

from __future__ import annotations

import hashlib
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

from infra import bundle
from infra.config import REPOSITORY

HOST = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "cache_folder", lambda: tmp_path / "bundles")


def test_code_is_copied_as_it_is_and_compiled(source_root: Path) -> None:
    archive = zipfile.ZipFile(bundle.build_code(source_root, HOST))
    names = archive.namelist()
    assert "functions/api/handler.py" in names
    assert archive.read("functions/api/handler.py") == (source_root / "functions/api/handler.py").read_bytes()
    assert f"functions/api/__pycache__/handler.cpython-{HOST.replace('.', '')}.pyc" in names
    assert not [name for name in names if name.startswith("fargate_worker")]


def test_what_agents_share_travels_with_them(source_root: Path, assembly: Path) -> None:
    """In the Lambdas' asset, and in what the worker's image is built from."""
    shared = "agents/_shared/words.py"
    assert shared in zipfile.ZipFile(bundle.build_code(source_root, HOST)).namelist()
    [context] = [file.parent.parent for file in assembly.glob("asset.*/fargate_worker/Dockerfile")]
    assert (context / shared).is_file()
    assert "COPY agents /app/agents" in (REPOSITORY / "fargate_worker" / "Dockerfile").read_text()
    ignored = (REPOSITORY / "fargate_worker" / "Dockerfile.dockerignore").read_text().splitlines()
    hidden = [pattern.removeprefix("**/") for pattern in ignored if pattern.startswith("**/")]
    assert "!agents" in ignored
    assert not any(fnmatch(part, pattern) for part in Path(shared).parts for pattern in hidden)


def test_the_same_sources_give_the_same_bytes(
    source_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = set()
    for attempt in ("one", "two"):
        folder = tmp_path / attempt
        monkeypatch.setattr(bundle, "cache_folder", lambda folder=folder: folder)
        digests.add(hashlib.sha256(bundle.build_code(source_root, HOST).read_bytes()).hexdigest())
    assert len(digests) == 1


def test_building_again_takes_what_is_there(source_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = bundle.build_code(source_root, HOST)
    monkeypatch.setattr(bundle, "_zip", lambda *_, **__: pytest.fail("built twice"))
    assert bundle.build_code(source_root, HOST) == first


def test_a_build_that_fails_leaves_nothing_behind(source_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(bundle, "_zip", fail)
    with pytest.raises(OSError, match="disk full"):
        bundle.build_code(source_root, HOST)
    assert list(bundle.cache_folder().iterdir()) == []


def test_a_change_of_code_changes_the_hash(source_root: Path) -> None:
    handler = source_root / "functions/sweep/handler.py"
    before, content = bundle.code_hash(source_root, HOST), handler.read_text()
    handler.write_text(content + "# changed\n")
    assert bundle.code_hash(source_root, HOST) != before
    handler.write_text(content)
    assert bundle.code_hash(source_root, HOST) == before


def test_a_compiler_for_another_python_is_asked_of_uv(monkeypatch: pytest.MonkeyPatch, source_root: Path) -> None:
    """Lambda's Python need not be the one that deploys; where there is none at all, that is said."""
    monkeypatch.setattr(bundle, "find_uv", lambda: "false")
    with pytest.raises(RuntimeError, match=r"Python 3\.99 is needed"):
        bundle.build_code(source_root, "3.99")
