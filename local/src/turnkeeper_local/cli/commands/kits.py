"""The local kit: bringing it up, looking at it, taking it down; and the demo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnkeeper_local.cli.options import Json, Stack
from turnkeeper_local.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console


def register(app: typer.Typer) -> None:
    app.command(rich_help_panel="The kit")(demo)
    app.command(rich_help_panel="The kit")(up)
    app.command(rich_help_panel="The kit")(down)
    app.command(rich_help_panel="The kit")(status)
    app.command(rich_help_panel="The kit")(doctor)


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the kit up afterwards, to look around.")] = False,
    json: Json = False,
) -> None:
    """Do the main job, end to end, on a kit of its own, and check every part of it."""
    with Output(json) as out:
        from turnkeeper_local.cli.demo.run import run

        run(out, keep=keep)


def up(
    strict: Annotated[
        bool, typer.Option("--strict", help="Deploy nothing where an agent cannot be loaded or priced.")
    ] = False,
    json: Json = False,
) -> None:
    """Bring the local kit up in the background; ready when this returns."""
    with Output(json) as out:
        import dataclasses

        from turnkeeper_local.kit import KitSettings
        from turnkeeper_local.kit import up as bring_up

        settings = KitSettings.from_environment()
        if strict:
            settings = dataclasses.replace(settings, allow_broken=False)
        kit = bring_up(settings, progress=lambda step: out.note(step if "\n" in step else f"{step} ..."))
        out.answer(dataclasses.asdict(kit), lambda console: console.print(kit.api_url, markup=False))


def down(json: Json = False) -> None:
    """End the local kit and everything that it started. Its sessions go with it."""
    with Output(json) as out:
        from turnkeeper_local.kit import down as take_down

        ended = take_down()
        out.answer({"ended": ended}, lambda console: console.print("ended" if ended else "nothing was up"))


def status(stack: Stack = None, json: Json = False) -> None:
    """Where the kit is, and whether it works. Exit code 1 where it does not."""
    with Output(json) as out:
        from turnkeeper_local.cli.status import look

        found = look(stack)
        out.answer(found.document, found.show)
        if not found.well:
            out.fail()


def doctor(stack: Stack = None, json: Json = False) -> None:
    """Check everything that a kit needs, and say what to do about what is missing."""
    with Output(json) as out:
        from turnkeeper_local.cli.doctor import examine

        checks = examine(stack)
        well = all(check.ok for check in checks)
        document = {"ok": well, "checks": [check.document() for check in checks]}

        def show(console: Console) -> None:
            from turnkeeper_local.cli.doctor import table

            console.print(table(checks))

        out.answer(document, show)
        if not well:
            out.fail()
