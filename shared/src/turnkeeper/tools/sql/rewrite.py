"""The second wall: the statement is rebuilt so that it cannot name anything but allowed columns.

Every listed table is replaced by ``(SELECT allowed, columns FROM schema.table) AS alias``. With that, ``*``, NATURAL
JOIN, whole rows, system columns and whatever a database resolves in its own way see the allowed columns and no
others. Every CTE gets a name of ours, so that a reference out of a CTE's scope finds nothing instead of a real table.

Imports sqlglot: import this module inside a call only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import ErrorLevel, SqlglotError

from turnkeeper.core.tools import ToolDenied, ToolError
from turnkeeper.tools._common import shown
from turnkeeper.tools.sql import guard
from turnkeeper.tools.sql.guard import Tables

CTE_PREFIX = "turnkeeper_cte_"


@dataclass(frozen=True)
class RealTable:
    """A listed table as it stands in the database: where it is, and which of its columns may be read."""

    schema: str
    name: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Statement:
    """A statement that has passed the first wall, not yet bound to a database."""

    tree: exp.Expression
    tables: Tables
    #: Keys of the listed tables that it reads.
    keys: frozenset[str]


def read(sql: str, tables: Tables) -> Statement:
    """Parse and check what can be checked without a database.

    Raises:
        ToolDenied: something in it is not allowed.
        ToolError: it cannot be parsed.
    """
    tree = guard.parse(sql, tables.dialect)
    guard.check(tree)
    ctes = _cte_names(tree, tables)
    keys = set()
    for table in tree.find_all(exp.Table):
        if _is_cte(table, ctes, tables):
            continue
        key = tables.find(table)
        if key is None:
            raise guard.unknown_table(table, tables)
        keys.add(key)
    return Statement(tree, tables, frozenset(keys))


def write(statement: Statement, real: Mapping[str, RealTable]) -> str:
    """The SQL to run, written from the parse, and checked again as a database will read it.

    Raises:
        ToolDenied: it reads a column that is not allowed.
        ToolError: it holds something that cannot be written out faithfully.
    """
    tables = statement.tables
    _check_columns(statement, real)
    tree = statement.tree.copy()
    ctes = _cte_names(tree, tables)
    for table in list(tree.find_all(exp.Table)):
        if _is_cte(table, ctes, tables):
            _alias(table, table.name)
            table.this.set("this", ctes[tables.fold(table.name)])
        else:
            key = tables.find(table)
            if key is None:
                raise guard.unknown_table(table, tables)
            table.replace(_allowed_columns(table, real[key]))
    for cte in tree.find_all(exp.CTE):
        cte.args["alias"].this.set("this", ctes[tables.fold(cte.alias)])
    try:
        sql = _dialect(tables.dialect).generate(tree, comments=False, unsupported_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise ToolError(f"This cannot be run here: {str(error)[:200]}") from error
    _check_written(sql, tables, real, frozenset(ctes.values()))
    return sql


def _cte_names(tree: exp.Expr, tables: Tables) -> dict[str, str]:
    """Every CTE's folded name to the name of ours that it gets."""
    names: dict[str, str] = {}
    for cte in tree.find_all(exp.CTE):
        name = tables.fold(cte.alias)
        if name in names or any(tables.same(cte.alias, key) for key in tables.columns):
            raise ToolDenied(f"The name {shown(cte.alias)} in WITH is taken. Give every WITH query a name of its own.")
        names[name] = f"{CTE_PREFIX}{len(names) + 1}"
    return names


def _is_cte(table: exp.Table, ctes: Mapping[str, str], tables: Tables) -> bool:
    return not table.db and tables.fold(table.name) in ctes


def _alias(table: exp.Table, name: str) -> exp.TableAlias:
    alias = table.args.get("alias")
    if not isinstance(alias, exp.TableAlias):
        alias = exp.TableAlias()
        table.set("alias", alias)
    if not alias.this:
        alias.set("this", exp.to_identifier(name, quoted=True))
    return alias


def _allowed_columns(table: exp.Table, real: RealTable) -> exp.Subquery:
    query = exp.Select(
        expressions=[exp.column(exp.to_identifier(column, quoted=True)) for column in real.columns],
        from_=exp.From(this=_real(real)),
    )
    return exp.Subquery(this=query, alias=_alias(table, table.name).copy(), joins=table.args.get("joins"))


def _real(real: RealTable) -> exp.Table:
    return exp.Table(this=exp.to_identifier(real.name, quoted=True), db=exp.to_identifier(real.schema, quoted=True))


def _check_columns(statement: Statement, real: Mapping[str, RealTable]) -> None:
    """A column must be an allowed one of a table that is read, or a name that the statement itself gives.

    For the words of the refusal: the wall is the subquery, in which no other column exists.
    """
    tables, tree = statement.tables, statement.tree
    known = {tables.fold(column) for key in statement.keys for column in real[key].columns}
    known |= {tables.fold(alias.alias) for alias in tree.find_all(exp.Alias)}
    sources: set[str] = set()
    for alias in tree.find_all(exp.TableAlias):
        known |= {tables.fold(column.name) for column in alias.columns}
        sources.add(tables.fold(alias.name))
    sources |= {tables.fold(table.name) for table in tree.find_all(exp.Table)}
    for column in tree.find_all(exp.Column):
        if isinstance(column.this, exp.Star):
            continue
        name = tables.fold(column.name)
        if name not in known:
            what = (
                "A whole row as a value" if name in sources and not column.table else f"The column {shown(column.name)}"
            )
            raise unknown_column(what, tables)


def unknown_column(what: str, tables: Tables) -> ToolDenied:
    return ToolDenied(f"{what} is not allowed. Allowed: {tables.allowed()}.")


def _dialect(name: str) -> Dialect:
    dialect = Dialect.get_or_raise(name)
    if name == "sqlite":
        # SQLite reads "x" as the text 'x' where no column x exists; with backticks it says so instead.
        dialect.IDENTIFIER_START = dialect.IDENTIFIER_END = "`"
    return dialect


def _check_written(sql: str, tables: Tables, real: Mapping[str, RealTable], cte_names: frozenset[str]) -> None:
    """Parse what was written and hold it against the lists again: here, tables may only stand in our subqueries."""
    tree = guard.parse(sql, tables.dialect)
    guard.check(tree)
    guard.check_written(sql, tables.dialect, cte_names)
    places = {(table.schema, table.name): set(table.columns) for table in real.values()}
    for table in tree.find_all(exp.Table):
        if not table.db and table.name in cte_names:
            continue
        query = table.find_ancestor(exp.Select)
        columns = places.get((table.db, table.name))
        if (
            columns is None
            or query is None
            or any(not isinstance(column, exp.Column) or column.name not in columns for column in query.expressions)
            or {part for part, value in query.args.items() if value} != {"expressions", "from_"}
        ):
            raise ToolDenied(f"This statement cannot be confined to the allowed tables. Allowed: {tables.allowed()}.")


__all__ = ["RealTable", "Statement", "read", "unknown_column", "write"]
