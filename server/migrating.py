"""Making the database's tables, and saying who may use them: as their owner, once a release, before its processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.database import refusals
from turnkeeper.adapters.sql.opening import database_of

_GRANTS = Path(__file__).with_name("grants.sql")


def migrate() -> int:
    database = database_of(os.environ.get("TURNKEEPER_DATABASE_URL", ""), 2)
    with refusals(database):
        made = schema.migrate(database)
    sys.stdout.write(f"made versions {made}\n" if made else "nothing to do\n")
    if database.kind == "postgresql":
        database.write(lambda statements, _: statements.many(_GRANTS.read_text(), [()]))
    database.close()
    return 0
