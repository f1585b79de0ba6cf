"""`turnkeeper spend` and `turnkeeper reconcile`: what all of it costs, by the ledger and by the provider."""

from __future__ import annotations

import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from turnkeeper_local.cli.called import not_empty
from turnkeeper_local.cli.options import Json, Role, Stack, Tenant, User
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import api_of, operator_of

if TYPE_CHECKING:
    from rich.console import Console

    from turnkeeper.core.reconciling import Report

app = typer.Typer(name="spend")
#: What is no command of the group.
beside = typer.Typer()

From = Annotated[
    str | None, typer.Option("--from", metavar="DATE", help="The first day, such as 2026-11-01; it is included.")
]
To = Annotated[str | None, typer.Option("--to", metavar="DATE", help="The last day; it is included.")]
#: Where a day begins first, it is that far ahead of UTC.
_EAST = timedelta(hours=14)
#: No ledger is older or from later than these years.
_YEARS = range(2020, 3000)
ADMIN_URL = "https://api.anthropic.com"


@app.callback(invoke_without_command=True)
def spend(
    context: typer.Context,
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="With the scope of this task.", callback=not_empty)
    ] = None,
    stack: Stack = None,
    tenant: Tenant = None,
    user: User = None,
    role: Role = None,
    json: Json = False,
) -> None:
    """What was spent and reserved, of which cap, and when it resets; scope by scope."""
    if context.invoked_subcommand is not None:
        return
    with Output(json) as out:
        spent = api_of(stack, tenant, user, role).spend(session)

        def for_people(console: Console) -> None:
            from turnkeeper_local.cli.tables import spend_table

            console.print(spend_table(spent["scopes"], f"tenant {spent['tenant_id']}, user {spent['user_id']}"))

        out.answer(spent, for_people)


@app.command()
def report(
    by: Annotated[
        Literal["tenant", "user", "agent", "version", "model", "day"],
        typer.Option("--by", help="What it is told apart by."),
    ],
    first: From = None,
    last: To = None,
    tenant: Annotated[
        str | None,
        typer.Option(
            "--tenant", metavar="T", help="Only this one's; without it, that of all tenants.", callback=not_empty
        ),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="As CSV, one line a row, with exact amounts.")] = False,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """What was spent, from the ledger, held against the counters. Exit code 1 where they differ.

    Days are those of each tenant's time zone, and a call counts in the day in which its money was reserved. Without
    days: this month so far.
    """
    with Output(json) as out:
        from turnkeeper_local.cli.spending import csv_of, report_document, report_table, verdict

        if csv and json:
            raise _usage("--csv and --json are two ways to answer: take one")
        span = _span(first, last)
        found = operator_of(stack).spend_report(tenant, by, *span)
        document = report_document(found)
        if csv:
            typer.echo(csv_of(document), nl=False)
            out.note(verdict(document))
        else:
            out.answer(document, lambda console: console.print(report_table(document)))
        if document["differences"]:
            out.fail()


@beside.command(rich_help_panel="Operating")
def reconcile(
    file: Annotated[
        list[Path] | None,
        typer.Option("--file", metavar="F", help="What the provider says, as JSON or CSV; - for standard input."),
    ] = None,
    admin_key_env: Annotated[
        str | None,
        typer.Option("--admin-key-env", metavar="NAME", help="Ask the Admin API, with the key in this variable."),
    ] = None,
    first: From = None,
    last: To = None,
    workspace: Annotated[
        str | None, typer.Option("--workspace", metavar="W", help="Only what this workspace of the provider's used.")
    ] = None,
    admin_url: Annotated[str, typer.Option("--admin-url", metavar="URL", help="Where the Admin API is.")] = ADMIN_URL,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """Hold the ledger against the provider's report of usage and cost, by day and model.

    Days are those of UTC, as the provider's. Exit code 0 where both agree within the money that is in doubt, 1 where
    they do not, 2 where the report cannot be read. Calls in doubt are listed with their request ids.
    """
    with Output(json) as out:
        from turnkeeper_local.cli.spending import reconciliation_document, reconciliation_table

        if bool(file) == (admin_key_env is not None):
            raise _usage("either --file F or --admin-key-env NAME says where the provider's report is")
        since, until = _span(first, last)
        if file:
            report = _of_files(file, since, until, workspace)
        else:
            assert admin_key_env is not None
            report = _of_api(admin_key_env, since, until, workspace, admin_url)
        document = reconciliation_document(operator_of(stack).reconcile(report), report)
        out.answer(document, lambda console: console.print(reconciliation_table(document)))
        if not document["agrees"]:
            out.fail()


def _of_files(files: list[Path], first: date | None, last: date | None, workspace: str | None) -> Report:
    from turnkeeper_local.cli.provider_reports import read_report

    texts = []
    for path in files:
        try:
            text = typer.get_text_stream("stdin").read() if str(path) == "-" else path.read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            raise _usage(f"{path} cannot be read: {error}") from error
        texts.append((str(path), text))
    report = read_report(texts, workspace)
    if workspace is not None and not report.used and not report.charged:
        raise _usage(f"nothing in it is of the workspace {workspace}: JSON has a workspace's id, a CSV its name")
    within = report.within((first or date.min).isoformat(), (last or date.max).isoformat())
    if not within.days:
        told = f"{min(report.days)} to {max(report.days)}"
        raise _usage(f"the report tells of {told}, and of no day between --from and --to")
    return within


def _of_api(variable: str, first: date | None, last: date | None, workspace: str | None, url: str) -> Report:

    from turnkeeper_local.cli.admin_api import usage_and_cost
    from turnkeeper_local.cli.provider_reports import read_pages

    key = os.environ.get(variable, "").strip()
    if not key:
        raise _usage(f"the environment variable {variable} holds no key")
    until = last or max(datetime.now(UTC).date() - timedelta(days=1), first or date.min)
    since = first or until.replace(day=1)
    return read_pages(usage_and_cost(key, since, until, url=url, workspace=workspace), workspace)


def _span(first: str | None, last: str | None) -> tuple[date | None, date | None]:
    """The days that were given.

    Raises:
        UsageError: one of them is none or nowhere on earth has come yet, or they are the wrong way round.
    """
    span: list[date | None] = []
    for name, text in (("--from", first), ("--to", last)):
        try:
            day = date.fromisoformat(text) if text is not None else None
        except ValueError as error:
            raise _usage(f"{name} {text}: that is no date such as 2026-11-25") from error
        if day is not None and day.year not in _YEARS:
            raise _usage(f"{name} {text}: no ledger has such a year")
        span.append(day)
    since, until = span
    if since is not None and since > (datetime.now(UTC) + _EAST).date():
        raise _usage(f"--from {since}: that day has not come yet")
    if since is not None and until is not None and since > until:
        raise _usage(f"--from {since} is after --to {until}")
    return since, until


def _usage(text: str) -> Exception:
    from turnkeeper_local.cli.errors import UsageError

    return UsageError(text, code="usage")
