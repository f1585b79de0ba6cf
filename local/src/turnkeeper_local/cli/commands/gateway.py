"""`turnkeeper gateway`: tokens for clients that are no agents of the kit's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from turnkeeper_local.cli.called import not_empty
from turnkeeper_local.cli.options import Json, Stack, Tenant, User
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.reached import operating, operator_of

if TYPE_CHECKING:
    from rich.console import Console

app = typer.Typer(
    name="gateway", help="Tokens for any client of the Messages API, under the same caps.", no_args_is_help=True
)

TokenId = Annotated[str, typer.Argument(metavar="ID", help="A token's id: gwt_...", show_default=False)]


@app.command()
def token(
    tenant: Tenant = None,
    user: User = None,
    task_usd: Annotated[
        str | None,
        typer.Option("--task-usd", metavar="X", help="What it may spend in all; the plan's task cap holds too."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="30m, 8h, 7d, or never: until it is revoked.")
    ] = "8h",
    label: Annotated[
        str | None, typer.Option("--label", metavar="L", help="For lists and the ledger: who or what it is for.")
    ] = None,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """Make a token that a client of the Messages API shows in place of a key. It is shown this once."""
    with Output(json) as out:
        from turnkeeper.core.money import parse_usd
        from turnkeeper_local.cli.errors import UsageError
        from turnkeeper_local.cli.tables import token_facts
        from turnkeeper_local.cli.tokens import parse_valid

        try:
            task_nanousd = parse_usd(task_usd) if task_usd is not None else None
            valid = parse_valid(expires)
        except ValueError as error:
            raise UsageError(str(error), code="usage") from error
        place, operator = operating(stack)
        document = operator.token_office().mint(
            place.tenant(tenant), place.user(user), task_nanousd=task_nanousd, valid=valid, label=label
        )
        document["gateway_url"] = place.document.get("gateway_url")

        def for_people(console: Console) -> None:
            console.print(document["token"], soft_wrap=True, markup=False)
            console.print(token_facts(document))

        out.answer(document, for_people)


@app.command()
def tokens(
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="T", help="Only this tenant's.", callback=not_empty)
    ] = None,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """List tokens, newest first, with what each has spent."""
    with Output(json) as out:
        from turnkeeper_local.cli.tables import tokens_table

        documents = operator_of(stack).token_office().all(tenant)
        out.answer({"tokens": documents}, lambda console: console.print(tokens_table(documents)))


@app.command()
def revoke(
    token_id: TokenId,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="T", help="Whose it is, if you know.", callback=not_empty)
    ] = None,
    stack: Stack = None,
    json: Json = False,
) -> None:
    """No further call is made with this token; those in flight are settled."""
    with Output(json) as out:
        document = operator_of(stack).token_office().revoke(token_id, tenant)
        summary = f"{document['id']} of {document['tenant_id']} is revoked; it has spent {document['spent_usd']} USD."
        out.answer(document, lambda console: console.print(summary, markup=False))
