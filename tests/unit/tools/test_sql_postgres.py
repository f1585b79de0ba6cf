"""sql_query on a real PostgreSQL: what may be read, and everything that may not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.tools.conftest import Call, context
from turnkeeper.core.tools import Tool, ToolDenied, ToolError
from turnkeeper.tools import sql_query

psycopg = pytest.importorskip("psycopg")

SCHEMA = """
CREATE TABLE invoices (id int PRIMARY KEY, amount numeric, customer text, card text);
INSERT INTO invoices VALUES (1, 2.5, 'ann', 'hunter2-a'), (2, 3.5, 'bob', 'hunter2-b'), (3, 4.5, 'cy', 'hunter2-c');
CREATE TABLE plans (name text, doc jsonb, at timestamptz, raw bytea);
INSERT INTO plans VALUES ('free', '{"seats": 1}', '2026-01-02 03:04:05+02', '\\x0102'), ('pro', NULL, 'infinity', NULL);
CREATE TABLE users (id int, password text);
INSERT INTO users VALUES (1, 'hunter2');
CREATE SCHEMA billing;
CREATE TABLE billing.items (id int, "Mixed" text);
INSERT INTO billing.items VALUES (1, 'm');
CREATE TABLE long (v text);
INSERT INTO long SELECT repeat('x', 100000);
CREATE SEQUENCE counter;
CREATE FUNCTION evil(text) RETURNS text AS $$ SELECT password FROM public.users LIMIT 1 $$ LANGUAGE sql;
CREATE FUNCTION upper(int) RETURNS text AS $$ SELECT password FROM public.users LIMIT 1 $$ LANGUAGE sql;
CREATE FUNCTION length(public.invoices) RETURNS text AS $$ SELECT password FROM public.users LIMIT 1 $$ LANGUAGE sql;
CREATE FUNCTION cheat(int, int) RETURNS boolean AS $$ SELECT true $$ LANGUAGE sql;
CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = cheat);
"""


@pytest.fixture(scope="module")
def url(postgres_url: str) -> Iterator[str]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; DROP SCHEMA IF EXISTS billing CASCADE; CREATE SCHEMA public")
        connection.execute(SCHEMA)
    return postgres_url


@pytest.fixture(scope="module")
def tool(url: str) -> Tool:
    tables = {"invoices": ["id", "amount", "customer"], "plans": "*", "billing.items": "*", "long": "*"}
    return sql_query(url=url, tables=tables, timeout_seconds=3)


def rows(tool: Tool, sql: str) -> list[list[Any]]:
    found: list[list[Any]] = tool.body(context(), {"query": sql})["rows"]
    return found


READS = {
    "SELECT * FROM invoices WHERE id = 1": [[1, "2.5", "ann"]],
    "SELECT Amount, ID FROM Invoices ORDER BY 2 LIMIT 1": [["2.5", 1]],
    "SELECT i.* FROM invoices AS i(a, b, c) LIMIT 1": [[1, "2.5", "ann"]],
    "TABLE invoices LIMIT 1": [[1, "2.5", "ann"]],
    'SELECT id, "Mixed" FROM billing.items': [[1, "m"]],
    "SELECT items.id FROM billing.items": [[1]],
    "SELECT name, doc ->> 'seats', doc -> 'seats', at, raw FROM plans WHERE name = 'free'": [
        ["free", "1", "1", "2026-01-02 01:04:05+00", "\\x0102"]
    ],
    "SELECT at FROM plans WHERE name = 'pro'": [["infinity"]],
    "SELECT date_trunc('month', at), extract(YEAR FROM at), at - interval '1 day', now() > at FROM plans LIMIT 1": [
        ["2026-01-01 00:00:00+00", "2026", "2026-01-01 01:04:05+00", True]
    ],
    "SELECT to_char(at, 'YYYY-MM'), at AT TIME ZONE 'UTC' FROM plans LIMIT 1": [["2026-01", "2026-01-02 01:04:05"]],
    "SELECT string_agg(customer, ',' ORDER BY id DESC), count(*) FILTER (WHERE id > 1) FROM invoices": [
        ["cy,bob,ann", 2]
    ],
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) FROM invoices": [[3.5]],
    "SELECT DISTINCT ON (amount > 3) id FROM invoices ORDER BY amount > 3, id": [[1], [2]],
    "SELECT id FROM invoices WHERE id = ANY(ARRAY[1, 2]) AND customer ILIKE 'A%' AND customer ~ '^a'": [[1]],
    "SELECT id, lag(id) OVER w FROM invoices WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 1": [[1, None]],
    "SELECT id FROM invoices ORDER BY id FETCH FIRST 1 ROWS ONLY": [[1]],
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4) SELECT sum(i) FROM n": [[10]],
    "WITH a AS MATERIALIZED (SELECT id FROM invoices) SELECT count(*) FROM a": [[3]],
    "SELECT id FROM invoices WHERE id > 1 UNION ALL SELECT 9 ORDER BY 1 DESC LIMIT 2": [[9], [3]],
    "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v(n, t) WHERE n = 2": [[2, "b"]],
    "SELECT a.id FROM invoices a JOIN invoices b USING (id) ORDER BY 1 LIMIT 1": [[1]],
    "SELECT count(*) FROM invoices NATURAL JOIN plans": [[6]],
    "SELECT amount FROM invoices AS amount ORDER BY 1 LIMIT 1": [["2.5"]],
    "SELECT 'it''s\\', 1.5::float, '1'::int + 1, 'NaN'::float, NULL, TRUE, CAST('2026-01-02' AS date)": [
        ["it's\\", 1.5, 2, "nan", None, True, "2026-01-02"]
    ],
    "SELECT coalesce(NULL, 1), greatest(1, 2), round(2.55, 1), position('b' IN 'ab'), substring('abc' FROM 2)": [
        [1, 2, "2.6", 2, "bc"]
    ],
    "SELECT count(*) FROM invoices GROUP BY ROLLUP (customer) ORDER BY 1 DESC LIMIT 1": [[3]],
}


@pytest.mark.parametrize("sql", READS)
def test_what_is_allowed_is_answered(sql: str, tool: Tool) -> None:
    assert rows(tool, sql) == READS[sql]


#: Operators of JSON, each with a right side that fits.
JSON_OPERATORS = {
    "->": "'seats'",
    "->>": "'seats'",
    "#>": "'{seats}'",
    "#>>": "ARRAY['seats']",
    "?": "'seats'",
    "?|": "ARRAY['seats', 'x']",
    "?&": "ARRAY['seats']",
    "@>": "'{\"seats\": 1}'",
    "<@": "('{\"seats\": 1}')",
}
AROUND = ("{}", "({})", "coalesce({}, NULL)", "count({})", "CASE WHEN TRUE THEN {} END", "array_agg(DISTINCT {})")


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("operator", JSON_OPERATORS)
def test_json_is_looked_into_wherever_a_value_may_stand(operator: str, around: str, tool: Tool) -> None:
    def query(column: str) -> str:
        return f"SELECT {around.format(f'{column} {operator} {JSON_OPERATORS[operator]}')} FROM plans, invoices"

    assert rows(tool, query("doc"))
    for outside in ("card", "password", "plans", "invoices.card", "(SELECT card FROM invoices)", "evil('x')"):
        with pytest.raises(ToolDenied):
            rows(tool, query(outside))


@pytest.mark.parametrize(
    "array", ["ARRAY[1, 2]", "'{1,2}'::int[]", "SELECT id FROM invoices WHERE id < 3", "ARRAY[id]"]
)
@pytest.mark.parametrize("quantifier", ["ANY", "SOME", "all"])
@pytest.mark.parametrize("comparison", ["=", "<>", "<", "<=", ">", ">="])
def test_a_value_is_compared_with_all_or_any_of_several(
    comparison: str, quantifier: str, array: str, tool: Tool
) -> None:
    numbers = {
        number for [number] in rows(tool, f"SELECT id FROM invoices WHERE id {comparison} {quantifier}({array})")
    }
    compare = {"=": "__eq__", "<>": "__ne__", "<": "__lt__", "<=": "__le__", ">": "__gt__", ">=": "__ge__"}[comparison]
    over = all if quantifier == "all" else any
    assert numbers == {
        number
        for number in (1, 2, 3)
        if over(getattr(number, compare)(other) for other in ((number,) if "id]" in array else (1, 2)))
    }
    with pytest.raises(ToolDenied):
        rows(tool, f"SELECT id FROM invoices WHERE card::text {comparison} {quantifier}({array})")


#: A statement a line, none of which may be run.
OUTSIDE = (Path(__file__).parent / "refused" / "postgres.sql").read_text().splitlines()


def _state(url: str) -> Any:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT (SELECT array_agg(i ORDER BY id) FROM invoices i)::text, (SELECT last_value FROM counter),"
            " (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_largeobject_metadata)"
        ).fetchone()


@pytest.mark.parametrize("sql", OUTSIDE)
def test_what_is_outside_is_refused(sql: str, tool: Tool, url: str) -> None:
    before = _state(url)
    with pytest.raises(ToolError) as error:
        rows(tool, sql)
    said = str(error.value)
    assert "hunter2" not in said and "s3cret-word" not in said and "127.0.0.1" not in said
    # It was not the query's time that ended it: each that sleeps does so for longer than it may take.
    assert "longer than" not in said
    assert _state(url) == before


def test_what_hides_in_the_name_of_a_type_is_not_written_out(tool: Tool) -> None:
    assert rows(tool, 'SELECT 1::"int4), pg_sleep(1) --"') == [[1]]


def test_functions_and_operators_of_the_database_do_not_shadow(tool: Tool) -> None:
    """A function or operator of somebody's own that fits better is never the one that runs."""
    with pytest.raises(ToolError):
        rows(tool, "SELECT upper(id) FROM invoices")
    with pytest.raises(ToolError):
        rows(tool, "SELECT id === id FROM invoices")


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0",
        "SELECT count(*) FROM " + ", ".join(f"invoices t{i}" for i in range(18)),
    ],
)
def test_time_is_cut(sql: str, url: str) -> None:
    tool = sql_query(url, {"invoices": ["id"]}, timeout_seconds=0.4)
    started = time.monotonic()
    with pytest.raises(ToolError, match="longer than"):
        rows(tool, sql)
    assert time.monotonic() - started < 3


