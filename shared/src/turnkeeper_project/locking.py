"""The project's lock: everything that its agents import, by version and hash, over what the kit itself runs with.

`requirements.lock` is what Lambda's layer, the worker's image, the local kit and the tests install. Where a project has
none, the kit's own lock is. What is locked stays as it is until somebody asks for newer versions.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from turnkeeper_project.kit import KitSource, kit_source
from turnkeeper_project.measuring import Layer, layer_of, measure, too_large
from turnkeeper_project.place import Project, shown
from turnkeeper_project.requirements import (
    Pin,
    RequirementError,
    Wanted,
    environments,
    read_lock,
    read_wanted,
    requirement_files,
)
from turnkeeper_project.target import LAMBDA_PLATFORM, LAMBDA_PYTHON, LOWEST_PYTHON, find_uv, for_lambda

ANEW = "`turnkeeper lock` writes it anew"
_HEADER = "# Written by `turnkeeper lock` from requirements.txt, agents/*/requirements.txt and the kit's own lock.\n"


class LockError(Exception):
    """The project cannot be locked; says which file wants what, and what to do."""


@dataclass(frozen=True, slots=True)
class Locked:
    """What a lock became."""

    path: Path
    changes: list[str]
    """`+ airportsdata 20261103`, `- x 1.0`, `x 1.0 -> 1.1`; none where it was right already."""
    layer: Layer | None
    """What it weighs in Lambda; None where nothing is added to the kit."""


def locked_requirements(project: Project) -> Path:
    """What is installed for this project, in a layer, an image and on this machine."""
    return project.lock if project.lock.is_file() else kit_source().requirements


def lock_problems(project: Project, more_agents: Sequence[Path] = (), *, kit: KitSource | None = None) -> list[str]:
    """What is wrong with a project's lock, a line each; none where it can be deployed. Asks nobody, changes nothing."""
    try:
        wanted = _wanted(project, more_agents)
    except RequirementError as error:
        return [str(error)]
    if not project.lock.is_file():
        return [f"{one.where} wants {one.requirement}, and there is no requirements.lock; {ANEW}" for one in wanted[:1]]
    locked = read_lock(project.lock)
    found = [*_unsatisfied(wanted, locked), *_not_the_kits(locked, kit or kit_source())]
    if (layer := layer_of(project.lock)) and (text := too_large(layer)):
        found.append(text)
    return found


def write_lock(
    project: Project,
    more_agents: Sequence[Path] = (),
    *,
    upgrade: Sequence[str] = (),
    upgrade_all: bool = False,
    kit: KitSource | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Locked:
    """Write `requirements.lock`; what is locked stays, but for what `upgrade` names. A lock that cannot be written is
    left as it was.

    Raises:
        LockError: the requirements conflict, one cannot be installed on Lambda, or all of them weigh too much.
    """
    kit = kit or kit_source()
    try:
        wanted = _wanted(project, more_agents)
    except RequirementError as error:
        raise LockError(str(error)) from None
    before = read_lock(project.lock if project.lock.is_file() else kit.requirements)
    project.cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".lock-", dir=project.cache) as folder:
        draft = Path(folder) / "requirements.lock"
        layer = None
        if wanted:
            _refuse_conflicts_with(kit, wanted)
            progress("resolving")
            _compile(project, kit, requirement_files(project, more_agents), draft, _upgrades(upgrade, upgrade_all))
            progress("looking for what Lambda can install")
            _refuse_missing_wheels(project, draft, wanted)
            layer = measure(draft, kit.requirements, Path(folder) / "packages", project.root)
            if text := too_large(layer):
                raise LockError(text)
        else:
            shutil.copy(kit.requirements, draft)
        content = _HEADER + (layer.header() if layer else "") + _without_comments(draft.read_text())
        draft.write_text(content)
        after = read_lock(draft)
        if not project.lock.is_file() or project.lock.read_text() != content:
            draft.replace(project.lock)
    return Locked(project.lock, _changes(before, after), layer)


def install_lock(project: Project, python: Path) -> None:
    """Install the lock into the environment of an interpreter; what else is there stays.

    Raises:
        LockError: it cannot be installed, as into a Python of the system's.
    """
    command = ["pip", "install", "--quiet", "--no-deps", "--require-hashes", "--python", str(python)]
    done = _uv(project.root, *command, "-r", str(locked_requirements(project)))
    if done.returncode:
        raise LockError(f"requirements.lock is written, but cannot be installed into {python}:\n{done.stderr.strip()}")


def _wanted(project: Project, more_agents: Sequence[Path]) -> list[Wanted]:
    return [one for file in requirement_files(project, more_agents) for one in read_wanted(file, project.root)]


def _unsatisfied(wanted: Sequence[Wanted], locked: Sequence[Pin]) -> list[str]:
    found: dict[str, list[str]] = {}
    for one in wanted:
        for environment, values in environments().items():
            held = one.holds_in(values)
            why = (
                _wrong(one, [pin for pin in locked if pin.name == one.name and pin.holds_in(values)]) if held else None
            )
            if why:
                text = f"{one.where} wants {one.requirement}; requirements.lock holds {why}"
                found.setdefault(text, []).append(environment)
    return [f"{text} for {' and '.join(places)}; {ANEW}" for text, places in found.items()]


