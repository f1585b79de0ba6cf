"""The program `turnkeeper`."""

from __future__ import annotations

from typing import Annotated

import typer

from turnkeeper_local.cli import called
from turnkeeper_local.cli.commands import (
    agents,
    audits,
    branches,
    database,
    dead,
    dev,
    evals,
    gateway,
    hooks,
    jobs,
    kits,
    projects,
    rollouts,
    secrets,
    sessions,
    spending,
    talk,
    tenants,
    top,
    versions,
)

app = typer.Typer(
    name="turnkeeper",
    help="Run Claude agents: a whole kit on this machine, or one deployed to AWS.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from turnkeeper_project import kit_version

        typer.echo(f"turnkeeper {kit_version()}")
        raise typer.Exit


@app.callback()
def begin(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback has answered
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Run Claude agents: a whole kit on this machine, or one deployed to AWS."""
    called.begin(context.command)


for module in (kits, dev, projects, agents, talk, sessions, branches, jobs, top, dead, spending):
    module.register(app)
app.add_typer(
    tenants.app, name="tenant", rich_help_panel="Operating", help="What a tenant may spend, and its kill switch."
)
app.add_typer(spending.app, name="spend", rich_help_panel="Operating")
app.add_typer(dead.app, name="dead", rich_help_panel="Operating", help="Jobs that did not work: the dead-letter queue.")
app.add_typer(
    database.app,
    name="database",
    rich_help_panel="Operating",
    help="The tables of a kit that keeps its state in PostgreSQL or SQLite.",
)
app.add_typer(
    audits.app,
    name="audit",
    rich_help_panel="Operating",
    help="The audit trail: who did what, and whether anybody touched it.",
)
app.add_typer(
    gateway.app,
    name="gateway",
    rich_help_panel="Operating",
    help="Tokens for any client of the Messages API, under the same caps.",
)
app.add_typer(
    hooks.app,
    name="hooks",
    rich_help_panel="Operating",
    help="Word that turns have ended: what was delivered to webhooks and reply queues.",
)
app.add_typer(
    versions.app, name="versions", rich_help_panel="Operating", help="What deployments of functions left behind."
)
app.add_typer(
    evals.app, name="eval", rich_help_panel="Agents", help="Whether agents do what they should, offline and in use."
)
app.add_typer(
    secrets.app, name="secrets", rich_help_panel="The kit", help="Secrets of tools on this machine, and who wants them."
)
app.add_typer(
    rollouts.app, name="rollout", rich_help_panel="Agents", help="A new version of an agent for some users first."
)


def main() -> None:
    """Entry point of the console script."""
    app()


if __name__ == "__main__":
    main()
