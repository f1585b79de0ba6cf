"""What `turnkeeper init` writes: a repository of agents that can be tested, run and deployed as it is.

The files are below `template/`; a name that ends in `.tmpl` loses that, and `__WORDS__` in them are filled in.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable
from pathlib import Path

from turnkeeper_project.kit import kit_version
from turnkeeper_project.locking import write_lock
from turnkeeper_project.place import Project

KEPT_BY_UPGRADE = {"cdk.json": "cdk.json", "workflows/turnkeeper.yml": ".github/workflows/turnkeeper.yml"}
"""Files that are the same in every project, by their names in the template: a later version may write them anew."""
_TEMPLATE = Path(__file__).resolve().parent / "template"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,40}")
_AGENT = re.compile(r"[a-z][a-z0-9_]{0,40}")


class TemplateError(Exception):
    """The repository cannot be made; says why, and what to do."""


def template_file(name: str) -> str:
    """A file that every project has alike."""
    return (_TEMPLATE / name).read_text()


def write_project(
    folder: Path, agent: str = "assistant", *, progress: Callable[[str], None] = lambda _: None
) -> Project:
    """Write a repository named after its folder, with one agent.

    Raises:
        TemplateError: a name that cannot be used, or a folder that is not empty.
    """
    folder = folder.resolve()
    if not _NAME.fullmatch(folder.name):
        raise TemplateError(f"{folder.name!r} cannot be the name of a repository: letters, digits, - and _")
    if not _AGENT.fullmatch(agent) or keyword.iskeyword(agent):
        raise TemplateError(
            f"{agent!r} cannot be the name of an agent: small letters, digits and _, as a Python module"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TemplateError(f"{folder} is not empty; name a folder that is new")
    words = {
        "__NAME__": folder.name,
        "__AGENT__": agent,
        "__STACK__": "".join(part[:1].upper() + part[1:] for part in re.split(r"[-_]", folder.name)),
        "__VERSION__": kit_version(),
    }
    for source in sorted(file for file in _TEMPLATE.rglob("*") if file.is_file() and file.suffix != ".pyc"):
        target = folder / _named(source.relative_to(_TEMPLATE).as_posix(), agent)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_filled(source.read_text(), words))
    project = Project(folder)
    write_lock(project, progress=progress)
    return project


def _named(inside: str, agent: str) -> str:
    if inside in KEPT_BY_UPGRADE:
        return KEPT_BY_UPGRADE[inside]
    name = inside.removesuffix(".tmpl").replace("AGENT", agent)
    return ".gitignore" if name == "gitignore" else name


def _filled(text: str, words: dict[str, str]) -> str:
    return re.sub("|".join(words), lambda found: words[found[0]], text)
