from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.unit.agents.conftest import call, tool_of
from turnkeeper import Agent, ToolError
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.testing import context


@pytest.fixture
def support(catalog: Catalog) -> Agent:
    return catalog.get("support")


def test_an_invoice_is_looked_up(support: Agent) -> None:
    invoice = call(support, "get_invoice", invoice_id="INV-1001")
    assert (invoice.amount, invoice.status, invoice.customer_id, invoice.refunded) == (
        "49.00",
        "paid",
        "CUS-100",
        "0.00",
    )


@pytest.mark.parametrize("invoice_id", ["INV-9", "", "INV-1001' OR 1=1 --", "\ud800"])
def test_an_unknown_invoice_is_said_to_be_unknown(support: Agent, invoice_id: str) -> None:
    with pytest.raises((ToolError, ValidationError, UnicodeEncodeError)):
        call(support, "get_invoice", invoice_id=invoice_id)


def test_invoices_are_listed_newest_first_and_by_status(support: Agent) -> None:
    listed = call(support, "list_invoices", customer_id="CUS-101")
    assert [invoice.id for invoice in listed] == ["INV-1007", "INV-1006", "INV-1005"]
    assert [invoice.id for invoice in call(support, "list_invoices", customer_id="CUS-101", status="overdue")] == [
        "INV-1006"
    ]
    assert call(support, "list_invoices", customer_id="CUS-101", status="void") == []
    with pytest.raises(ValidationError):
        call(support, "list_invoices", customer_id="CUS-101", status="lost")
    with pytest.raises(ToolError, match="no customer"):
        call(support, "list_invoices", customer_id="CUS-9")


def test_a_customer_comes_with_what_it_owes(support: Agent) -> None:
    assert call(support, "get_customer", customer_id="CUS-101").balance_due == "598.00"
    assert call(support, "get_customer", customer_id="CUS-103").balance_due == "0.00"


def test_a_refund_is_kept_and_its_invoice_says_so(support: Agent) -> None:
    refund = call(support, "issue_refund", invoice_id="INV-1003", amount="49.00", reason="Billed twice")
    assert (refund.id, refund.amount) == ("REF-0001", "49.00")
    invoice = call(support, "get_invoice", invoice_id="INV-1003")
    assert (invoice.status, invoice.refunded) == ("refunded", "49.00")


def test_the_same_key_refunds_once_also_at_the_same_time(support: Agent) -> None:
    def refund(_: int) -> str:
        issued = call(support, "issue_refund", invoice_id="INV-1010", amount="10.00", reason="Goodwill")
        return str(issued.id)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(refund, range(16))) == {"REF-0001"}
    assert call(support, "get_invoice", invoice_id="INV-1010").refunded == "10.00"


def test_no_more_is_given_back_than_was_paid(support: Agent) -> None:
    def refund(number: int) -> bool:
        ctx = context(key=f"key-{number}")
        try:
            call(support, "issue_refund", ctx, invoice_id="INV-1001", amount="20.00", reason="Goodwill")
        except ToolError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(refund, range(8))) == 2
    assert call(support, "get_invoice", invoice_id="INV-1001").refunded == "40.00"


@pytest.mark.parametrize("amount", ["0.00", "-1.00", "1", "1.5", "1e9", "١.٠٠", "NaN", "49.000", " 49.00"])
def test_amounts_that_are_none_are_refused(support: Agent, amount: str) -> None:
    with pytest.raises(ToolError, match="dollars and cents"):
        call(support, "issue_refund", invoice_id="INV-1001", amount=amount, reason="Goodwill")


@pytest.mark.parametrize(
    ("invoice_id", "status"), [("INV-1004", "open"), ("INV-1006", "overdue"), ("INV-1012", "void")]
)
def test_only_a_paid_invoice_is_refunded(support: Agent, invoice_id: str, status: str) -> None:
    with pytest.raises(ToolError, match=status):
        call(support, "issue_refund", invoice_id=invoice_id, amount="1.00", reason="Goodwill")


def test_one_tenants_refund_is_not_anothers(support: Agent) -> None:
    call(support, "issue_refund", context(tenant="acme"), invoice_id="INV-1001", amount="1.00", reason="Goodwill")
    other = call(support, "get_invoice", context(tenant="../acme"), invoice_id="INV-1001")
    assert other.refunded == "0.00"


def test_only_the_refund_changes_something_and_needs_the_scope(support: Agent) -> None:
    refund = tool_of(support, "issue_refund")
    assert (refund.effect, refund.scopes) == ("once", {"billing:write"})
    for name in ("get_invoice", "list_invoices", "get_customer"):
        assert (tool_of(support, name).effect, tool_of(support, name).scopes) == ("read", {"billing:read"})


def test_a_folder_of_somebody_else_is_not_used(
    support: Agent, temporary: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    call(support, "get_invoice", invoice_id="INV-1001")
    (folder,) = temporary.iterdir()
    folder.rename(temporary / "moved")
    folder.symlink_to(temporary / "moved")
    with pytest.raises(PermissionError):
        call(support, "get_invoice", invoice_id="INV-1001")
