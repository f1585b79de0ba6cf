"""What a project asks for, in `requirements.txt` of its own and of each agent, and what a lock holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker, default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from turnkeeper_project.place import Project, shown
from turnkeeper_project.target import LAMBDA_PYTHON

_PIN = re.compile(
    r"(?P<name>[\w.-]+)(?:\[(?P<extras>[^]]*)\])?==(?P<version>[^\s;]+)(?:\s*;\s*(?P<marker>[^\\]+?))?\s*\\?"
)
_COMMENT = re.compile(r"(^|\s)#.*$")
_FOLLOWED = re.compile(r"(?:-r|--requirement)(?:\s+|=)(?P<file>\S+)")
_BOUND = re.compile(r"(?:-c|--constraint)(?:\s+|=)\S+")


class RequirementError(Exception):
    """A requirement that cannot be used; says where it stands and what to write."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One line of a file of requirements."""

    requirement: Requirement
    where: str
    """`agents/analyst/requirements.txt:3`"""

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    def holds_in(self, environment: Mapping[str, str]) -> bool:
        marker = self.requirement.marker
        return marker is None or marker.evaluate(dict(environment))

    def takes(self, version: str) -> bool:
        return self.requirement.specifier.contains(Version(version), prereleases=True)


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock; of a package there are several where environments differ."""

    name: str
    version: str
    extras: frozenset[str]
    marker: str | None

    def holds_in(self, environment: Mapping[str, str]) -> bool:
        return self.marker is None or Marker(self.marker).evaluate(dict(environment))


def environments() -> dict[str, dict[str, str]]:
    """What has to be locked, by its name: where the agents run in the cloud, and here."""
    here = {key: str(value) for key, value in default_environment().items()}
    there = {
        "implementation_name": "cpython", "os_name": "posix", "platform_machine": "aarch64", "platform_system": "Linux",
        "python_full_version": f"{LAMBDA_PYTHON}.0", "python_version": LAMBDA_PYTHON, "sys_platform": "linux",
        "implementation_version": f"{LAMBDA_PYTHON}.0", "platform_python_implementation": "CPython",
    }  # fmt: skip
    return {"Lambda": here | there, "this machine": here}


def requirement_files(project: Project, more_agents: Iterable[Path] = ()) -> list[Path]:
    """The project's own file, then one for each agent, and for what agents share; those that are there."""
    own = project.root / "requirements.txt"
    folders = [project.agents, *more_agents]
    found = [file for folder in folders for file in sorted(folder.glob("[!.]*/requirements.txt"))]
    return [file for file in (own, *found) if file.is_file()]


def read_wanted(file: Path, root: Path) -> Iterator[Wanted]:
    """The requirements of a file, and of those that it names by `-r`.

    Raises:
        RequirementError: a line is none, names an address instead of a version, or names the kit itself.
    """
    for number, text in _lines(file):
        where = f"{shown(file, root)}:{number}"
        if followed := _FOLLOWED.fullmatch(text):
            yield from read_wanted(file.parent / followed["file"], root)
        elif not _BOUND.fullmatch(text):
            yield Wanted(_requirement(text, where), where)


def read_lock(file: Path) -> list[Pin]:
    """What a lock holds."""
    found = (_PIN.fullmatch(line) for line in file.read_text().splitlines() if line[:1].isalnum())
    return [
        Pin(
            canonicalize_name(pin["name"]),
            pin["version"],
            frozenset(canonicalize_name(extra) for extra in (pin["extras"] or "").split(",") if extra.strip()),
            pin["marker"],
        )
        for pin in found
        if pin
    ]


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """What a file says, without comments and hashes, a line that is continued as one."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise RequirementError(f"{file} cannot be read: {error}") from None
    pending, begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun if pending else number
        pending += _COMMENT.sub("", line)
        if pending.endswith("\\"):
            pending = pending[:-1] + " "
            continue
        if words := re.sub(r"\s--hash=\S+", "", pending).strip():
            yield begun, words
        pending = ""
    if words := pending.strip():
        yield begun, words


def _requirement(text: str, where: str) -> Requirement:
    if text.startswith("-"):
        raise RequirementError(
            f"{where}: {text.split(maxsplit=1)[0]} is no requirement; "
            "where packages come from is set in uv.toml or UV_INDEX"
        )
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        raise RequirementError(f"{where}: {text!r} is no requirement ({reason}); write NAME>=VERSION") from None
    if requirement.url:
        raise RequirementError(
            f"{where}: {requirement.name} is named by an address, which no lock can hold; name a version of it"
        )
    if canonicalize_name(requirement.name) == "turnkeeper":
        raise RequirementError(f"{where}: turnkeeper comes by itself, in the version that pyproject.toml names")
    return requirement
