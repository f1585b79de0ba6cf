"""Ways on for a conversation that went wrong: its end taken back, or a copy of an earlier state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnkeeper_local.cli.options import Json, Role, SessionId, Stack, Tenant, User, Wait
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import api_of

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()


@app.command(rich_help_panel="Sessions")
def rewind(
    session: SessionId,
    turns: Annotated[
        int | None, typer.Option("--turns", metavar="N", min=1, help="The latest N turns; 1 by default.")
    ] = None,
    to_seq: Annotated[
        int | None, typer.Option("--to-seq", metavar="N", min=0, help="Everything behind this entry, as `show` counts.")
    ] = None,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Take the end of a conversation back: the model is not sent it any more. Nothing is deleted, money stays spent."""
    with Output(json) as out:
        from turnkeeper_local.cli.errors import UsageError

        if turns is not None and to_seq is not None:
            raise UsageError("either --turns or --to-seq", code="usage")
        document = api_of(stack, tenant, user, role).rewind(session, turns, to_seq)

        def for_people(console: Console) -> None:
            console.print(f"{session}: {len(document['left_out'])} entries are not sent any more", markup=False)
            for call in document["once_calls"]:
                console.print(
                    f"  not taken back: {call['tool']} ({call['outcome']}), entry {call['seq']}", markup=False
                )

        out.answer(document, for_people)


@app.command(rich_help_panel="Sessions")
def fork(
    session: SessionId,
    text: Annotated[str | None, typer.Argument(metavar="[INPUT]", help="What to say in the copy.")] = None,
    at_seq: Annotated[
        int | None, typer.Option("--at-seq", metavar="N", min=0, help="The last entry to copy; all by default.")
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", metavar="A", help="Go on with another agent.")] = None,
    wait: Wait = 120,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Begin a session with a copy of this one's conversation, with money and a grant of its own."""
    with Output(json) as out:
        from turnkeeper_local.cli.conversation import one_turn

        api = api_of(stack, tenant, user, role)
        body: dict[str, Any] = {"at_seq": at_seq, "input": text, "agent": agent}
        body = {name: value for name, value in body.items() if value is not None}
        if text is not None:
            one_turn(out, api, lambda seconds: api.fork(session, body, wait=seconds), wait_seconds=wait)
            return
        document = api.fork(session, body)
        out.answer(document, lambda console: console.print(document["session_id"], markup=False))
