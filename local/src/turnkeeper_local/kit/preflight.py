"""Agents and policy, looked at before anything is deployed or ended."""

from __future__ import annotations

from collections.abc import Callable

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.settings import KitSettings
from turnkeeper_project import kit_source
from turnkeeper_project.asking import NotAsked, ask

_HOW = "`turnkeeper up` without `--strict`"


def look_at_project(settings: KitSettings, progress: Callable[[str], None]) -> None:
    """Tell what is odd.

    Raises:
        KitError: something must not be deployed. It holds everything that is wrong, each with its file.
    """
    progress("checking agents and policy")
    package = kit_source(settings.source_root).package
    try:
        answer = ask(settings.project, folders=settings.more_agents, package=package if package.is_dir() else None)
    except NotAsked as error:
        raise KitError(str(error)) from None
    if refused := answer.refused(allow_broken=settings.allow_broken, how=_HOW):
        raise KitError(f"nothing was deployed, and what is up stays as it was:\n{refused}")
    for finding in answer.warnings(allow_broken=settings.allow_broken):
        progress(str(finding))
