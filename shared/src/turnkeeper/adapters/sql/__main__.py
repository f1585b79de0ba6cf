"""``python -m turnkeeper.adapters.sql`` brings the database at ``TURNKEEPER_DATABASE_URL`` to the version that this
code needs: for where there is no command line, as in a job before a deployment."""

from __future__ import annotations

import os
import sys

from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.database import refusals
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.core.errors import TurnkeeperError


def main() -> None:
    try:
        database = database_of(os.environ.get("TURNKEEPER_DATABASE_URL", ""), 2)
        with refusals(database):
            made = schema.migrate(database)
    except TurnkeeperError as error:
        # What an operator has put wrong, which a trace would only hide.
        sys.exit(f"nothing was migrated: {error}")
    sys.stdout.write(f"made versions {made}\n" if made else "nothing to do\n")
    database.close()


if __name__ == "__main__":
    main()
