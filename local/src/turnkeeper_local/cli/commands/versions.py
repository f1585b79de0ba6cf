"""`turnkeeper versions`: what deployments left behind."""

from __future__ import annotations

from typing import Annotated

import typer

from turnkeeper_local.cli.options import Json, Stack
from turnkeeper_local.cli.output import Output

app = typer.Typer(name="versions", help="What deployments of functions left behind.", no_args_is_help=True)


@app.command()
def prune(
    stack: Stack = None,
    keep: Annotated[
        int, typer.Option("--keep", metavar="N", min=0, help="Versions to go back to, besides the one in force.")
    ] = 2,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: Json = False,
) -> None:
    """Remove versions of the functions that nothing needs any more. Never one that is in force or was two hours ago."""
    with Output(json) as out:
        from datetime import UTC, datetime

        from turnkeeper_local.cli.errors import UsageError
        from turnkeeper_local.cli.place import find
        from turnkeeper_local.cli.versions import Functions, removable

        place = find(stack)
        if place.local:
            raise UsageError("the local kit keeps no versions; name a deployed one with --stack", code="usage")
        functions = Functions(place.session, place.stacks)
        removed: dict[str, list[int]] = {}
        for function in functions.names():
            versions = functions.versions(function)
            removed[function] = removable(versions, functions.aliased(function), keep=keep, now=datetime.now(UTC))
            for version in [] if dry_run else removed[function]:
                functions.remove(function, version)
        verb = "would go" if dry_run else "removed"
        lines = [f"{name}: {', '.join(map(str, gone)) or 'nothing'} {verb}" for name, gone in removed.items()]
        out.answer({"removed": removed, "dry_run": dry_run}, lambda console: console.print("\n".join(lines)))
