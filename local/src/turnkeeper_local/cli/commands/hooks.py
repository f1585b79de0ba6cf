"""`turnkeeper hooks`: word that turns have ended, on its way to webhooks and reply queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnkeeper_local.cli.called import not_empty
from turnkeeper_local.cli.options import Json, Stack, Tenant
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import operating

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="hooks",
    help="Word that turns have ended: what was delivered to webhooks and reply queues.",
    no_args_is_help=True,
)


@app.command("list")
def list_(
    session: Annotated[
        str | None, typer.Option("--session", metavar="SESSION", help="Only those of this session.", callback=not_empty)
    ] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="S", help="Only those that are pending, delivered or dead.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=1_000, help="The newest so many.")] = 50,
    stack: Stack = None,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """List a tenant's deliveries, newest first: where to, how often it was tried, and what was answered."""
    with Output(json) as out:
        from turnkeeper_local.cli.errors import UsageError
        from turnkeeper_local.cli.tables import deliveries_table

        if state not in (None, "pending", "delivered", "dead"):
            raise UsageError("--state is pending, delivered or dead", code="usage")
        place, operator = operating(stack)
        documents = operator.hook_office().deliveries(
            place.tenant(tenant), session_id=session, state=state, limit=limit
        )
        out.answer({"deliveries": documents}, lambda console: console.print(deliveries_table(documents)))


@app.command()
def replay(
    delivery: Annotated[str, typer.Argument(metavar="ID", help="A delivery's id: evt_...", show_default=False)],
    stack: Stack = None,
    tenant: Tenant = None,
    json: Json = False,
) -> None:
    """Deliver once more, now, by the same `webhook-id`; also to a receiver that said that it is gone."""
    with Output(json) as out:
        place, operator = operating(stack)
        document = operator.hook_office().replay(place.tenant(tenant), delivery)
        summary = f"{document['id']} is on its way to {document['to']}."
        out.answer(document, lambda console: console.print(summary, markup=False, soft_wrap=True))


@app.command()
def secret(stack: Stack = None, tenant: Tenant = None, json: Json = False) -> None:
    """Show what a tenant's receivers verify signatures by, for them alone. While keys are rotated there are two, and
    each webhook is signed by both."""
    with Output(json) as out:
        place, operator = operating(stack)
        document = operator.hook_office().secrets(place.tenant(tenant))

        def for_people(console: Console) -> None:
            console.print(document["secret"], soft_wrap=True, markup=False)
            if document["previous"]:
                console.print(f"before: {document['previous']}", soft_wrap=True, markup=False)

        out.answer(document, for_people)
