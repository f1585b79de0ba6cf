"""A SELECT that has to do with a question, over the tables that a tool's description names as `table(column, ...)`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from turnkeeper_local.standin.behaving.reading import Question, stems

_TABLE = re.compile(r"\b([A-Za-z_][\w.]*)\(([^()]{1,2000})\)")
_COLUMN = re.compile(r"[A-Za-z_]\w*")
_SELECT = re.compile(r"\bSELECT\b[^\n;`\"]+", re.IGNORECASE)
_COUNTS = re.compile(r"\b(?:most|fewest|least|how many|count|number of)\b", re.IGNORECASE)
_FEWEST = re.compile(r"\b(?:fewest|least|lowest|smallest)\b", re.IGNORECASE)
_EXTREME = re.compile(r"\b(?:highest|lowest|largest|smallest|biggest|oldest|newest|latest|top)\b", re.IGNORECASE)
_ROWS = 5


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: tuple[str, ...]

    def asked_for(self, question: Question) -> list[str]:
        return [column for column in self.columns if stems(column) & question.stems]


def takes_sql(name: str, about: str) -> bool:
    """Whether an argument of this name, described so, is a statement of SQL."""
    return name.lower() in {"query", "sql", "statement"} and re.search(r"\b(?:SQL|SELECT)\b", about) is not None


def statements(about: str, question: Question) -> Iterator[str]:
    """Statements to try, the one that fits best first; an example in the description before a bare `SELECT 1`."""
    tables = sorted(_tables(about), key=lambda table: _fit(table, question), reverse=True)
    if tables:
        yield _statement(tables[0], question)
    yield from (found.strip() for found in _SELECT.findall(about) if " from " in found.lower())
    yield "SELECT 1"


def _tables(about: str) -> list[_Table]:
    found = []
    for name, inner in _TABLE.findall(about):
        columns = [column.strip() for column in inner.split(",")]
        if inner.strip() == "all columns":
            found.append(_Table(name, ()))
        elif all(_COLUMN.fullmatch(column) for column in columns):
            found.append(_Table(name, tuple(columns)))
    return found


def _fit(table: _Table, question: Question) -> int:
    return 3 * len(stems(table.name) & question.stems) + len(table.asked_for(question))


def _statement(table: _Table, question: Question) -> str:
    """No data of anybody's gets into it, only names that the tool itself has told; and the tool guards what it runs."""
    asked = table.asked_for(question)
    order = "ASC" if _FEWEST.search(question.text) else "DESC"
    by = next((column for column in asked if not stems(column) <= stems(table.name)), None)
    if _COUNTS.search(question.text):
        if by is None:
            return _joined("SELECT COUNT(*) AS number FROM", table.name)
        counted = _joined("SELECT", f"{by},", "COUNT(*) AS number FROM", table.name, "GROUP BY", by)
        return _joined(counted, "ORDER BY number", order, "LIMIT", str(_ROWS))
    rows = _joined("SELECT", _listed(table, asked), "FROM", table.name)
    if asked and _EXTREME.search(question.text):
        rows = _joined(rows, "WHERE", asked[-1], "IS NOT NULL ORDER BY", asked[-1], order)
    return _joined(rows, "LIMIT", str(_ROWS))


def _joined(*parts: str) -> str:
    return " ".join(parts)


def _listed(table: _Table, asked: Sequence[str]) -> str:
    """What is asked for, beside what the rows are called."""
    if not table.columns:
        return "*"
    called = [column for column in table.columns if column in {"id", "name", "title"}][:2]
    return ", ".join(dict.fromkeys([*called, *asked] or table.columns[:_ROWS]))
