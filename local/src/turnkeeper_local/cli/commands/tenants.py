"""`turnkeeper tenant`: plans, caps, the kill switch. Each change goes onto the tenant's audit chain."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from turnkeeper_local.cli.options import Json, Stack, TenantId
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import operator_of

app = typer.Typer(name="tenant", help="What a tenant may spend, and its kill switch.", no_args_is_help=True)


@app.command("set")
def set_(
    tenant: TenantId,
    plan: Annotated[str | None, typer.Option("--plan", metavar="P", help="A plan of policy.toml.")] = None,
    cap: Annotated[
        list[str] | None,
        typer.Option(
            "--cap",
            metavar="SCOPE=USD",
            help="A scope as `tenant show` lists it, and an amount such as 5.00, unlimited, or plan. Repeatable.",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option("--shards", metavar="N", min=1, max=32, help="Parts of the monthly counter, for a busy tenant."),
    ] = None,
    timezone: Annotated[
        str | None,
        typer.Option(
            "--timezone", metavar="Z", help="Of days and months: an IANA name such as Europe/Zurich, or plan."
        ),
    ] = None,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """Set a tenant's plan and caps; in force for the next model call of every session."""
    with Output(json) as out:
        from turnkeeper_local.cli.errors import UsageError
        from turnkeeper_local.cli.operator import parse_caps, parse_timezone

        try:
            caps, from_plan = parse_caps(cap or ())
            timezone = parse_timezone(timezone)
        except ValueError as error:
            raise UsageError(str(error), code="usage") from error
        if not (caps or from_plan or any(option is not None for option in (plan, shards, timezone))):
            raise UsageError("nothing to set: --plan, --cap, --shards or --timezone", code="usage")
        document = operator_of(stack).set_tenant(
            tenant, plan=plan, caps=caps, from_plan=from_plan, shards=shards, timezone=timezone
        )
        _answer(out, document)


@app.command()
def show(tenant: TenantId, stack: Stack = None, json: Json = False) -> None:
    """Show a tenant's plan and the caps in force."""
    with Output(json) as out:
        _answer(out, operator_of(stack).tenant(tenant))


@app.command()
def pause(tenant: TenantId, stack: Stack = None, json: Json = False) -> None:
    """The kill switch: no session of this tenant makes another model call."""
    with Output(json) as out:
        _answer(out, operator_of(stack).set_tenant(tenant, paused=True))


@app.command()
def unpause(tenant: TenantId, stack: Stack = None, json: Json = False) -> None:
    """Let a paused tenant's sessions run again; those that were stopped can be resumed."""
    with Output(json) as out:
        _answer(out, operator_of(stack).set_tenant(tenant, paused=False))


@app.command()
def index(tenant: TenantId, stack: Stack = None, json: Json = False) -> None:
    """Once after an upgrade from 0.1, when none of its processes runs any more: put the tenant's old sessions into the
    index by status, so that lists need not look through them."""
    with Output(json) as out:
        taken = operator_of(stack).index_tenant(tenant)
        summary = f"{taken['sessions']} sessions of 0.1 were put into the index."
        out.answer(taken, lambda console: console.print(summary))


def _answer(out: Output, document: dict[str, Any]) -> None:
    from turnkeeper_local.cli.tables import tenant_table

    out.answer(document, lambda console: console.print(tenant_table(document)))
