"""`turnkeeper dead` and `turnkeeper redrive`: jobs that did not work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnkeeper_local.cli.options import Json, Stack
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import operating

if TYPE_CHECKING:
    from rich.console import Console

    from turnkeeper_local.cli.dead_letters import DeadLetterOffice, Found

app = typer.Typer(name="dead", help="Jobs that did not work: the dead-letter queue.", no_args_is_help=True)
#: What is no command of the group.
beside = typer.Typer()

_SHOWN = 100
Code = Annotated[
    str | None, typer.Option("--code", metavar="C", help="Only those with this error_code, as `dead list` shows it.")
]


@app.command("list")
def list_letters(
    code: Code = None,
    all_: Annotated[bool, typer.Option("--all", help=f"All of them, and not the first {_SHOWN} alone.")] = False,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """List the dead letters: why, of which agent and tenant, since when, and whether that still is so."""
    with Output(json) as out:
        from turnkeeper_local.cli.tables import dead_letters_table

        found = _office(stack).find(code=code, most=None if all_ else _SHOWN)
        letters = [one.document() for one in found]
        shown = dead_letters_table(letters) if found else "no dead letters"
        out.answer({"dead_letters": letters}, lambda console: console.print(shown))
        if found:
            out.note("`turnkeeper dead show ID` tells more of one, and what to do")
        if not all_ and len(found) == _SHOWN:
            out.note(f"these are the first {_SHOWN}; --all lists all")


@app.command()
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="As listed, or its beginning; or the job's id.")],
    stack: Stack = None,
    json: Json = False,
) -> None:
    """Show one dead letter: why it is there, what it holds, and what to do."""
    with Output(json) as out:
        from turnkeeper_local.cli.tables import dead_letter_table

        found = _one(_office(stack), id)
        document = {**found.document(), "body": found.letter.body}
        out.answer(document, lambda console: console.print(dead_letter_table(document)))


@app.command()
def discard(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", show_default=False)] = None,
    code: Code = None,
    all_: Annotated[bool, typer.Option("--all", help="All that are there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """Delete dead letters for good: these, those with a --code, or --all. Each goes onto its tenant's audit trail."""
    with Output(json) as out:
        import sys

        from turnkeeper_local.cli.errors import UsageError

        if not (ids or code or all_):
            raise UsageError("which ones? IDs, --code C or --all", code="usage")
        what = f"these {len(ids)}" if ids else f"all with the code {code}" if code else "all"
        # Whoever cannot be asked has not said no: a script that calls this means it.
        if not (yes or json or not sys.stdin.isatty() or typer.confirm(f"Delete {what} for good?")):
            out.note("nothing was deleted")
            out.fail()
        done = _office(stack).discard(ids or (), code=code)
        document = {"discarded": [one.document() for one in done]}
        out.answer(document, lambda console: console.print(f"{_count(len(done))} deleted"))


@beside.command(rich_help_panel="Operating")
def redrive(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Only these; all by default.", show_default=False)
    ] = None,
    code: Code = None,
    force: Annotated[bool, typer.Option("--force", help="Also those that would come back at once.")] = False,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """Give dead letters back to the queue, save those whose cause is still there: they are named, and stay.

    Exit code 1 where some were meant and none could be given back.
    """
    with Output(json) as out:
        done = _office(stack).redrive(ids or (), code=code, force=force)
        document = {"moved": len(done.moved), "held": [one.document() for one in done.held]}

        def for_people(console: Console) -> None:
            from turnkeeper_local.cli.text import short

            console.print(f"{_count(len(done.moved))} back on the queue")
            for one in done.held:
                console.print(
                    f"  stays: {one.letter.message_id}  still so: {short(one.still or '', 200)}", markup=False
                )

        out.answer(document, for_people)
        if done.held:
            out.note("--force gives these back as well; `turnkeeper dead discard ID` deletes one")
            if not done.moved:
                out.fail()


def _count(number: int) -> str:
    return f"{number} {'message' if number == 1 else 'messages'}"


def _one(office: DeadLetterOffice, name: str) -> Found:
    from turnkeeper_local.cli.errors import CliError

    found = office.find([name])
    if len(found) > 1:
        listed = ", ".join(one.letter.message_id for one in found)
        raise CliError(f"{name} is a job that is there more than once: {listed}", code="ambiguous")
    return found[0]


def _office(stack: str | None) -> DeadLetterOffice:
    place, operator = operating(stack)
    return operator.dead_letter_office(place)
