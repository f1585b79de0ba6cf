"""``python -m turnkeeper.adapters.sql`` brings the database at ``TURNKEEPER_DATABASE_URL`` to the version that this
code needs: for where there is no command line, as in a job before a deployment."""

from __future__ import annotations

import os
import sys

from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.opening import database_of


def main() -> None:
    database = database_of(os.environ.get("TURNKEEPER_DATABASE_URL", ""), 2)
    made = schema.migrate(database)
    sys.stdout.write(f"made versions {made}\n" if made else "nothing to do\n")
    database.close()


if __name__ == "__main__":
    main()
