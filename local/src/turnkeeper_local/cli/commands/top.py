"""`turnkeeper top`: what runs now, live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnkeeper_local.cli.options import Json, Stack, Tenant
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import operating

if TYPE_CHECKING:
    from rich.console import Console

    from turnkeeper_local.cli.top.looking import Overview

app = typer.Typer()


@app.command(rich_help_panel="Operating")
def top(
    once: Annotated[bool, typer.Option("--once", help="Print one frame; also where no terminal shows it.")] = False,
    interval: Annotated[float, typer.Option("--interval", metavar="S", min=0.2, help="Seconds between frames.")] = 2.0,
    stack: Stack = None,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Watch what runs: sessions and what each is doing, spend, trips, queue and workers. Of all tenants, or of one.

    Reads the kit's table, queues and logs, with an operator's credentials. Ctrl-C ends it. With --json, one frame.
    """
    with Output(json) as out:
        from turnkeeper_local.cli.top.frame import frame

        place, operator = operating(stack)
        overview = operator.overview(place, tenant)
        if json or once or not out.console.is_terminal:
            snapshot = overview.look()
            out.answer(snapshot.document(), lambda console: console.print(frame(snapshot)))
            return
        watch(out.console, overview, interval)


def watch(console: Console, overview: Overview, interval: float) -> None:
    """Frame after frame, until somebody interrupts."""
    import time

    from rich.live import Live

    from turnkeeper_local.cli.top.frame import frame

    try:
        with Live(frame(overview.look()), console=console, screen=True, auto_refresh=False) as live:
            while True:
                time.sleep(interval)
                live.update(frame(overview.look()), refresh=True)
    except KeyboardInterrupt:
        return
