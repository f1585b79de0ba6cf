"""What the support agent can do. Docstring and signature of each function are what the model reads."""

from __future__ import annotations

import re
import sqlite3
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from turnkeeper import ToolContext, ToolError, tool

from .billing import billing

InvoiceStatus = Literal["open", "paid", "overdue", "void", "refunded"]
InvoiceId = Annotated[str, Field(description="Such as INV-1001")]
CustomerId = Annotated[str, Field(description="Such as CUS-100")]


class Invoice(BaseModel):
    id: str
    customer_id: str
    issued_on: date
    due_on: date
    amount: str
    refunded: str
    status: InvoiceStatus
    description: str


class Customer(BaseModel):
    id: str
    name: str
    email: str
    plan: str
    since: date
    #: What is open or overdue, in dollars.
    balance_due: str


class Refund(BaseModel):
    id: str
    invoice_id: str
    amount: str
    reason: str


@tool(effect="read", scopes={"billing:read"}, timeout_seconds=10)
def get_invoice(ctx: ToolContext, invoice_id: InvoiceId) -> Invoice:
    """Look an invoice up by its number. Amounts are US dollars."""
    with billing(ctx.tenant_id) as database:
        return _invoice(_found(database, invoice_id))


@tool(effect="read", scopes={"billing:read"}, timeout_seconds=10)
def list_invoices(ctx: ToolContext, customer_id: CustomerId, status: InvoiceStatus | None = None) -> list[Invoice]:
    """List a customer's invoices, newest first; only those of one status where it is given."""
    with billing(ctx.tenant_id) as database:
        _customer_row(database, customer_id)
        rows = database.execute(
            f"{_INVOICES} WHERE customer_id = ? ORDER BY issued_on DESC, id DESC",  # our own text
            (customer_id,),
        ).fetchall()
    invoices = [_invoice(row) for row in rows]
    return [invoice for invoice in invoices if status in (None, invoice.status)]


@tool(effect="read", scopes={"billing:read"}, timeout_seconds=10)
def get_customer(ctx: ToolContext, customer_id: CustomerId) -> Customer:
    """Look a customer up by its number, with what it owes."""
    with billing(ctx.tenant_id) as database:
        row = _customer_row(database, customer_id)
        (due,) = database.execute(
            "SELECT coalesce(sum(amount_cents), 0) FROM invoices"
            " WHERE customer_id = ? AND status IN ('open', 'overdue')",
            (customer_id,),
        ).fetchone()
    return Customer(**dict(row), balance_due=_dollars(due))


@tool(effect="once", scopes={"billing:write"}, timeout_seconds=20)
def issue_refund(
    ctx: ToolContext,
    invoice_id: InvoiceId,
    amount: Annotated[str, Field(description="Dollars and cents, such as '49.00'")],
    reason: Annotated[str, Field(min_length=3, max_length=500, description="For the books, in one sentence")],
) -> Refund:
    """Give money of a paid invoice back. Cannot be undone. At most what was paid and not given back yet."""
    cents = _cents(amount)
    with billing(ctx.tenant_id) as database:
        # `once` tools are never run twice by the kit; the key also covers whoever else repeats the request on the way.
        done = database.execute("SELECT * FROM refunds WHERE idempotency_key = ?", (ctx.idempotency_key,)).fetchone()
        if done is not None:
            return _refund(done)
        invoice = _found(database, invoice_id)
        left = invoice["amount_cents"] - invoice["refunded_cents"]
        if invoice["status"] != "paid":
            raise ToolError(f"{invoice_id} is {invoice['status']}; only a paid invoice can be refunded.")
        if cents > left:
            raise ToolError(f"At most {_dollars(left)} of {invoice_id} can be given back; {amount} is more.")
        (count,) = database.execute("SELECT count(*) FROM refunds").fetchone()
        written = database.execute(
            "INSERT INTO refunds VALUES (?, ?, ?, ?, ?) RETURNING *",
            (f"REF-{count + 1:04d}", invoice_id, cents, reason, ctx.idempotency_key),
        ).fetchone()
        return _refund(written)


_INVOICES = (
    "SELECT invoices.*, (SELECT coalesce(sum(amount_cents), 0) FROM refunds WHERE invoice_id = invoices.id)"
    " AS refunded_cents FROM invoices"
)


def _found(database: sqlite3.Connection, invoice_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = database.execute(f"{_INVOICES} WHERE id = ?", (invoice_id,)).fetchone()
    if row is None:
        raise ToolError(f"There is no invoice {invoice_id}. Numbers look like INV-1001; list_invoices finds them.")
    return row


def _customer_row(database: sqlite3.Connection, customer_id: str) -> sqlite3.Row:
    row: sqlite3.Row | None = database.execute("SELECT * FROM customers WHERE id = ?", (customer_id,)).fetchone()
    if row is None:
        raise ToolError(f"There is no customer {customer_id}. Numbers look like CUS-100.")
    return row


def _invoice(row: sqlite3.Row) -> Invoice:
    amount, refunded = row["amount_cents"], row["refunded_cents"]
    return Invoice(
        id=row["id"],
        customer_id=row["customer_id"],
        issued_on=row["issued_on"],
        due_on=row["due_on"],
        amount=_dollars(amount),
        refunded=_dollars(refunded),
        status="refunded" if refunded and refunded == amount else row["status"],
        description=row["description"],
    )


def _refund(row: sqlite3.Row) -> Refund:
    return Refund(
        id=row["id"], invoice_id=row["invoice_id"], amount=_dollars(row["amount_cents"]), reason=row["reason"]
    )


def _dollars(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _cents(amount: str) -> int:
    """Money is never a float, and never rounded behind the customer's back."""
    found = re.fullmatch(r"([0-9]{1,9})\.([0-9]{2})", amount)
    if found is None or int(found[1] + found[2]) == 0:
        raise ToolError(f"amount is dollars and cents above zero, such as '49.00', not {amount!r}.")
    return int(found[1] + found[2])
