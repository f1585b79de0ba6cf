"""Jobs onto the queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from turnkeeper_local.cli.options import Json, Role, Stack, Tenant, User
from turnkeeper_local.cli.output import Output

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer()


@app.command(rich_help_panel="Agents")
def submit(
    agent: Annotated[str | None, typer.Argument(metavar="[AGENT]", show_default=False)] = None,
    text: Annotated[str | None, typer.Argument(metavar="[INPUT]", show_default=False)] = None,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="F.jsonl", help="One job a line, - for standard input.")
    ] = None,
    job_id: Annotated[
        str | None, typer.Option("--job-id", metavar="ID", help="The same id never starts a second session.")
    ] = None,
    webhook: Annotated[
        str | None, typer.Option("--webhook", metavar="URL", help="Post word of each turn of their sessions there.")
    ] = None,
    reply_to: Annotated[
        str | None, typer.Option("--reply-to", metavar="NAME", help="Send their results to this queue.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Whether their agents exist; without, they are sent anyway.")
    ] = True,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """Put jobs onto the queue: AGENT and INPUT, or a file of them. Prints the ids of their sessions.

    A line of the file is `{"input": ...}` with, where they differ from the options, agent, job_id, tenant_id, user_id,
    role, metadata, webhook and reply_to. Nothing is sent unless every line can be: it is a job, small enough, of an
    agent that there is, and no other job of the file has its id.
    """
    with Output(json) as out:
        from turnkeeper_local.cli.errors import UsageError
        from turnkeeper_local.cli.jobs import check_agents, one_job, read_jobs
        from turnkeeper_local.cli.operator import connect
        from turnkeeper_local.cli.place import find

        if (file is None) == (text is None):
            raise UsageError("either AGENT and INPUT, or --file", code="usage")
        if file is not None and job_id is not None:
            raise UsageError("--job-id is for one job; in a file, each line has its own", code="usage")
        place = find(stack)
        common = {
            "agent": agent,
            "tenant_id": place.tenant(tenant),
            "user_id": place.user(user),
            "role": place.role(role),
            "webhook": webhook,
            "reply_to": reply_to,
        }
        jobs = read_jobs(file, common) if file is not None else [one_job({**common, "input": text, "job_id": job_id})]
        operator = connect(place)
        if check:
            check_agents(jobs, operator.deployed(place))
        # One whose id was made up here is new.
        named = [job for job in jobs if not job.is_new]
        known = {job.session_id for job in named if operator.is_known(job.tenant_id, job.session_id)}
        for job in jobs:
            operator.submit(job.body, tenant_id=job.tenant_id)
        document = {"submitted": [{**job.document(), "known": job.session_id in known} for job in jobs]}

        def for_people(console: Console) -> None:
            for job in jobs:
                console.print(job.session_id, markup=False)

        out.answer(document, for_people)
        if known:
            out.note(f"submitted before, so no session is begun anew: {', '.join(sorted(known))}")
        if len(jobs) == 1:
            out.note(f"`turnkeeper watch {jobs[0].session_id}` follows it")
