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
from turnkeeper_local.cli.output import end_by_exception, make_streams_fit

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


for module in (kits, dev, projects, agents, talk, sessions, branches, jobs, top):
    app.add_typer(module.app)
app.add_typer(dead.beside)
app.add_typer(spending.beside)
for group in (tenants, spending, dead, database, audits, gateway, hooks, versions):
    app.add_typer(group.app, rich_help_panel="Operating")
app.add_typer(evals.app, rich_help_panel="Agents")
app.add_typer(secrets.app, rich_help_panel="The kit")
app.add_typer(rollouts.app, rich_help_panel="Agents")


def main() -> None:
    """Entry point of the console script."""
    make_streams_fit()
    end_by_exception()
    app()


if __name__ == "__main__":
    main()
