"""The first wall: a statement is refused unless every part of it is on an allow-list.

Nothing here knows a database. Imports sqlglot: import this module inside a call only.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.parser import Parser
from sqlglot.parsers.postgres import PostgresParser
from sqlglot.parsers.sqlite import SQLiteParser
from sqlglot.tokenizer_core import TokenType

from turnkeeper.core.tools import ToolDenied, ToolError
from turnkeeper.tools._common import listed, shown
from turnkeeper.tools.sql import vocabulary as words

# The parser's warnings repeat the statement, which may hold what a log must not; what is wrong with it is answered
# anyway.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

MAX_SQL_CHARS = 20_000
MAX_NESTING = 60
MAX_NODES = 5_000
ONE_SELECT = "Exactly one reading statement is allowed: SELECT, WITH ... SELECT, UNION/INTERSECT/EXCEPT or VALUES."

_CLASSES = tuple(getattr(exp, name) for name in words.NODES)
_FUNCTIONS = tuple(
    kind for kind in exp.ALL_FUNCTIONS if not words.FUNCTIONS.isdisjoint(name.lower() for name in kind.sql_names())
)
#: Only for the words about what could not be parsed, and so will not run: a mistake, or something else than reading?
_READS = re.compile(r"[\s(]*(select|with|values|table)\b", re.IGNORECASE)
_WRITES = re.compile(
    r"\b(insert|update|delete|merge|drop|alter|create|truncate|attach|pragma|copy|grant)\b", re.IGNORECASE
)
_STATEMENTS = (exp.Select, exp.SetOperation, exp.Subquery, exp.Values)
#: No quotes, brackets, backslashes or controls: such an identifier could end itself where it is written out.
_IDENTIFIER = re.compile(r"[^\x00-\x1f\x7f\"'`\[\]\\;]{1,128}")
#: Written out as it is, so it must not hold anything but a word.
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TABLE_PARTS = frozenset({"this", "db", "alias", "joins"})
_IN_PARTS = frozenset({"this", "expressions", "query"})


class _Postgres(PostgresParser):
    """Neither dialect has lambdas, but sqlglot reads ``f(a -> 'x')`` as one in both."""

    LAMBDAS: ClassVar[dict[TokenType, Any]] = {}


class _SQLite(SQLiteParser):
    LAMBDAS: ClassVar[dict[TokenType, Any]] = {}


_PARSERS: Mapping[str, type[Parser]] = {"postgres": _Postgres, "sqlite": _SQLite}


@dataclass(frozen=True)
class Tables:
    """The listed tables. Keys and columns are compared as the dialect compares names."""

    dialect: str
    #: Table (``name`` or ``schema.name``) to its allowed columns; None for all of them.
    columns: Mapping[str, tuple[str, ...] | None]

    def find(self, table: exp.Table) -> str | None:
        """The key of a table that is listed, else None. A schema must be written exactly where the list has it."""
        written = f"{table.db}.{table.name}" if table.db else table.name
        for key in self.columns:
            if self.same(key, written):
                return key
        return None

    def same(self, one: str, other: str) -> bool:
        return self.fold(one) == self.fold(other)

    def fold(self, name: str) -> str:
        return name.lower() if self.dialect == "sqlite" else name

    def allowed(self) -> str:
        """What is allowed, in the words of a message."""
        return (
            "; ".join(
                f"{table}({', '.join(columns)})" if columns is not None else f"{table}(all columns)"
                for table, columns in self.columns.items()
            )
            or "no table"
        )


def parse(sql: str, dialect: str) -> exp.Expression:
    """The one statement in the text, as the dialect reads it, with all names quoted and folded.

    Raises:
        ToolDenied: no statement, more than one, or not a reading one.
        ToolError: the text is not SQL of this dialect.
    """
    if len(sql) > MAX_SQL_CHARS:
        raise ToolDenied(f"A statement may have at most {MAX_SQL_CHARS} characters.")
    if any(not c.isprintable() and c not in "\t\n\r" for c in sql):
        raise ToolDenied("The statement holds control or invisible characters. Plain text is allowed.")
    if _nesting(sql) > MAX_NESTING:
        raise ToolDenied(f"A statement may nest at most {MAX_NESTING} parentheses.")
    try:
        parsed = _PARSERS[dialect](dialect=dialect).parse(sqlglot.tokenize(sql, read=dialect), sql)
        # A comment after the last semicolon comes as a Semicolon.
        statements = [part for part in parsed if part is not None and not isinstance(part, exp.Semicolon)]
        if len(statements) != 1:
            raise ToolDenied(ONE_SELECT)
        tree = statements[0]
        if not isinstance(tree, _STATEMENTS):
            raise ToolDenied(f"{_name(tree)} is not allowed. {ONE_SELECT}")
        fold_names(tree, dialect)
    except SqlglotError as error:
        if not _READS.match(sql) or _WRITES.search(sql) or ";" in sql.rstrip().rstrip(";"):
            raise ToolDenied(ONE_SELECT) from error
        raise ToolError(f"This is not {dialect} SQL that can be read here: {_first_line(error)}") from error
    except RecursionError:
        raise ToolDenied("The statement is nested too deeply.") from None
    if not isinstance(tree, exp.Expression):
        raise ToolDenied(ONE_SELECT)
    return tree


def _nesting(sql: str) -> int:
    depth = deepest = 0
    for c in sql:
        depth += (c in "([") - (c in ")]")
        deepest = max(deepest, depth)
    return deepest


def _first_line(error: Exception) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split("\n", 1)[0][:200]


def fold_names(tree: exp.Expr, dialect: str) -> None:
    """Quote every name, in the case that the database would give it: keywords and case tricks end here."""
    for name in tree.find_all(exp.Identifier):
        if not name.args.get("quoted"):
            if dialect == "postgres":
                # PostgreSQL folds ASCII; what it does with other letters depends on its locale, so they stay.
                name.set("this", re.sub("[A-Z]+", lambda m: m[0].lower(), name.this))
            name.set("quoted", True)


def check(tree: exp.Expr) -> None:
    """Every node, function, type and name must be on the lists.

    Raises:
        ToolDenied: one is not; says which.
    """
    for count, node in enumerate(tree.walk()):
        if count > MAX_NODES:
            raise ToolDenied(f"A statement may have at most {MAX_NODES} parts.")
        if isinstance(node, exp.Anonymous):
            _check_function_name(node)
        elif isinstance(node, _CLASSES):
            _check_node(node)
        elif not isinstance(node, _FUNCTIONS):
            hint = _functions() if isinstance(node, exp.Func) else ONE_SELECT
            raise ToolDenied(f"{_name(node)} is not allowed. {hint}")


def _check_function_name(node: exp.Anonymous) -> None:
    if _is_quantifier(node):
        return
    # A quoted name arrives as an Identifier; no function on the list needs quotes.
    if not isinstance(node.this, str) or node.this.lower() not in words.FUNCTIONS:
        raise ToolDenied(f"The function {shown(node.name)} is not allowed. {_functions()}")


def _is_quantifier(node: exp.Anonymous) -> bool:
    """Whether this is ``x <> all(array)``, which arrives like a function; ``any`` has a node of its own."""
    compared = isinstance(node.parent, exp.Predicate) and node.arg_key == "expression"
    return compared and isinstance(node.this, str) and node.this.lower() in words.QUANTIFIERS


def _functions() -> str:
    return "Allowed are common aggregates, window functions, and functions on text, numbers, dates and JSON."


def _check_node(node: exp.Expr) -> None:
    for kind, problem in _PROBLEMS:
        if isinstance(node, kind) and (reason := problem(node)):
            raise ToolDenied(f"{reason} is not allowed.")


def _identifier_problem(node: exp.Expr) -> str | None:
    plain_name = _IDENTIFIER.fullmatch(node.name)
    return None if plain_name else "A name with quotes, brackets, backslashes or control characters"


def _word_problem(node: exp.Expr) -> str | None:
    return None if _WORD.fullmatch(node.name) else f"The word {shown(node.name)}"


def _column_problem(node: exp.Expr) -> str | None:
    if node.args.get("db") or node.args.get("catalog"):
        return "A column with a schema before its table (write table.column)"
    return "The (+) join mark" if node.args.get("join_mark") else None


def _star_problem(node: exp.Expr) -> str | None:
    if any(node.args.values()):
        return "A star with EXCEPT, REPLACE or RENAME"
    # As a value, t.* is a whole row.
    holder = node.parent.parent if isinstance(node.parent, exp.Column) else node.parent
    return None if isinstance(holder, exp.Select | exp.Count) else "A whole row as a value"


def _in_problem(node: exp.Expr) -> str | None:
    others = any(value for part, value in node.args.items() if part not in _IN_PARTS)
    return "IN with anything but a list or a subquery" if others else None


def _type_problem(node: exp.Expr) -> str | None:
    known = isinstance(node.this, exp.DataType.Type) and node.this.name in words.TYPES
    return None if known else "A cast to this type"


def _collation_problem(node: exp.Expr) -> str | None:
    return None if node.expression.name.lower() in words.COLLATIONS else "This collation"


def _table_problem(node: exp.Expr) -> str | None:
    if not isinstance(node.this, exp.Identifier):
        return "A function in FROM"
    if node.args.get("catalog"):
        return "A database before schema and table"
    if any(value for part, value in node.args.items() if part not in _TABLE_PARTS):
        return "An option after a table (ONLY, INDEXED BY, TABLESAMPLE, ...)"
    return None


_PROBLEMS: tuple[tuple[type[exp.Expr], Callable[[exp.Expr], str | None]], ...] = (
    (exp.Identifier, _identifier_problem),
    (exp.Var, _word_problem),
    (exp.Column, _column_problem),
    (exp.Star, _star_problem),
    (exp.Table, _table_problem),
    (exp.In, _in_problem),
    (exp.DataType, _type_problem),
    (exp.Collate, _collation_problem),
)


def _name(node: exp.Expr) -> str:
    kind = type(node).__name__
    if kind in words.WORDS:
        word = words.WORDS[kind]
        return word[0].upper() + word[1:]
    if isinstance(node, exp.Func):
        return f"The function {node.sql_name().lower()}"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", kind).upper()


def check_written(sql: str, dialect: str, cte_names: frozenset[str]) -> None:
    """The last look at the text that will run: nothing is called in it but listed functions, and it is one statement.

    This reads words, not the tree: where writing a tree gives another function than the tree seemed to hold, it shows
    here.

    Raises:
        ToolDenied: something stands before a parenthesis that is neither a listed function nor part of the language.
    """
    tokens = sqlglot.tokenize(sql, read=dialect)
    for index, token in enumerate(tokens):
        if token.token_type == TokenType.SEMICOLON:
            raise ToolDenied(ONE_SELECT)
        if index + 1 == len(tokens) or tokens[index + 1].token_type != TokenType.L_PAREN:
            continue
        if token.token_type == TokenType.IDENTIFIER:
            # A quoted name calls a function, unless it names the columns of an alias.
            called = token.text not in cte_names and tokens[index - 1].token_type != TokenType.ALIAS
        else:
            # A word of several (GROUPING SETS, WITHIN GROUP) is one token; its last word stands before the parenthesis.
            called = not {token.text.lower(), *token.text.lower().split()[-1:]} & (words.FUNCTIONS | words.KEYWORDS)
        if called:
            raise ToolDenied(f"{shown(token.text)} is not an allowed function. {_functions()}")


def unknown_table(table: exp.Table, tables: Tables) -> ToolDenied:
    written = f"{table.db}.{table.name}" if table.db else table.name
    return ToolDenied(f"The table {shown(written)} is not allowed. Allowed: {listed([tables.allowed()])}.")