def _wrong(one: Wanted, pins: Sequence[Pin]) -> str | None:
    extras = {canonicalize_name(extra) for extra in one.requirement.extras}
    if not pins:
        return "none"
    if not one.takes(pins[0].version):
        return pins[0].version
    return None if extras <= pins[0].extras else "it without its extras"


def _not_the_kits(locked: Sequence[Pin], kit: KitSource) -> list[str]:
    """The kit runs with what it was tested with: a lock of another version of it is no good."""
    differ: dict[str, None] = {}
    for values in environments().values():
        there = {pin.name: pin.version for pin in locked if pin.holds_in(values)}
        for pin in read_lock(kit.requirements):
            if pin.holds_in(values) and there.get(pin.name) != pin.version:
                differ[f"{pin.name} {pin.version} (locked: {there.get(pin.name, 'nothing')})"] = None
    if not differ:
        return []
    shown = ", ".join(list(differ)[:5]) + (f" and {len(differ) - 5} more" if len(differ) > 5 else "")
    return [f"requirements.lock is not of this version of the kit, which runs with {shown}; {ANEW}"]


def _refuse_conflicts_with(kit: KitSource, wanted: Sequence[Wanted]) -> None:
    """What contradicts the kit outright is told by its line; what does so further down, by uv."""
    needs = {one.name: one.requirement for one in read_wanted(kit.needs, kit.root)}
    said: dict[str, None] = {}
    for values in environments().values():
        pins = {pin.name: pin.version for pin in read_lock(kit.requirements) if pin.holds_in(values)}
        for one in wanted:
            if one.holds_in(values) and one.name in pins and not one.takes(pins[one.name]):
                needed = needs.get(one.name)
                why = f"needs {needed} and runs with {pins[one.name]}" if needed else f"runs with {pins[one.name]}"
                said[f"{one.where} wants {one.requirement}; the kit {why}"] = None
    if said:
        raise LockError("\n".join([*said, "Ask for a version that goes with the kit's, or leave it to the kit."]))


def _upgrades(upgrade: Sequence[str], upgrade_all: bool) -> list[str]:
    return ["--upgrade"] if upgrade_all else [f"--upgrade-package={name}" for name in upgrade]


def _compile(project: Project, kit: KitSource, files: Sequence[Path], draft: Path, upgrades: Sequence[str]) -> None:
    if project.lock.is_file():
        shutil.copy(project.lock, draft)
    done = _resolve(project.root, kit, files, draft, upgrades)
    if done.returncode == 0:
        return
    said = done.stderr.strip()
    alone = Path(f"{draft}.alone")
    guilty = [file for file in files if len(files) > 1 and _resolve(project.root, kit, [file], alone, []).returncode]
    names = ", ".join(shown(file, project.root) for file in guilty or files)
    who = (
        f"{names} cannot be resolved with what the kit runs with"
        if guilty or len(files) == 1
        else f"{names} contradict each other"
    )
    raise LockError(f"{who}:\n{said}")


def _resolve(
    root: Path, kit: KitSource, files: Sequence[Path], output: Path, options: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    how = ["--quiet", "--universal", "--generate-hashes", "--python-version", LOWEST_PYTHON]
    shape = ["--no-annotate", "--no-header", "--no-strip-extras", "--no-emit-index-url", "--no-emit-find-links"]
    return _uv(
        root, "pip", "compile", *how, *shape, *options, "-o", str(output), str(kit.requirements), *map(str, files)
    )


def _refuse_missing_wheels(project: Project, draft: Path, wanted: Sequence[Wanted]) -> None:
    with tempfile.TemporaryDirectory() as nowhere:
        options = ["--dry-run", "--no-deps", "--require-hashes", "--target", nowhere, *for_lambda()]
        done = _uv(project.root, "pip", "install", *options, "-r", str(draft))
    if not done.returncode:
        return
    named = [pin for pin in read_lock(draft) if re.search(rf"\b{re.escape(pin.name)}[=\s]", done.stderr)]
    places = {one.where for one in wanted for pin in named if one.name == pin.name}
    what = ", ".join(f"{pin.name} {pin.version}" for pin in named) or "a package"
    asked = f", which {' and '.join(sorted(places))} asks for," if places else ""
    raise LockError(
        f"{what}{asked} cannot be installed on Lambda (Python {LAMBDA_PYTHON}, {LAMBDA_PLATFORM}): "
        f"there has to be a wheel for it. Take a version that has one, or another package.\n{done.stderr.strip()}"
    )


def _without_comments(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))


def _changes(before: Sequence[Pin], after: Sequence[Pin]) -> list[str]:
    old, new = (
        {name: sorted(pin.version for pin in pins if pin.name == name) for name in {pin.name for pin in pins}}
        for pins in (before, after)
    )
    lines = []
    for name in sorted(old.keys() | new.keys()):
        was, now = ", ".join(old.get(name, [])), ", ".join(new.get(name, []))
        if was != now:
            lines.append(f"{name} {was} -> {now}" if was and now else f"+ {name} {now}" if now else f"- {name} {was}")
    return lines


def _uv(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [find_uv(), *arguments]
    return subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)  # noqa: S603
