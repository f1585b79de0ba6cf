"""`turnkeeper audit`: the chains of records, and whether they hold."""

from __future__ import annotations

from typing import Annotated

import typer

from turnkeeper_local.cli.options import Json, Stack, Tenant
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import operating

app = typer.Typer(
    name="audit", help="The audit trail: who did what, and whether anybody touched it.", no_args_is_help=True
)


@app.command()
def show(
    session: Annotated[
        str | None,
        typer.Argument(
            metavar="[SESSION]", help="A session's id; without it, the tenant's own chain.", show_default=False
        ),
    ] = None,
    stack: Stack = None,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Show what was done in a session: each tool call, limit and operator's word, in order.

    Without SESSION: what was done to the tenant. Rollouts are on the chain of the tenant `!deployment`.
    """
    with Output(json) as out:
        from turnkeeper_local.cli.tables import audit_table

        place, operator = operating(stack)
        records = operator.audit_office().records(place.tenant(tenant), session)
        document = {"session_id": session, "records": records}
        out.answer(document, lambda console: console.print(audit_table(records)))


@app.command()
def verify(
    session: Annotated[
        str | None,
        typer.Argument(metavar="[SESSION]", help="Only this session's chain.", show_default=False),
    ] = None,
    stack: Stack = None,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Check that no audit record was altered, taken out, added or moved. Exit code 1 where one was.

    Without SESSION: the tenant's own chain, and those of all its sessions.
    """
    with Output(json) as out:
        from turnkeeper_local.cli.operator import connect
        from turnkeeper_local.cli.place import find
        from turnkeeper_local.cli.tables import chains_report

        place = find(stack)
        tenant_id = place.tenant(tenant)
        audits = connect(place).audit_office()
        chains = [audits.verify(tenant_id, session)] if session else list(audits.verify_all(tenant_id))
        broken = [chain for chain in chains if chain.problems]
        document = {"ok": not broken, "tenant_id": tenant_id, "chains": [chain.document() for chain in chains]}
        out.answer(document, lambda console: console.print(chains_report(chains, tenant_id)))
        if broken:
            out.fail()