def test_rows_and_cells_are_cut_on_the_server(url: str, tool: Tool, call: Call) -> None:
    assert call(tool, query="SELECT v FROM long")["rows"][0][0].endswith("[cut]")
    double = "SELECT x || x FROM n WHERE length(x) < 20000000"
    big = f"WITH RECURSIVE n(x) AS (SELECT 'abcdefgh' UNION ALL {double}) SELECT x FROM n"
    cells = [row[0] for row in call(sql_query(url, {}, timeout_seconds=20), query=big)["rows"]]
    assert max(map(len, cells)) < 4_100
    answer = call(sql_query(url, {"invoices": ["id"]}, max_rows=2), query="SELECT id FROM invoices")
    assert (answer["columns"], len(answer["rows"]), answer["truncated"]) == (["id"], 2, True)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'xxxxxxxxx' FROM n"
    assert call(sql_query(url, {}, max_bytes=500), query=endless)["truncated"]


def test_a_lock_is_not_waited_for(url: str) -> None:
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE invoices IN ACCESS EXCLUSIVE MODE")
        started = time.monotonic()
        with pytest.raises(ToolError, match="longer than"):
            rows(sql_query(url, {"invoices": ["id"]}, timeout_seconds=0.4), "SELECT id FROM invoices")
        assert time.monotonic() - started < 3


