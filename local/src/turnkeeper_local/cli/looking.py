"""Looking at the agents and the policy of a project, and showing what is found."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.text import plain
from turnkeeper_project import Project
from turnkeeper_project.asking import Answer, Finding, NotAsked, ask

if TYPE_CHECKING:
    from rich.console import Console

STRANGER = "anyone else"
"""A role that policy.toml does not describe."""


def further_folders() -> list[Path]:
    """Folders of agents besides the project's own, as the local kit takes them."""
    return [Path(part).resolve() for part in os.environ.get("TURNKEEPER_AGENTS", "").split(":") if part]


def look(project: Project, provider: str) -> Answer:
    """Everything that is found in a project.

    Raises:
        CliError: it could not be looked at.
    """
    try:
        return ask(project.root, provider=provider, folders=further_folders())
    except NotAsked as error:
        raise CliError(str(error), code="not_checked") from error


def provider_of_stages(project: Project) -> str:
    """Whose models are meant: Bedrock's names are looked at as well where one of the stages is to call it."""
    for file in sorted(project.stages.glob("*.toml")):
        try:
            settings = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CliError(f"{file.relative_to(project.root)} cannot be read: {error}", code="stage_file") from error
        if settings.get("model_provider") == "bedrock":
            return "bedrock"
    return "anthropic"


def show_findings(console: Console, findings: Sequence[Finding]) -> None:
    from rich.text import Text

    for finding in findings:
        colour = "bold red" if finding.severity == "error" else "yellow"
        console.print(Text.assemble((f"{finding.severity}  ", colour), (plain(finding.place), "bold")))
        console.print(Text(f"    {plain(finding.text)}"))
        console.print(Text(f"    {plain(finding.hint)}", style="dim"))


def show_agents(console: Console, agents: Sequence[Mapping[str, Any]]) -> None:
    from rich.table import Table

    table = Table("agent", "model", "placement", "ends by", "tools", box=None, header_style="dim", pad_edge=False)
    for agent in agents:
        tools = ", ".join(tool["name"] for tool in agent["tools"]) or "none"
        table.add_row(*map(plain, (agent["name"], agent["model"], agent["placement"], agent["done"], tools)))
    console.print(table)


def show_agent(console: Console, agent: Mapping[str, Any]) -> None:
    """One agent: what it is, its tools, and who is given which of them."""
    from rich.table import Table

    facts = Table.grid(padding=(0, 2))
    others = {"or": ", ".join(agent["fallback_models"]), "formerly": ", ".join(agent["formerly"])}
    plainly = {key: agent[key] for key in ("model", "placement", "done", "pin")}
    limits = ", ".join(f"{name} {value}" for name, value in agent["limits"].items() if value is not None)
    where = f"{agent['file']}:{agent['line']}" if agent["line"] else agent["file"]
    for name, value in {"agent": agent["name"], "in": where, **plainly, **others, "limits": limits}.items():
        if value:
            facts.add_row(name, plain(str(value)))
    tools = Table("tool", "effect", "scopes", "timeout", box=None, header_style="dim", pad_edge=False)
    for tool in agent["tools"]:
        tools.add_row(plain(tool["name"]), tool["effect"], ", ".join(tool["scopes"]), f"{tool['timeout_seconds']:g} s")
    grants = Table("plan", "role", "is given", box=None, header_style="dim", pad_edge=False)
    for row in agent["grants"]:
        given = "no session" if row["tools"] is None else ", ".join(row["tools"]) or "none"
        grants.add_row(*map(plain, (row["plan"], row["role"] or STRANGER, given)))
    for part in (facts, tools, grants):
        console.print(part)
        console.print()
