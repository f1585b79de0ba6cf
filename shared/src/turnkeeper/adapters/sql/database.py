"""A database, as the stores use it: transactions that are run again while it is busy, and what its errors mean."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, ClassVar, Protocol, TypeVar

from turnkeeper.adapters.retries import Pauses
from turnkeeper.adapters.sql.bell import Bell
from turnkeeper.adapters.system import SystemClock, SystemIds
from turnkeeper.core.errors import TurnkeeperError, Unavailable
from turnkeeper.ports import Clock, Ids
from turnkeeper.table import StoreBusy

T = TypeVar("T")
Row = tuple[Any, ...]


class Busy(Exception):
    """Nothing was done, and later it may be."""


class Lost(Exception):
    """The answer to a commit was lost: it may have been done."""


class UnsuitableDatabase(TurnkeeperError):
    """It cannot be used by the stores as it is, and will not be later; the text says why, and quotes no secret."""

    code = "database_unsuitable"
    status = 503


class Statements(Protocol):
    """One transaction. Placeholders are ``?``; values are text, integers, bytes and ``None``."""

    def rows(self, sql: str, *values: Any) -> list[Row]:
        """Of a statement that answers with rows."""

    def many(self, sql: str, rows: Sequence[Row]) -> None:
        """The same statement for each row; one that answers with no rows. It may fail as late as at the end of the
        transaction."""

    def lock(self, names: Iterable[tuple[bytes, bool]]) -> None:
        """Hold these names to the end of the transaction; True: to write, False: to read. All that a transaction ever
        locks are locked by one call, so that no two wait for each other. Statements after it see what was committed
        before."""


class Database:
    """Safe to share between threads. ``busy_seconds`` is how long a busy database is asked again."""

    #: Names of this kind of database, as its files are called.
    kind: ClassVar[str]
    #: SQL for the time, in seconds since 1970.
    now: ClassVar[str]
    #: SQL after a select of rows that are to be changed: leave out those that somebody else is about to change.
    skip_locked: ClassVar[str]
    #: SQL for the number of the transaction, by which changes are put in order, and for the number below which every
    #: transaction has come to its end.
    transaction_number: ClassVar[str]
    settled_number: ClassVar[str]
    #: SQL that finds something where ``schema`` has made its table of versions.
    has_schema: ClassVar[str]

    def __init__(self, busy_seconds: float, clock: Clock | None = None, ids: Ids | None = None) -> None:
        self.clock = clock or SystemClock()
        self._busy_seconds = busy_seconds
        self._ids = ids or SystemIds()
        #: What it is opened with, for those who hide it.
        self.password: str | None = None
        #: It has let this process write.
        self._has_written = False
        #: Rings when something was written; :meth:`ring` says so.
        self.bell: Bell

    def transaction(self, *, write: bool) -> AbstractContextManager[Statements]:
        """Committed at the end, rolled back on an error. Raises Busy, Lost. What only reads need not be one: each of
        its statements may see what was committed in between."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def make(self) -> None:
        """Make what is to hold the tables, where it is not there and this kind of database can. Raises
        UnsuitableDatabase."""

    def refusal(self) -> str | None:
        """Why it lets nobody in at the moment, in its own words, which may name host and user: for operators only."""
        return None

    def refused(self, why: str) -> Exception:
        """What it means that it refuses what the stores need: Busy of one that has let this process write, since what
        somebody has taken away they may give back, for which an answer that was paid for waits; else
        UnsuitableDatabase."""
        return Busy(why) if self._has_written else UnsuitableDatabase(why)

    def tidy(self) -> bool:
        """Have what was taken away gone from the files, too, where that does not come of itself; False where it has to
        be tried later."""
        return True

    def before_migration(self, statements: Statements) -> None:
        """At the beginning of a transaction that changes tables. Raises UnsuitableDatabase."""

    def after_migration(self, statements: Statements) -> None:
        """At its end."""

    def read(self, work: Callable[[Statements], T]) -> T:
        """Raises StoreBusy."""
        return self._run(lambda statements, _: work(statements), write=False, repeatable=True)

    def write(self, work: Callable[[Statements, bool], T], *, repeatable: bool = True) -> T:
        """One transaction, tried again while the database is busy and, where it is ``repeatable``, after an answer that
        was lost. ``work`` is told whether an earlier attempt may have been committed.

        Raises:
            StoreBusy: nothing was written.
            Unavailable: an answer was lost; it may have been written.
        """
        return self._run(work, write=True, repeatable=repeatable)

    def _run(self, work: Callable[[Statements, bool], T], *, write: bool, repeatable: bool) -> T:
        pauses = Pauses(self.clock, self._ids, self._busy_seconds)
        lost = False
        while True:
            try:
                with self.transaction(write=write) as statements:
                    answer = work(statements, lost)
            except (Busy, Lost) as error:
                lost |= isinstance(error, Lost)
                failed: Exception = (
                    Unavailable("the database did not answer; it may have been written", retry_after_seconds=1)
                    if lost
                    else StoreBusy(f"the database was busy for {self._busy_seconds} s: {error}")
                )
                if lost and not repeatable:
                    raise failed from error
                pauses.pause(failed, error)
            else:
                return answer


@contextmanager
def refusals(database: Database) -> Iterator[None]:
    """Says of a database that is busy why it lets nobody in, where it does not: for whoever opens it first."""
    try:
        yield
    except StoreBusy as error:
        if (why := database.refusal()) is not None:
            raise StoreBusy(f"the database lets nobody in: {why}") from error
        raise


@contextmanager
def outages() -> Iterator[None]:
    """Turns a database that was busy for too long into Unavailable."""
    try:
        yield
    except StoreBusy as error:
        raise Unavailable(str(error), retry_after_seconds=1) from error
