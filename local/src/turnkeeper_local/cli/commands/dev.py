"""Working on agents: edits that are live at once, and what all parts log."""

from __future__ import annotations

from typing import Annotated

import typer

from turnkeeper_local.cli.called import not_empty
from turnkeeper_local.cli.options import Json, ResetSettings, Stack
from turnkeeper_local.cli.output import Output

app = typer.Typer()


@app.command(rich_help_panel="The kit")
def dev(
    down: Annotated[bool, typer.Option("--down", help="End the kit on Ctrl-C; without, it stays up.")] = False,
    reset_settings: ResetSettings = False,
    json: Json = False,
) -> None:
    """Bring the local kit up, make every edit live, and follow the logs of all parts, until Ctrl-C."""
    with Output(json) as out:
        from turnkeeper_local.cli.dev import follow_edits

        follow_edits(out, reset_settings=reset_settings, down_after=down)


@app.command(rich_help_panel="The kit")
def logs(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PART]...",
            help="api, turn, observe, score, sweep, trace, deliver, stream, worker, "
            "standin, supervisor, emulator, serve.",
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="Only what is about this session.", callback=not_empty)
    ] = None,
    trace: Annotated[
        str | None, typer.Option("--trace", metavar="ID", help="Only what is about this turn: its trace id.")
    ] = None,
    since: Annotated[str, typer.Option("--since", metavar="AGE", help="How far back: 30s, 5m, 2h, 1d.")] = "15m",
    stack: Stack = None,
    json: Json = False,
) -> None:
    """What the parts of a kit log, in one stream."""
    with Output(json) as out:
        from turnkeeper_local.cli.logs import show_logs

        about = [wanted for wanted in (session, trace) if wanted]
        show_logs(out, parts or [], follow=follow, about=about, since=since, stack=stack)
