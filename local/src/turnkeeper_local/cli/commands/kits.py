"""The local kit: bringing it up, looking at it, taking it down; and the demo."""

from __future__ import annotations

from typing import Annotated

import typer

from turnkeeper_local.cli.errors import UsageError
from turnkeeper_local.cli.options import Json, ResetSettings, Stack
from turnkeeper_local.cli.output import Output

app = typer.Typer()


@app.command(rich_help_panel="The kit")
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the kit up afterwards, to look around.")] = False,
    json: Json = False,
) -> None:
    """Do the main job, end to end, on a kit of its own, and check every part of it."""
    with Output(json) as out:
        from turnkeeper_local.cli.demo.run import run

        run(out, keep=keep)


@app.command(rich_help_panel="The kit")
def up(
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and make edits live: `turnkeeper dev`.")] = False,
    reset_settings: ResetSettings = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Deploy nothing where an agent cannot be loaded or priced.")
    ] = False,
    json: Json = False,
) -> None:
    """Bring the local kit up in the background; ready when this returns. What the environment does not set is as at the
    last `up`."""
    with Output(json) as out:
        import dataclasses

        from turnkeeper_local.cli.dev import bring_up, follow_edits

        if watch:
            follow_edits(out, reset_settings=reset_settings, down_after=False)
            return
        _, kit = bring_up(out, reset_settings=reset_settings, strict=strict)
        out.answer(dataclasses.asdict(kit), lambda console: console.print(kit.api_url, markup=False))


@app.command(rich_help_panel="The kit")
def down(
    forget: Annotated[
        bool, typer.Option("--forget", help="Drop sessions, spend and everything else that the kit has stored.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before something is lost.")] = False,
    json: Json = False,
) -> None:
    """End the local kit and everything that it started. Its sessions are there again at the next `up`."""
    with Output(json) as out:
        from turnkeeper_local.kit import Home
        from turnkeeper_local.kit import down as take_down
        from turnkeeper_local.kit.state import holdings, kept

        home = Home.from_environment()
        holding = holdings(home)
        if forget and (holding is not None or kept(home)):
            out.note(f"this drops {holding or 'what is kept'}")
            if not yes and out.asks and not typer.confirm("Drop it?"):
                raise UsageError("nothing was done", code="not_confirmed")
        ended = take_down(home, forget=forget)
        said = "ended" if ended else "nothing was up"
        if not forget and kept(home):
            said += f"; kept: {holding}" if holding else "; its state is kept"
        document: dict[str, object] = {"ended": ended, "kept": kept(home)}
        if holding is not None:
            document |= {"sessions": holding.sessions, "spent_usd": holding.spent_usd}
        out.answer(document, lambda console: console.print(said, markup=False))


@app.command(rich_help_panel="The kit")
def serve(
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="URL",
            help="sqlite:///FILE or postgresql://...; by default .turnkeeper/serve.db, or TURNKEEPER_DATABASE_URL.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """The whole kit in one process, with its state in a database: no emulator, no AWS. Prints where it answers, and
    runs until Ctrl-C or SIGTERM; sessions go on at the next start."""
    with Output(json) as out:
        import os

        from turnkeeper.adapters.sql.opening import without_password
        from turnkeeper_local.cli.passed_over import tell_what_is_passed_over
        from turnkeeper_local.kit.serve import Serving, taken

        serving = Serving.of(database)
        tell_what_is_passed_over(out, taken())
        out.note(f"{without_password(serving.database_url)}; logs in {serving.log}; Ctrl-C ends it")
        serving.become(tell=os.dup(1), as_json=json)


@app.command(rich_help_panel="The kit")
def status(stack: Stack = None, json: Json = False) -> None:
    """Where the kit is, and whether it works. Exit code 1 where it does not."""
    with Output(json) as out:
        from turnkeeper_local.cli.status import look

        found = look(stack)
        out.answer(found.document, found.show)
        if not found.well:
            out.fail()


@app.command(rich_help_panel="The kit")
def doctor(stack: Stack = None, json: Json = False) -> None:
    """Check everything that a kit needs, and say what to do about what is missing."""
    with Output(json) as out:
        from turnkeeper_local.cli.doctor import examine, table

        checks = examine(stack)
        well = all(check.ok for check in checks)
        document = {"ok": well, "checks": [check.document() for check in checks]}
        out.answer(document, lambda console: console.print(table(checks)))
        if not well:
            out.fail()
