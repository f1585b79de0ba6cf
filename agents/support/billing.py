"""The sample's billing system: SQLite, one file a tenant, filled from ``data/`` when it is first asked for.

The files are in the machine's temporary folder. So refunds outlive a process, but not the machine: each Lambda
environment and each worker task has its own. That is honest for a sample and wrong for anything else; an agent of your
own talks to the billing system that you have.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from .._shared.databases import built

_DATA = Path(__file__).parent / "data"
_SCHEMA = """
CREATE TABLE customers (id TEXT PRIMARY KEY, name TEXT, email TEXT, plan TEXT, since TEXT);
CREATE TABLE invoices (
    id TEXT PRIMARY KEY, customer_id TEXT REFERENCES customers, issued_on TEXT, due_on TEXT, amount_cents INTEGER,
    status TEXT, description TEXT
);
CREATE TABLE refunds (
    id TEXT PRIMARY KEY, invoice_id TEXT REFERENCES invoices, amount_cents INTEGER, reason TEXT,
    idempotency_key TEXT UNIQUE
);
"""


@contextlib.contextmanager
def billing(tenant_id: str) -> Iterator[sqlite3.Connection]:
    """A tenant's database. What is done inside is one transaction: all of it or, after an exception, nothing."""
    file = built("support", f"{hashlib.sha256(tenant_id.encode()).hexdigest()[:32]}.db", _fill)
    with contextlib.closing(sqlite3.connect(file, timeout=5, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _fill(connection: sqlite3.Connection) -> None:
    connection.executescript(_SCHEMA)
    for table in ("customers", "invoices"):
        with (_DATA / f"{table}.csv").open(encoding="utf-8", newline="") as source:
            header, *rows = csv.reader(source)
        places = ", ".join("?" * len(header))
        connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608 - our own names
