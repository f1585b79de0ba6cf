"""A tool is called in a test as the function that it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from turnkeeper import ToolContext, ToolDenied, ToolError, tool
from turnkeeper.testing import context
from turnkeeper.tools import sql_query

VALUES = st.one_of(st.none(), st.integers(), st.text(), st.lists(st.integers()))


class Found(BaseModel):
    title: str


def plain(first: Any, second: Any = 2, *, third: Any = None) -> tuple[Any, ...]:
    """Take three."""
    return (first, second, third)


def with_context(ctx: ToolContext, first: Any, second: Any = 2, *, third: Any = None) -> tuple[Any, ...]:
    """Take three and a context."""
    return (ctx.tenant_id, first, second, third)


@given(st.lists(VALUES, min_size=1, max_size=2), st.dictionaries(st.just("third"), VALUES))
def test_arguments_go_by_the_signature(values: list[Any], named: dict[str, Any]) -> None:
    expected = plain(*values, **named)
    assert tool(plain)(*values, **named) == expected
    assert tool(plain)(context(), *values, **named) == expected
    assert tool(with_context)(*values, **named) == ("acme", *expected)
    assert tool(with_context)(context(tenant="beta"), *values, **named) == ("beta", *expected)
    assert tool(with_context)(*values, ctx=context(tenant="beta"), **named) == ("beta", *expected)


@pytest.mark.parametrize("function", [plain, with_context])
def test_what_does_not_fit_the_signature_is_a_type_error(function: Any) -> None:
    for arguments, named in (((), {}), ((1, 2, 3), {}), ((1,), {"fourth": 4}), ((1,), {"first": 1})):
        with pytest.raises(TypeError):
            tool(function)(*arguments, **named)


def test_results_and_errors_are_the_functions_own() -> None:
    @tool(effect="once", scopes={"notes:read"}, name="look_up")
    def search_kb(ctx: ToolContext, title: str) -> Found:
        """Search."""
        if title == "none":
            raise ToolError(f"{ctx.user_id} finds nothing")
        return Found(title=title)

    assert search_kb("printer") == Found(title="printer")
    assert search_kb(context(user="eve"), title="printer").title == "printer"
    with pytest.raises(ToolError, match="eve finds nothing"):
        search_kb(context(user="eve"), "none")


def test_a_guarded_tool_goes_by_its_schema(tmp_path: Any) -> None:
    import sqlite3

    with sqlite3.connect(tmp_path / "shop.db") as database:
        database.execute("CREATE TABLE orders (id TEXT)")
        database.execute("INSERT INTO orders VALUES ('A-1')")
    query = sql_query(f"sqlite:///{tmp_path}/shop.db", tables={"orders": ["id"]})
    assert "A-1" in str(query("SELECT id FROM orders"))
    assert query(query="SELECT id FROM orders") == query(context(tenant="beta"), "SELECT id FROM orders")
    with pytest.raises((ToolDenied, ToolError)):
        query("DELETE FROM orders")
    with pytest.raises(ValidationError):
        query("SELECT 1", nonsense=True)
    with pytest.raises(TypeError, match="arguments, not"):
        query("SELECT 1", 1, 2, 3, 4, 5, 6)
    with pytest.raises(TypeError, match="query twice"):
        query("SELECT 1", query="SELECT 2")
