"""The program `turnkeeper`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

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
from turnkeeper_local.cli.errors import UsageError
from turnkeeper_local.cli.output import FAILED, Output, end_by_exception, make_streams_fit


class Commands(TyperGroup):
    """With ``--json``, what cannot be read of a command's words is told as a document, as any other error is."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        if "--json" not in (sys.argv[1:] if args is None else args):
            return super().main(args, *more, **options)
        try:
            code = super().main(args, *more, **{**options, "standalone_mode": False})
        except TyperException as error:
            with Output(as_json=True):
                words: Any = error
                raise UsageError(words.format_message(), code="usage") from error
        except typer.Abort:
            sys.exit(FAILED)
        sys.exit(code or 0)


app = typer.Typer(
    name="turnkeeper",
    cls=Commands,
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
