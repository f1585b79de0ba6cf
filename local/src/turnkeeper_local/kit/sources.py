"""Recognizing that nothing changed: what a deployment is made of, as one hash."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import turnkeeper_local
from turnkeeper_local.kit.settings import KitSettings
from turnkeeper_local.kit.values import value_files
from turnkeeper_project import kit_source
from turnkeeper_project.files import files_below


def fingerprint(settings: KitSettings, values: Mapping[str, object]) -> str:
    """Changes when a file of the deployment does, or of what deploys it, or one of `values`."""
    return _digest(_roots(settings), values)


def _digest(roots: Iterable[Path], values: Mapping[str, object]) -> str:
    digest = hashlib.sha256(repr(sorted(values.items())).encode())
    for root in roots:
        for file in sorted(files_below(root)):
            digest.update(f"\0{root.name}\0{file.relative_to(root)}\0{file.stat().st_size}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def standin_fingerprint(settings: KitSettings) -> str:
    """Changes when the stand-in's own code does, or its scenario."""
    here = Path(turnkeeper_local.__file__).parent
    return _digest([here / "standin", *([Path(settings.scenario)] if settings.scenario else [])], {})


def stamps(settings: KitSettings) -> dict[Path, tuple[int, int]]:
    """Every file of a deployment with its time and size: differs from what it was once something was edited."""
    found = {}
    for file in (file for root in [*_roots(settings), *value_files(settings.project)] for file in files_below(root)):
        with contextlib.suppress(FileNotFoundError):  # an editor may be replacing it
            stat = file.stat()
            found[file] = (stat.st_mtime_ns, stat.st_size)
    return found


def code_roots(settings: KitSettings) -> list[Path]:
    """What functions and worker run: with the code of the kit, agents and policy."""
    kit = kit_source(settings.source_root)
    return [
        kit.package,
        kit.functions,
        kit.worker,
        settings.project / "agents",
        settings.project / "policy.toml",
        *settings.more_agents,
    ]


def _roots(settings: KitSettings) -> Iterator[Path]:
    installed, project = kit_source(), settings.project
    yield from code_roots(settings)
    yield from (installed.requirements, installed.package.parent / "turnkeeper_project")
    yield from (Path(turnkeeper_local.__file__).parent / part for part in ("kit", "standin"))
    yield from (project / part for part in ("cdk.json", "requirements.lock"))
    # The CDK app is found by its folder: importing it starts nothing, but it is not there without its extra.
    yield infra_package(installed.package.parent)


def infra_package(beside: Path) -> Path:
    """The CDK app's own code: beside the other packages where they were installed, in a clone in one of its own."""
    there = beside / "turnkeeper_infra"
    return there if there.exists() else beside.parents[1] / "infra" / "src" / "turnkeeper_infra"
