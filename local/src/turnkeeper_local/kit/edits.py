"""Edits of agents, policy and the kit, made live on a kit that is up: checked first, then swapped in."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.home import Home
from turnkeeper_local.kit.kit import LocalKit, Progress, up, wanted_by
from turnkeeper_local.kit.live import build_code, make_live
from turnkeeper_local.kit.ministack import Ministack
from turnkeeper_local.kit.record import Record
from turnkeeper_local.kit.settings import KitSettings
from turnkeeper_local.kit.sources import code_roots, stamps
from turnkeeper_local.kit.worker import PROCESSES, replace_processes
from turnkeeper_project import kit_source
from turnkeeper_project.asking import Finding, NotAsked, ask


class Broken(KitError):
    """What was edited would not run: nothing was deployed. The message says why, with file and line."""


@dataclass
class Edits:
    """Notices what was edited since it was last asked, by looking at times and sizes."""

    settings: KitSettings

    def __post_init__(self) -> None:
        self._seen = stamps(self.settings)

    def changed(self) -> list[Path]:
        """Files that were written, made or removed since."""
        before, now = self._seen, stamps(self.settings)
        self._seen = now
        return sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))


def make_edits_live(
    settings: KitSettings, changed: Sequence[Path], *, home: Home, progress: Progress = lambda _: None
) -> LocalKit:
    """Let the next turn run with the files as they are now.

    Code is swapped in the functions that are there, and a worker with it takes over; anything else, as settings of the
    stacks or dependencies, is deployed as `up` does.

    Raises:
        Broken: an agent cannot be loaded, or the policy not be read. What ran before still runs.
        KitError: it could not be deployed.
    """
    if not all(is_code(settings, file) for file in changed):
        check(settings, changed)
        return up(settings, home=home, progress=progress)
    with ThreadPoolExecutor(max_workers=2) as pool, home.lock():
        bundled = pool.submit(build_code, settings)
        check(settings, changed)
        record = Record.read(home)
        emulator, process = record.emulator, record.process("ministack")
        supervisors = {name: found for name in PROCESSES if (found := record.process(name)) and found.alive()}
        alive = process is not None and process.alive() and len(supervisors) == len(PROCESSES)
        kit = LocalKit.read(home)
        if alive and record.deployed is not None and emulator is not None and kit is not None:
            assert process is not None
            wanted = wanted_by(settings)
            code = bundled.result()
            record.note(swapped=True, wanted=None)
            ministack = Ministack(str(emulator["endpoint_url"]), process)
            swapped = pool.submit(make_live, ministack, record.deployed["turn_function"], code)
            replace_processes(home, supervisors, first_port=settings.first_port)
            swapped.result()
            record.note(wanted=wanted)
            return LocalKit.read(home) or kit
    return up(settings, home=home, progress=progress)


def is_code(settings: KitSettings, file: Path) -> bool:
    """Whether a file is only what functions and worker run, so that it can be swapped."""
    return not file.name.startswith("requirements") and any(file.is_relative_to(root) for root in code_roots(settings))


def check(settings: KitSettings, changed: Sequence[Path]) -> None:
    """Look at agents and policy as `up` does. An agent that was broken before, and was not edited, is none of these
    edits' business.

    Raises:
        Broken: each with its place, what to do, and the traceback of an agent that cannot be loaded.
    """
    package = kit_source(settings.source_root).package
    try:
        answer = ask(settings.project, folders=settings.more_agents, package=package if package.is_dir() else None)
    except NotAsked as error:
        raise Broken(str(error)) from None
    whole = set(answer.errors(allow_broken=True))
    wrong = [one for one in answer.errors() if one in whole or _is_edited(one, changed)]
    if wrong:
        raise Broken("\n".join(f"{one.detail.rstrip()}\n{one}" if one.detail else str(one) for one in wrong))


def _is_edited(finding: Finding, changed: Sequence[Path]) -> bool:
    """What agents share stands beside them, in folders that are none of them."""
    return any(finding.agent in file.parts or any(part.startswith("_") for part in file.parts) for file in changed)
