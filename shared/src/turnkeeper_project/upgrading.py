"""Bringing a project to the version of the kit that is installed: what changes, and then doing it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from turnkeeper_project.kit import kit_source, kit_version
from turnkeeper_project.locking import lock_problems, write_lock
from turnkeeper_project.place import Project
from turnkeeper_project.template import KEPT_BY_UPGRADE, template_file

_PIN = re.compile(r"(?P<before>[\"']turnkeeper(?:\[[^]]*\])?==)(?P<version>[\w.+!]+)")
_HEADING = re.compile(r"^## \[?(?P<name>[^\]\s]+)\]?.*$", re.MULTILINE)
_RELEASES = Path(__file__).resolve().parent / "releases"


class UpgradeError(Exception):
    """The project cannot be brought to this version; says why."""


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What lies between the version that a project pins and the one that is installed."""

    old: str
    new: str
    changelog: str
    settings: dict[str, dict[str, list[str]]]
    """Of `stages` and `policy`: which keys are `added`, which `removed`; none where the old version is not known."""
    notes: list[str]
    """What is to be known about stored sessions and about what the outside sees, a line each."""
    written: list[str] = field(default_factory=list)
    """Files that were written, or would be."""
    beside: list[str] = field(default_factory=list)
    """Files that somebody has changed: what this version writes is, or would be, beside them as `FILE.new`."""
    packages: list[str] = field(default_factory=list)
    """What changed in the lock."""


def what_changes(project: Project, more_agents: Sequence[Path] = ()) -> Upgrade:
    """Look, and change nothing.

    Raises:
        UpgradeError: the project pins no version, or one that is newer than the kit that is installed.
    """
    pinned, new = _pinned(project), kit_version()
    if Version(pinned) > Version(new):
        raise UpgradeError(
            f"pyproject.toml pins turnkeeper {pinned}, and {new} is installed: install what is pinned, or the newest"
        )
    old_record, new_record = _record(pinned), _record(new)
    upgrade = Upgrade(
        old=pinned,
        new=new,
        changelog=changes_between(kit_source().changelog.read_text(), pinned, new) if pinned != new else "",
        settings=_settings(old_record, new_record) if old_record and new_record else {},
        notes=_notes(pinned, new),
    )
    for name, place in KEPT_BY_UPGRADE.items():
        there, wanted = project.root / place, template_file(name)
        if not there.is_file() or there.read_text() == wanted:
            continue
        untouched = old_record is not None and old_record["files"].get(name) == digest(there.read_text())
        (upgrade.written if untouched else upgrade.beside).append(place)
    if pinned != new:
        upgrade.written.append("pyproject.toml")
    if lock_problems(project, more_agents):
        upgrade.written.append("requirements.lock")
    return upgrade


def upgrade_project(
    project: Project, more_agents: Sequence[Path] = (), *, progress: Callable[[str], None] = lambda _: None
) -> Upgrade:
    """Do it. The lock comes first: where it cannot be written, the project is left as it was.

    Raises:
        UpgradeError: as `what_changes`.
        LockError: what the agents ask for does not go with this version.
    """
    upgrade = what_changes(project, more_agents)
    if "requirements.lock" in upgrade.written:
        upgrade.packages.extend(write_lock(project, more_agents, progress=progress).changes)
    for name, place in KEPT_BY_UPGRADE.items():
        if place in upgrade.written:
            (project.root / place).write_text(template_file(name))
        elif place in upgrade.beside:
            (project.root / f"{place}.new").write_text(template_file(name))
    pyproject = project.root / "pyproject.toml"
    pyproject.write_text(_PIN.sub(rf"\g<before>{upgrade.new}", pyproject.read_text()))
    return upgrade


def changes_between(changelog: str, old: str, new: str) -> str:
    """The sections of a changelog after `old` up to `new`; what is unreleased belongs to a version without one."""
    headings = list(_HEADING.finditer(changelog))
    names = {heading["name"] for heading in headings}
    parts = []
    for heading, following in zip(headings, [*headings[1:], None], strict=True):
        section = changelog[heading.start() : following.start() if following else None].strip()
        unreleased = heading["name"].lower() == "unreleased"
        if (new not in names) if unreleased else _within(heading["name"], old, new):
            parts.append(section)
    return "\n\n".join(parts)


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _within(name: str, old: str, new: str) -> bool:
    try:
        return Version(old) < Version(name) <= Version(new)
    except InvalidVersion:
        return False


def _pinned(project: Project) -> str:
    file = project.root / "pyproject.toml"
    found = _PIN.search(file.read_text()) if file.is_file() else None
    if found is None:
        raise UpgradeError(f'{file} pins no version of the kit; write "turnkeeper[infra]=={kit_version()}" there')
    return found["version"]


def _record(version: str) -> dict[str, Any] | None:
    """What a version wrote down about itself, where it did."""
    file = _RELEASES / f"{version}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def _settings(old: dict[str, Any], new: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    def differ(kind: str) -> dict[str, list[str]]:
        was, now = set(old[kind]), set(new[kind])
        return {"added": sorted(now - was), "removed": sorted(was - now)}

    return {kind: differ(kind) for kind in ("stages", "policy")}


def _notes(old: str, new: str) -> list[str]:
    """The notes of every version on the way."""
    passed = sorted((file.stem for file in _RELEASES.glob("*.json") if _within(file.stem, old, new)), key=Version)
    return [note for version in passed for note in json.loads((_RELEASES / f"{version}.json").read_text())["notes"]]