def test_the_transaction_is_read_only_even_from_inside(url: str, tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the first two walls gone, the third still stands."""
    from turnkeeper.tools.sql import rewrite

    for sql in (
        "SELECT nextval('public.counter')",
        "SELECT 1 FROM public.invoices FOR UPDATE",
        "WITH x AS (DELETE FROM public.invoices RETURNING *) SELECT * FROM x",
        "SELECT evil('x')",
        "SELECT * FROM users",
    ):
        before = _state(url)
        monkeypatch.setattr(rewrite, "write", lambda statement, real, sql=sql: sql)
        with pytest.raises(ToolError):
            rows(tool, "SELECT id FROM invoices")
        assert _state(url) == before


def test_the_server_that_is_not_there_is_not_named(call: Call, url: str) -> None:
    for wrong in (
        "postgresql://me:hunter2@127.0.0.1:9/secretdb",
        url.replace("/postgres", "/secretdb"),
        "postgresql://me:hunter2@127.0.0.1:9/secretdb?nonsense=1",
    ):
        with pytest.raises(ToolError) as error:
            call(sql_query(wrong, {"a": "*"}, timeout_seconds=2), query="SELECT 1")
        assert not any(word in str(error.value) for word in ("hunter2", "127.0.0.1", "secretdb", "s3cret-word"))
        assert not isinstance(error.value, ToolDenied)


def test_no_connection_stays(url: str, tool: Tool) -> None:
    for _ in range(3):
        rows(tool, "SELECT 1")
    with psycopg.connect(url) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'turnkeeper sql_query'"
        for _ in range(20):
            found = connection.execute(query).fetchone()
            connection.rollback()
            if found == (0,):
                return
            time.sleep(0.1)
    raise AssertionError("a connection stayed")
