"""The folders of agents: what cannot be loaded, and what looks like an agent and is none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from turnkeeper.preflight.findings import Finding, Severity, place
from turnkeeper.preflight.seen import Seen
from turnkeeper.runtime.catalog import Broken


def broken_agents(seen: Seen) -> Iterator[Finding]:
    for name, broken in seen.catalog.broken.items():
        yield Finding(
            code="agent_broken",
            severity="error",
            file=place(broken.file, seen.root),
            line=broken.line,
            text=f"agent {name!r} cannot be loaded: {broken.why}",
            hint=_mend(name, broken),
            agent=name,
            detail=broken.traceback,
        )


def _mend(name: str, broken: Broken) -> str:
    kind, _, words = broken.why.partition(":")
    if kind == "ModuleNotFoundError" and f"'{broken.folder.parent.name}" not in words:
        return f"name its package in {broken.folder.parent.name}/{name}/requirements.txt, or correct the import"
    if kind in {"KeyError", "FileNotFoundError"} or "environ" in broken.traceback:
        return "what is imported is read without the settings and files of this machine: get them when a tool is called"
    return "mend it there; importing an agent has to work without network, keys and settings"


def folders_without_agent(seen: Seen) -> Iterator[Finding]:
    """A folder whose file has another name is no agent, and nobody would say so."""
    for parent in seen.folders:
        if not parent.is_dir():
            text = "there is no such folder of agents"
            hint = "correct `agents` in the stage's file, or TURNKEEPER_AGENTS; the project's own stand in agents/"
            severity: Severity = "warning" if parent == seen.root / "agents" else "error"
            yield Finding(
                code="folder_missing",
                severity=severity,
                file=place(parent, seen.root),
                line=None,
                text=text,
                hint=hint,
            )
            continue
        for folder in sorted(parent.iterdir()):
            if folder.is_dir() and folder.name[0] not in "_." and _has_code(folder):
                yield Finding(
                    code="folder_without_agent",
                    severity="warning",
                    file=place(folder, seen.root),
                    line=None,
                    text=f"{folder.name!r} has no agent.py, so it is no agent",
                    hint=f"call its file agent.py; or _{folder.name}, if it is what agents share",
                    agent=folder.name,
                )


def _has_code(folder: Path) -> bool:
    return not (folder / "agent.py").is_file() and any(folder.glob("*.py"))
