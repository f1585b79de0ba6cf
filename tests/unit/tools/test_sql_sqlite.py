"""sql_query on SQLite: what may be read, and everything that may not."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.tools.conftest import Call, context
from turnkeeper.core.tools import Tool, ToolDenied, ToolError, content_of
from turnkeeper.tools import sql_query


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sql") / "data #1?.db"
    connection = sqlite3.connect(path)
    connection.executescript(
        """
        CREATE TABLE invoices (id INTEGER PRIMARY KEY, amount REAL, customer TEXT, card TEXT);
        INSERT INTO invoices VALUES (1, 2.5, 'ann', 'hunter2-a'), (2, 3.5, 'bob', 'hunter2-b');
        INSERT INTO invoices VALUES (3, 4.5, 'cy', 'hunter2-c');
        CREATE TABLE plans (name TEXT, doc TEXT);
        INSERT INTO plans VALUES ('free', '{"seats": 1}'), ('pro', '{"seats": 9}');
        CREATE TABLE users (id INTEGER, password TEXT);
        INSERT INTO users VALUES (1, 'hunter2');
        CREATE VIEW totals AS SELECT customer, sum(amount) AS total FROM invoices GROUP BY customer;
        CREATE VIEW leaky AS SELECT password FROM users;
        CREATE TABLE odd (n, v);
        INSERT INTO odd VALUES (1, x'00ff'), (2, 9e999), (3, 'a' || char(0) || 'b'), (4, NULL), (5, 1 << 62);
        CREATE TABLE long (v TEXT);
        INSERT INTO long VALUES (printf('%.*c', 100000, 'x'));
        CREATE TABLE "Mixed Name" ("select" TEXT, "a b" TEXT);
        INSERT INTO "Mixed Name" VALUES ('s', 'ab');
        """
    )
    connection.commit()
    connection.close()
    return path


@pytest.fixture(scope="module")
def tool(path: Path) -> Tool:
    return sql_query(
        url=f"sqlite:///{str(path).replace('#', '%23')}",
        tables={"invoices": ["id", "amount", "customer"], "plans": "*"},
        timeout_seconds=2,
    )


def wide(path: Path, **keywords: Any) -> Tool:
    tables = {"odd": "*", "long": "*", "totals": "*", "Mixed Name": "*", "invoices": ["id"]}
    return sql_query(**{"url": f"sqlite:///{str(path).replace('#', '%23')}", "tables": tables, **keywords})


def rows(tool: Tool, sql: str) -> list[list[Any]]:
    answer = tool.body(context(), {"query": sql})
    assert set(answer) == {"columns", "rows", "truncated"}
    found: list[list[Any]] = answer["rows"]
    return found


READS = {
    "SELECT 1": [[1]],
    "select count(*) from invoices": [[3]],
    "SELECT * FROM invoices WHERE id = 1": [[1, 2.5, "ann"]],
    "SELECT invoices.* FROM invoices LIMIT 1": [[1, 2.5, "ann"]],
    "SELECT i.id FROM invoices AS i ORDER BY i.amount DESC LIMIT 1": [[3]],
    'SELECT "id", [amount], `customer` FROM "invoices" LIMIT 1': [[1, 2.5, "ann"]],
    "SELECT ID, Amount FROM INVOICES LIMIT 1;": [[1, 2.5]],
    "SELECT sum(amount), avg(amount), min(id), max(id) FROM invoices": [[10.5, 3.5, 1, 3]],
    "SELECT customer FROM invoices GROUP BY customer HAVING sum(amount) > 3 ORDER BY 1": [["bob"], ["cy"]],
    "WITH big AS (SELECT * FROM invoices WHERE amount > 3) SELECT count(*) FROM big": [[2]],
    "WITH a AS (SELECT id FROM invoices), b AS (SELECT id + 1 AS n FROM a) SELECT max(b.n) FROM b": [[4]],
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 4) SELECT sum(i) FROM n": [[10]],
    "WITH RECURSIVE n(i) AS (VALUES (1) UNION SELECT i + 1 FROM n WHERE i < 4) SELECT i FROM n LIMIT 1": [[1]],
    "SELECT id FROM invoices UNION SELECT 9 ORDER BY 1 DESC LIMIT 1": [[9]],
    "SELECT id FROM invoices EXCEPT SELECT 1 INTERSECT SELECT 2": [[2]],
    "SELECT id FROM invoices WHERE id IN (SELECT id FROM invoices WHERE amount > 4)": [[3]],
    "SELECT id FROM invoices AS o WHERE amount = (SELECT max(amount) FROM invoices AS i WHERE i.id <> o.id)": [],
    "SELECT (SELECT count(*) FROM plans), EXISTS (SELECT 1 FROM plans)": [[2, 1]],
    "SELECT i.id, p.name FROM invoices i JOIN plans p ON p.name = 'pro' LIMIT 1": [[1, "pro"]],
    "SELECT a.id FROM invoices a LEFT JOIN invoices b USING (id) ORDER BY 1 LIMIT 1": [[1]],
    "SELECT count(*) FROM invoices NATURAL JOIN plans": [[6]],
    "SELECT count(*) FROM invoices, plans": [[6]],
    "SELECT x.id FROM (SELECT id FROM invoices LIMIT 1) AS x": [[1]],
    "SELECT id FROM (invoices JOIN plans ON name = 'pro') LIMIT 1": [[1]],
    "SELECT rank() OVER (ORDER BY -id), lag(id) OVER w FROM invoices WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 1": [
        [3, None]
    ],
    "SELECT CASE WHEN id = 1 THEN 'one' ELSE 'more' END FROM invoices LIMIT 2": [["one"], ["more"]],
    "SELECT CAST(id AS TEXT) || 'x', -id, id % 2, NOT id FROM invoices LIMIT 1": [["1x", -1, 1, 0]],
    "SELECT name FROM plans WHERE json_extract(doc, '$.seats') > 5 AND doc ->> '$.seats' = 9": [["pro"]],
    "SELECT max(doc -> '$.seats'), min(doc ->> 'seats'), coalesce(doc -> '$.a' -> '$.b', '{}') FROM plans": [
        ["9", 1, "{}"]
    ],
    "SELECT id FROM invoices WHERE customer LIKE 'a%' AND customer GLOB 'a*' AND customer NOT IN ('x')": [[1]],
    "SELECT id FROM invoices WHERE amount BETWEEN 3 AND 4 AND customer IS NOT NULL": [[2]],
    "SELECT strftime('%Y', '2026-02-03'), date('2026-02-03', '+1 day')": [["2026", "2026-02-04"]],
    "SELECT upper('a'), substr('abc', 2), instr('abc', 'c'), replace('a', 'a', 'b'), round(1.26, 1), abs(-1)": [
        ["A", "bc", 3, "b", 1.3, 1]
    ],
    "SELECT iif(1, 2, 3), ifnull(NULL, 4), coalesce(NULL, 5), nullif(1, 1), typeof(1), max(1, 2)": [
        [2, 4, 5, None, "integer", 2]
    ],
    "SELECT count(*) FILTER (WHERE amount > 3), group_concat(customer, '|') FROM invoices": [[2, "ann|bob|cy"]],
    "SELECT customer FROM invoices ORDER BY customer COLLATE NOCASE DESC NULLS LAST LIMIT 1": [["cy"]],
    "SELECT 'it''s', 'a -- b', '/* c */', 'd;e', '\\' -- so\n /* over */": [["it's", "a -- b", "/* c */", "d;e", "\\"]],
    "/*! SELECT password FROM users */ SELECT 1": [[1]],
    "SELECT 1; -- over": [[1]],
    "VALUES (1, 'a'), (2, 'b')": [[1, "a"], [2, "b"]],
    "WITH users AS (SELECT 1 AS id) SELECT * FROM users": [[1]],
    "WITH sqlite_master AS (SELECT 7) SELECT * FROM sqlite_master": [[7]],
}


@pytest.mark.parametrize("sql", READS)
def test_what_is_allowed_is_answered(sql: str, tool: Tool) -> None:
    assert rows(tool, sql) == READS[sql]


#: A statement a line, none of which may be run.
OUTSIDE = (Path(__file__).parent / "refused" / "sqlite.sql").read_text().splitlines()


@pytest.mark.parametrize("sql", OUTSIDE)
def test_what_is_outside_is_refused(sql: str, tool: Tool, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(ToolError) as error:
        rows(tool, sql)
    assert "hunter2" not in str(error.value) and str(path) not in str(error.value)
    assert path.read_bytes() == before
    assert not Path("/tmp/x.db").exists()


DENIED_BY_NAME = [
    "SELECT card FROM invoices",
    "SELECT * FROM users",
    "DELETE FROM invoices",
    "SELECT load_extension('x')",
    "SELECT 1; SELECT 2",
    "PRAGMA database_list",
    "SELECT card AS card FROM invoices",
    ".shell id",
    "SELECT * FROM (DELETE FROM invoices RETURNING *)",
    "SELECT 1; .shell id",
]


@pytest.mark.parametrize("sql", DENIED_BY_NAME)
def test_a_refusal_is_denied_and_says_what_is_allowed(sql: str, tool: Tool) -> None:
    with pytest.raises(ToolDenied, match=r"[Aa]llowed"):
        rows(tool, sql)
    with pytest.raises(ToolDenied, match=r"invoices\(id, amount, customer\); plans\(all columns\)"):
        rows(tool, "SELECT card FROM invoices")


@pytest.mark.parametrize(
    "sql", ["", " ", ";", "--", "/* x */", "\0", "SELECT 1\0", "SELECT\x0b1", "SELECT '\u202e'", "\ufeffSELECT 1"]
)
def test_nothing_and_invisible_things(sql: str, tool: Tool) -> None:
    with pytest.raises(ToolDenied):
        rows(tool, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "(" * 500 + "1" + ")" * 500,
        "SELECT " + "NOT " * 4000 + "1",
        "SELECT " + "-" * 1 + " - " * 5000 + "1",
        "SELECT " + "1+" * 9000 + "1",
        "SELECT " + "CASE WHEN 1 THEN " * 800 + "1" + " END" * 800,
        "SELECT " + "1," * 9000 + "1",
        " UNION ".join(["SELECT 1"] * 1500),
        "SELECT '" + "x" * 50_000 + "'",
        "SELECT 1 WHERE " + " OR ".join(["1 = 1"] * 2000),
        "SELECT " + "(SELECT " * 55 + "1" + ")" * 55,
        "WITH " + ", ".join(f"c{i} AS (SELECT 1)" for i in range(700)) + " SELECT 1",
    ],
    ids=range(11),
)
def test_depth_and_length_end_in_words(sql: str, tool: Tool) -> None:
    started = time.monotonic()
    with contextlib.suppress(ToolError):
        rows(tool, sql)
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n",
        "SELECT count(*) FROM " + ", ".join(f"invoices t{i}" for i in range(30)),
        "WITH RECURSIVE n(x) AS (SELECT 'aaaaaaaa' UNION ALL SELECT x || x FROM n) SELECT max(length(x)) FROM n",
    ],
)
def test_time_is_cut(sql: str, path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ToolError, match=r"longer than|too big"):
        rows(wide(path, timeout_seconds=0.3), sql)
    assert time.monotonic() - started < 3


def test_the_pattern_of_like_is_not_a_way_to_stall(tool: Tool) -> None:
    started = time.monotonic()
    rows(tool, "SELECT '" + "a" * 5000 + "' LIKE '" + "%a" * 200 + "b'")
    assert time.monotonic() - started < 4


def test_rows_cells_and_bytes_are_cut(path: Path, tool: Tool, call: Call) -> None:
    few = wide(path, max_rows=2)
    answer = call(few, query="SELECT * FROM odd ORDER BY n")
    assert (len(answer["rows"]), answer["truncated"]) == (2, True)
    assert call(few, query="SELECT id FROM invoices LIMIT 2")["truncated"] is False
    (value,) = call(wide(path), query="SELECT v FROM long")["rows"][0]
    assert len(value) < 4_100 and value.endswith("[cut]")
    small = wide(path, max_bytes=500)
    answer = call(
        small, query="WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 'xxxxxxxxx' FROM n"
    )
    assert answer["truncated"] and len(answer["rows"]) < 50


def test_odd_values_are_json(path: Path, call: Call) -> None:
    answer = call(wide(path), query="SELECT v FROM odd ORDER BY n")
    assert answer["rows"] == [["\\x00ff"], ["inf"], ["a\ufffdb"], [None], [1 << 62]]
    assert content_of(answer)[0]["type"] == "text"


def test_a_listed_view_is_read_with_what_it_reads(path: Path, call: Call) -> None:
    assert call(wide(path), query="SELECT total FROM totals WHERE customer = 'ann'")["rows"] == [[2.5]]
    for sql in (
        "SELECT amount FROM invoices",
        "SELECT amount FROM totals",
        "SELECT totals.card FROM totals",
        "WITH leaky AS (SELECT card FROM invoices) SELECT * FROM leaky, totals",
    ):
        with pytest.raises(ToolDenied):
            call(wide(path), query=sql)


def test_names_that_need_quotes(path: Path, call: Call) -> None:
    assert call(wide(path), query='SELECT "select", [a b] FROM `Mixed Name`') == {
        "columns": ["select", "a b"],
        "rows": [["s", "ab"]],
        "truncated": False,
    }


def test_the_database_cannot_be_written_even_from_inside(
    path: Path, monkeypatch: pytest.MonkeyPatch, tool: Tool
) -> None:
    """With the first two walls gone, the third still stands."""
    from turnkeeper.tools.sql import rewrite

    for sql in (
        "DELETE FROM invoices",
        "SELECT card FROM invoices",
        "SELECT * FROM users",
        "ATTACH ':memory:' AS x",
        "SELECT load_extension('x')",
        "PRAGMA query_only=OFF",
        "SELECT name FROM sqlite_master",
        "CREATE TEMP TABLE x (y)",
        "SELECT * FROM pragma_database_list",
        "SELECT name, rowid FROM users",
    ):
        monkeypatch.setattr(rewrite, "write", lambda statement, real, sql=sql: sql)
        with pytest.raises(ToolError):
            rows(tool, "SELECT id FROM invoices")


def test_a_lock_is_not_waited_for(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    started = time.monotonic()
    try:
        with pytest.raises(ToolError, match="longer than"):
            rows(wide(path, timeout_seconds=0.3), "SELECT 1 FROM invoices")
    finally:
        other.execute("ROLLBACK")
        other.close()
    assert time.monotonic() - started < 3


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = sql_query(url="sqlite:///data.db", tables={"a": "*"})
    with pytest.raises(ToolError) as error:
        call(missing, query="SELECT 1")
    assert not (tmp_path / "data.db").exists() and str(tmp_path) not in str(error.value)
    (tmp_path / "data.db").write_text("this is not a database, " * 100)
    with pytest.raises(ToolError, match="cannot be read"):
        call(missing, query="SELECT * FROM a")
    (tmp_path / "data.db").unlink()
    sqlite3.connect(tmp_path / "data.db").executescript("CREATE TABLE a (b); INSERT INTO a VALUES (1);")
    assert call(missing, sql="SELECT * FROM a")["rows"] == [[1]]
    monkeypatch.chdir("/")
    assert call(sql_query("sqlite:///data.db", {"a": "*"}, base=tmp_path), query="SELECT * FROM a")["rows"] == [[1]]
    assert call(
        sql_query(lambda: f"sqlite:///{tmp_path}/data.db", {"a": "*"}, dialect="sqlite"), query="SELECT b FROM a"
    )
    with pytest.raises(ToolError, match="not in the database"):
        call(sql_query("sqlite:///data.db", {"a": ["c"]}, base=tmp_path), query="SELECT 1 FROM a")


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "sqlite://", "tables": {}},
        {"url": "sqlite:///", "tables": {}},
        {"url": "sqlite:///:memory:", "tables": {}},
        {"url": "mysql://x/y", "tables": {}},
        {"url": "file:x", "tables": {}},
        {"url": "sqlite:///x", "tables": {"a": "b"}},
        {"url": "sqlite:///x", "tables": {}, "max_rows": 0},
        {"url": "sqlite:///x", "tables": {}, "timeout_seconds": 0},
        {"url": lambda: "sqlite:///x", "tables": {}},
    ],
)
def test_what_cannot_be_is_refused_when_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        sql_query(**wrong)


def test_a_password_in_the_url_is_told_to_nobody() -> None:
    with pytest.raises(ValueError, match=r".+") as error:
        sql_query("mysql://me:hunter2@x/y", {})
    assert "hunter2" not in str(error.value)
    tool = sql_query("postgresql://me:hunter2@x/y", {"a": "*"})
    assert "hunter2" not in repr(tool) and "hunter2" not in tool.description


def test_a_mistake_is_no_refusal(tool: Tool) -> None:
    for sql in ("SELECT FROM WHERE", "SELECT 1 +", "SELECT (1", "SELECT upper(1, 2, 3) FROM plans", "SELECT 'open"):
        with pytest.raises(ToolError) as error:
            rows(tool, sql)
        assert not isinstance(error.value, ToolDenied)


def test_wrong_arguments(tool: Tool, call: Call) -> None:
    for wrong in ({}, {"query": 1}, {"query": "SELECT 1", "x": 1}, {"query": ["SELECT 1"]}, {"query": None}):
        with pytest.raises(ValidationError):
            call(tool, **wrong)
    assert tool.schema()["required"] == ["query"]


_WORDS = """-> ->> ? all( some( coalesce(
SELECT FROM WHERE card users invoices id amount * , ( ) . ; ' " ` [ ] -- /* */ UNION WITH AS IN main rowid
sqlite_master load_extension ( 1 = || JOIN USING ORDER BY LIMIT NATURAL EXISTS NOT NULL CASE WHEN END OVER i x VALUES"""
_TOKENS = st.sampled_from(_WORDS.split())


@settings(max_examples=300)
@given(st.lists(_TOKENS, max_size=14).map(" ".join))
def test_whatever_is_put_together_reads_nothing_else(sql: str) -> None:
    tool = sql_query(f"sqlite:///{_FIXED}", {"invoices": ["id", "amount"], "plans": "*"})
    try:
        answer = tool.body(context(), {"query": f"SELECT {sql}"})
    except ToolError as error:
        assert "hunter2" not in str(error)
        return
    assert "hunter2" not in repr(answer["rows"]) and "CREATE TABLE" not in repr(answer["rows"])


_FIXED = ""


@pytest.fixture(autouse=True, scope="module")
def _fixed(path: Path) -> None:
    global _FIXED
    _FIXED = str(path).replace("#", "%23")


def test_importing_the_tools_is_light() -> None:
    program = (
        "import sys; import turnkeeper.tools as t\n"
        "t.http_fetch(domains=['a.org']); t.sql_query('postgresql://x/y', {'a': '*'}); t.shell({'ls': []}, 'w')\n"
        "t.read_files('s3://b/p'); t.mcp_tools('http://x/', ['a'])\n"
        "heavy = {'sqlglot','httpx2','httpcore2','mcp','mcp_types','psycopg','boto3','anthropic','idna'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
