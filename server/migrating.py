"""Making the database's tables, as their owner; once a release, before its processes."""

from __future__ import annotations

import sys

from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.settings import Settings


def migrate() -> int:
    url = Settings.from_environment().database_url
    if url is None:
        sys.stderr.write("TURNKEEPER_DATABASE_URL is not set\n")
        return 2
    made = schema.migrate(database_of(url.get_secret_value(), 2))
    sys.stdout.write(f"made: {', '.join(map(str, made)) or 'nothing, all is there'}\n")
    return 0
