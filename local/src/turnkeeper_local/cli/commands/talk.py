"""Talking to an agent: a conversation, one turn, a turn that goes on."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from turnkeeper_local.cli.errors import UsageError
from turnkeeper_local.cli.options import AgentName, Json, Placement, Role, Session, SessionId, Stack, Tenant, User, Wait
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import api_of

app = typer.Typer()


@app.command(rich_help_panel="Agents")
def chat(
    agent: AgentName,
    session: Session = None,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Talk with an agent; tools, cost and progress are shown as they happen. Ctrl-D or /exit ends it, /help tells more.

    With --json, each line of standard input is one message, and each event of the transcript one line of output.
    """
    with Output(json) as out:
        from turnkeeper_local.cli.api import connect
        from turnkeeper_local.cli.banner import banner
        from turnkeeper_local.cli.conversation import Conversation
        from turnkeeper_local.cli.place import find

        place = find(stack)
        api = connect(place, tenant=tenant, user=user, role=role)
        told = partial(banner, place, api, agent, tenant=tenant, user=user, role=role)
        Conversation(out, api, agent, session, told).run()


@app.command(rich_help_panel="Agents")
def run(
    agent: AgentName,
    text: Annotated[str, typer.Argument(metavar="INPUT", help="What to say; - reads standard input.")],
    wait: Wait = 120,
    session: Session = None,
    placement: Annotated[
        Placement | None, typer.Option("--placement", help="Where it runs; by default as the agent says.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option("--webhook", metavar="URL", help="Post word of each turn of a new session there.")
    ] = None,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """One turn through the API. Exit code 1 where it stopped or failed; 0 also where it still runs after --wait."""
    with Output(json) as out:
        import sys

        from turnkeeper_local.cli.conversation import one_turn, session_of

        more = {name: value for name, value in (("placement", placement), ("webhook", webhook)) if value}
        if session and more:
            said = " and ".join(f"--{name}" for name in more)
            raise UsageError(f"a session begins with {said}: it cannot be said to one that goes on", code="usage")
        words = sys.stdin.read() if text == "-" else text
        api = api_of(stack, tenant, user, role)
        if session:
            session_of(api, session, agent)
        one_turn(
            out,
            api,
            lambda seconds: (
                api.say(session, words, wait=seconds) if session else api.start(agent, words, wait=seconds, **more)
            ),
            wait_seconds=wait,
        )


@app.command(rich_help_panel="Sessions")
def resume(
    session: SessionId,
    wait: Wait = 120,
    max_iterations: Annotated[
        int | None, typer.Option("--max-iterations", metavar="N", min=1, help="Raise the limit of model calls.")
    ] = None,
    clear_flags: Annotated[
        bool, typer.Option("--clear-flags", help="Let tools that change something run again after a flagged result.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", metavar="M", help="Go on with this model instead of the agent's.")
    ] = None,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Let a stopped session go on where it stopped; an admin also one of another user. That, and its options, are an
    operator's, and go onto the audit trail."""
    with Output(json) as out:
        from turnkeeper_local.cli.api import connect
        from turnkeeper_local.cli.conversation import one_turn, resume_by_token
        from turnkeeper_local.cli.place import find

        place = find(stack)
        api = connect(place, tenant=tenant, user=user, role=role)
        found = api.session(session)  # 404 where this caller may not see it
        # A token is its user's alone. Of another's stopped session an admin is told, and lets it go on as an operator.
        is_anothers = found["status"] == "stopped" and not found.get("continuation_token")
        if max_iterations is None and not clear_flags and model is None and not is_anothers:
            one_turn(out, api, lambda seconds: resume_by_token(api, found, seconds), wait_seconds=wait)
            return
        from turnkeeper_local.cli.operator import connect as operate

        if is_anothers:
            out.note(f"a session of user {found['user_id']}: resumed as an operator, which goes onto its audit trail")
        operate(place).resume(
            place.tenant(tenant), session, max_iterations=max_iterations, clear_flags=clear_flags, model=model
        )
        one_turn(out, api, lambda _: api.session(session), wait_seconds=wait)
