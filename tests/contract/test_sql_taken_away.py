"""A PostgreSQL that refuses in the middle of a turn what it let the process do before: somebody has taken it away, and
may give it back. What the model answered until then was paid for."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

import psycopg
import pytest

from tests.support import postgresql as servers
from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import ScriptedModel, begin, check_session, reply, say, states, use
from turnkeeper import Agent, tool
from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.blobs import SqlBlobs
from turnkeeper.adapters.sql.database import Database, UnsuitableDatabase
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.core.errors import LeaseLost
from turnkeeper.runtime.store.sessions import SKEW_MILLIS
from turnkeeper.table import Key, Put

pytestmark = pytest.mark.timeout(120)

#: How long it stays away: longer than the store asks again by itself.
_AWAY_SECONDS = 1.0
_STORE_SECONDS = 0.4
#: Characters by chance, which no compression makes small enough to be kept in the item.
_LARGE = 140_000


class Taken(NamedTuple):
    """What an operator does to the database of the role ``app``, and how it is undone."""

    state: str
    taken: str
    given: str
    #: Connections that are open stay as they are.
    anew: bool = False


_CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}' AND usename = '{role}'"
_TAKEN = {
    "rights of the items": Taken(
        "42501",
        "REVOKE UPDATE ON turnkeeper_items FROM {role}",
        "GRANT UPDATE ON turnkeeper_items TO {role}",
    ),
    "rights of the changes": Taken(
        "42501", "REVOKE INSERT ON turnkeeper_feed FROM {role}", "GRANT INSERT ON turnkeeper_feed TO {role}"
    ),
    "rights of the contents": Taken(
        "42501", "REVOKE INSERT ON turnkeeper_blobs FROM {role}", "GRANT INSERT ON turnkeeper_blobs TO {role}"
    ),
    "rights of reading": Taken(
        "42501", "REVOKE SELECT ON turnkeeper_items FROM {role}", "GRANT SELECT ON turnkeeper_items TO {role}"
    ),
    "a table": Taken(
        "42P01", "ALTER TABLE turnkeeper_feed RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO turnkeeper_feed"
    ),
    "a column": Taken(
        "42703",
        "ALTER TABLE turnkeeper_feed RENAME token TO elsewhere",
        "ALTER TABLE turnkeeper_feed RENAME elsewhere TO token",
    ),
    "the schema": Taken("42P01", "ALTER SCHEMA public RENAME TO elsewhere", "ALTER SCHEMA elsewhere RENAME TO public"),
    "a trigger that refuses": Taken(
        "P0001",
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no''; END'; "
        "CREATE TRIGGER no BEFORE INSERT ON turnkeeper_feed EXECUTE FUNCTION no()",
        "DROP FUNCTION no CASCADE",
    ),
    "writing": Taken(
        "25006",
        "ALTER ROLE {role} SET default_transaction_read_only = on",
        "ALTER ROLE {role} RESET default_transaction_read_only",
        anew=True,
    ),
    "logins": Taken("28000", "ALTER ROLE {role} NOLOGIN", "ALTER ROLE {role} LOGIN", anew=True),
    "connections": Taken(
        "53300", "ALTER ROLE {role} CONNECTION LIMIT 0", "ALTER ROLE {role} CONNECTION LIMIT -1", True
    ),
    "the database": Taken(
        "55000",
        "UPDATE pg_database SET datallowconn = false WHERE datname = '{name}'",
        "UPDATE pg_database SET datallowconn = true WHERE datname = '{name}'",
        anew=True,
    ),
}


class Operator:
    """The owner of a database, and a role that works in it."""

    def __init__(self, server: servers.Server) -> None:
        self._url = server.database()
        self.name = self._url.rpartition("@/")[2].partition("?")[0]
        self.role = f"app_{self.name[-12:]}"
        migrated = database_of(self._url)
        schema.migrate(migrated)
        migrated.close()
        self._owner = psycopg.connect(self._url, autocommit=True)
        self.do("CREATE ROLE {role} LOGIN")
        self.do("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}")
        self.url = self._url.replace("postgres@", f"{self.role}@")

    def do(self, sql: str) -> None:
        self._owner.execute(sql.format(name=self.name, role=self.role))  # type: ignore[call-overload]

    def take(self, what: Taken, seconds: float) -> None:
        self.do(what.taken)
        if what.anew:
            self.do(_CUT)
        threading.Timer(seconds, self.give, (what,)).start()

    def give(self, what: Taken) -> None:
        self.do(what.given)
        if what.anew:
            self.do(_CUT)

    def close(self) -> None:
        self.do(_CUT)
        self._owner.close()


@pytest.fixture(scope="module")
def own_postgresql() -> Iterator[servers.Server]:
    """One that nobody else makes roles in."""
    with servers.needed_server() as server:
        yield server


@pytest.fixture
def operator(own_postgresql: servers.Server) -> Iterator[Operator]:
    made = Operator(own_postgresql)
    yield made
    made.close()


class SqlKit(MemoryKit):
    """Its state is in a database."""

    def __init__(self, database: Database, *agents: Agent, **more: Any) -> None:
        self._database = database
        super().__init__(agents, runner="none", **more)

    @cached_property
    def table(self) -> SqlTable:  # type: ignore[override]
        return SqlTable(self._database)

    @cached_property
    def blobs(self) -> SqlBlobs:  # type: ignore[override]
        return SqlBlobs(self._database)


@pytest.mark.parametrize(("what", "call"), [(what, number % 2) for number, what in enumerate(_TAKEN)])
def test_an_answer_that_was_paid_for_waits_until_it_is_given_back(
    operator: Operator, what: str, call: int, caplog: pytest.LogCaptureFixture
) -> None:
    """One that calls a tool, or the last one."""
    taken, done = _TAKEN[what], list[str]()

    @tool(effect="once")
    def book(place: str) -> str:
        """Book."""
        done.append(place)
        return "booked"

    text = "".join(random.Random(3).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=_LARGE))

    def answered(number: int) -> Callable[..., Any]:
        def answer(_request: Any) -> Any:
            if number == call:
                operator.take(taken, _AWAY_SECONDS)
            return reply(say(text), use("book", place="here")) if number == 0 else reply(say(text))

        return answer

    database = database_of(operator.url, 4, busy_seconds=_STORE_SECONDS)
    model = ScriptedModel(answered(0), answered(1))
    kit = SqlKit(database, Agent(name="scripted", model=MODEL, system="You act.", tools=[book]), model=model)
    started = begin(kit)
    with caplog.at_level(logging.WARNING):
        head = kit.run(started)
    check_session(kit, head)
    assert (head.status, head.steps, done) == ("idle", 2, ["here"])
    assert (len(model.requests), states(kit, head)) == (2, {"settled": 2})
    # One that lets nobody in is waited for by the pool.
    assert taken.anew or f" {taken.state}" in caplog.text
    database.close()


def test_one_that_comes_to_it_first_is_told_at_once(operator: Operator) -> None:
    """No time that one waits gives a role a right that it never had."""
    operator.do(_TAKEN["rights of the items"].taken)
    database = database_of(operator.url, 2, busy_seconds=30)
    with pytest.raises(UnsuitableDatabase, match=r"InsufficientPrivilege 42501: .*docs/databases\.md"):
        SqlTable(database).write([Put(Key("p", "a"), {})])
    database.close()


def test_what_is_wrong_with_a_value_is_not_waited_for(operator: Operator) -> None:
    database = database_of(operator.url, 2, busy_seconds=30)
    SqlTable(database).write([Put(Key("p", "a"), {})])
    with pytest.raises(psycopg.errors.DivisionByZero):
        database.read(lambda statements: statements.rows("SELECT 1 / 0"))
    database.close()


def test_what_is_never_given_back_is_paid_once_and_the_session_goes_on_after(operator: Operator) -> None:
    """It is waited for as long as the lease lasts. The call is in doubt then, in full, and nothing else is."""
    taken = _TAKEN["rights of the items"]

    def answer(_request: Any) -> Any:
        operator.do(taken.taken)
        return reply(say("lost"))

    database = database_of(operator.url, 4, busy_seconds=_STORE_SECONDS)
    model = ScriptedModel(answer)
    kit = SqlKit(database, Agent(name="scripted", model=MODEL, system="You act."), model=model, lease_seconds=2)
    started = begin(kit)
    with pytest.raises(LeaseLost):
        kit.run(started)
    operator.do(taken.given)
    assert (kit.head(started.session_id).status, states(kit, started)) == ("running", {"pending": 1})
    time.sleep(2 + SKEW_MILLIS / 1000)
    head = kit.run(started)
    check_session(kit, head)
    assert (head.status, states(kit, head), len(model.requests)) == ("idle", {"in_doubt": 1, "settled": 1}, 2)
    database.close()
