"""The sample's billing system: SQLite, one file a tenant, filled from ``data/`` when it is first asked for.

The files are in the machine's temporary folder. So refunds outlive a process, but not the machine: each Lambda
environment and each worker task has its own. That is honest for a sample and wrong for anything else; an agent of your
own talks to the billing system that you have.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
    with contextlib.closing(sqlite3.connect(_file(tenant_id), timeout=5, isolation_level=None)) as connection:
        connection.row_factory = sqlite3.Row
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _file(tenant_id: str) -> Path:
    file = _folder() / f"{hashlib.sha256(tenant_id.encode()).hexdigest()[:32]}.db"
    if not file.exists():
        _build(file)
    return file


def _folder() -> Path:
    """A folder that only this user can write to, though its name can be guessed."""
    folder = Path(tempfile.gettempdir()) / f"turnkeeper-support-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to somebody else")
    return folder


def _build(file: Path) -> None:
    """Complete or not there at all: built aside, and left alone where another process was faster."""
    descriptor, draft = tempfile.mkstemp(suffix=".draft", dir=file.parent)
    os.close(descriptor)
    try:
        with contextlib.closing(sqlite3.connect(draft)) as connection:
            connection.executescript(_SCHEMA)
            for table in ("customers", "invoices"):
                with (_DATA / f"{table}.csv").open(encoding="utf-8", newline="") as source:
                    header, *rows = csv.reader(source)
                places = ", ".join("?" * len(header))
                connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)  # noqa: S608 - our own names
            connection.commit()
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        Path(draft).unlink()
