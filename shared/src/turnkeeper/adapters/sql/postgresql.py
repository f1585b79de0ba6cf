"""PostgreSQL."""

from __future__ import annotations

from turnkeeper.adapters.sql.database import Database


class PostgresDatabase(Database):
    kind = "postgresql"

    def __init__(self, url: str, connections: int) -> None:
        super().__init__(10.0)
        raise NotImplementedError
