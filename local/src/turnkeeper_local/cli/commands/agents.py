"""What stands in the project: whether it can be deployed, and which agents there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnkeeper_local.cli.options import Json, Stack
from turnkeeper_local.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()


@app.command(rich_help_panel="The kit")
def check(
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too, save what imports cost.")] = False,
    json: Json = False,
) -> None:
    """Find what would fail in every turn, or be there for nobody, before it is deployed. Exit code 1 on an error."""
    with Output(json) as out:
        from dataclasses import asdict

        from turnkeeper_local.cli.looking import further_folders, look, provider_of_stages, show_findings
        from turnkeeper_project import find_project
        from turnkeeper_project.costs import dear, import_costs

        project = find_project()
        answer = look(project, provider_of_stages(project))
        costs = import_costs(project, further_folders())
        findings = [*answer.findings, *dear(costs, project.root)]
        well = not (answer.findings if strict else answer.errors())
        millis = {file.parent.name: cost for file, cost in costs.items()}
        document = {"ok": well, "findings": [asdict(finding) for finding in findings], "import_ms": millis}

        def show(console: Console) -> None:
            show_findings(console, findings)
            names = [f"{agent['name']} ({millis.get(agent['folder'], 0)} ms)" for agent in answer.agents]
            console.print(
                f"{len(names)} agents, by what importing each costs: {', '.join(names) or 'none'}", markup=False
            )
            errors, warnings = len(answer.errors()), len(findings) - len(answer.errors())
            console.print(f"{errors} errors, {warnings} warnings", style="green" if well else "red")

        out.answer(document, show)
        if not well:
            out.fail()


@app.command(rich_help_panel="The kit")
def agents(
    name: Annotated[
        str | None, typer.Argument(metavar="[AGENT]", help="One agent, in full.", show_default=False)
    ] = None,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """The agents of this project: model, placement, limits, tools, and who is given which of them."""
    with Output(json) as out:
        from turnkeeper_local.cli.errors import CliError
        from turnkeeper_local.cli.looking import look, provider_of_stages, show_agent, show_agents
        from turnkeeper_project import find_project

        project = find_project()
        answer = look(project, provider_of_stages(project))
        found = [agent for agent in answer.agents if name in (None, agent["name"], *agent["formerly"])]
        broken = [finding for finding in answer.findings if finding.code == "agent_broken"]
        if name is not None and not found:
            why = [str(finding) for finding in broken if finding.agent == name]
            known = ", ".join(agent["name"] for agent in answer.agents) or "none"
            raise CliError("\n".join(why) or f"there is no agent {name!r}; there are: {known}", code="agent_not_found")
        if stack:
            out.note(f"as they stand in {project.root}: a deployment, {stack} too, does not tell which ones it holds")
        for finding in broken:
            out.note(f"not shown: {finding.text} ({finding.place})")
        document = {
            "source": str(project.root),
            "agents": found,
            "broken": {str(finding.agent): f"{finding.place}: {finding.text}" for finding in broken},
        }
        out.answer(
            document,
            lambda console: show_agent(console, found[0]) if name is not None else show_agents(console, found),
        )
