"""Sessions: list, look at, follow, cancel, erase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from turnkeeper_local.cli.options import Json, Role, SessionId, Stack, Status, Tenant, User
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import api_of

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()


@app.command(rich_help_panel="Sessions")
def watch(
    session: SessionId,
    after: Annotated[int, typer.Option("--after", metavar="SEQ", min=0, help="Only events behind this one.")] = 0,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Follow a transcript live, from its beginning, until the session rests. With --json, one event a line."""
    with Output(json) as out:
        from turnkeeper_local.cli.conversation import follow

        follow(out, api_of(stack, tenant, user, role), session, after=after)


@app.command("sessions", rich_help_panel="Sessions")
def list_sessions(
    status: Annotated[Status | None, typer.Option("--status", help="Only those of this status.")] = None,
    scored_below: Annotated[
        float | None,
        typer.Option(
            "--scored-below", metavar="SCORE", min=0, max=1, help="Only those that scored worse, worst first."
        ),
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="At most this many.")] = 25,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on behind an earlier page.")] = None,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """List sessions, newest first: one's own, or for admins the whole tenant's."""
    with Output(json) as out:
        api = api_of(stack, tenant, user, role)
        page = api.sessions(status=status, limit=limit, cursor=cursor, scored_below=scored_below)

        def for_people(console: Console) -> None:
            from turnkeeper_local.cli.tables import sessions_table

            console.print(sessions_table(page["sessions"]) if page["sessions"] else "no sessions")
            if page.get("next_cursor"):
                out.note(f"more: --cursor {page['next_cursor']}")

        out.answer(page, for_people)


@app.command(rich_help_panel="Sessions")
def show(
    session: SessionId,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Show a session: transcript, tools, cost, scores."""
    with Output(json) as out:
        api = api_of(stack, tenant, user, role)
        head = api.session(session)
        events = api.all_events(session)

        def for_people(console: Console) -> None:
            from turnkeeper_local.cli.tables import session_table, tools_table
            from turnkeeper_local.cli.transcript import Transcript

            console.print(session_table(head))
            console.print()
            transcript = Transcript(console)
            for event in events:
                transcript.show(event)
            if any(event.get("results") for event in events):
                console.print()
                console.print(tools_table(events))

        out.answer({"session": head, "events": events}, for_people)


@app.command(rich_help_panel="Sessions")
def explain(
    session: SessionId,
    turn: Annotated[int | None, typer.Option("--turn", metavar="N", min=1, help="Only this turn.")] = None,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Tell what happened in a session, why it ended, and what can be done now."""
    with Output(json) as out:
        document = api_of(stack, tenant, user, role).explain(session, turn)

        def for_people(console: Console) -> None:
            from turnkeeper_local.cli.story import show_story

            show_story(console, document)

        out.answer(document, for_people)


@app.command(rich_help_panel="Sessions")
def cancel(
    session: SessionId,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Cancel a session: one that runs stops at the next safe point. Nothing more can be said in it."""
    with Output(json) as out:
        document = api_of(stack, tenant, user, role).cancel(session)
        what = "cancelled" if document["status"] == "cancelled" else "will stop at the next safe point"
        out.answer(document, lambda console: console.print(f"{session} {what}", markup=False))


@app.command(rich_help_panel="Sessions")
def erase(
    session: SessionId,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Erase what was said in a session, for good. What it cost and who did what stays."""
    with Output(json) as out:
        api = api_of(stack, tenant, user, role)
        if not (yes or json or _confirmed(session)):
            out.note("nothing was erased")
            out.fail()
        api.erase(session)
        document: dict[str, Any] = {"session_id": session, "erased": True}
        out.answer(document, lambda console: console.print(f"{session} erased", markup=False))


def _confirmed(session: str) -> bool:
    import sys

    # Whoever cannot be asked has not said no: a script that calls this means it.
    return not sys.stdin.isatty() or typer.confirm(f"Erase the contents of {session} for good?")
