"""Whatever is done to sessions, and wherever their runners die, they are the same in memory and in both databases; and
once they are erased, nothing of what was said is left in any of them."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.examples import examples
from tests.support.kit import MODEL, MemoryKit
from turnkeeper import Agent, Context, tool
from turnkeeper.adapters.sql import feed
from turnkeeper.adapters.sql.blobs import SqlBlobs
from turnkeeper.adapters.sql.database import Database
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.adapters.sql.texts import read
from turnkeeper.adapters.table_values import item_from_wire
from turnkeeper.core.errors import SessionBusy, TurnkeeperError
from turnkeeper.core.session import Head
from turnkeeper.ports import ModelReply, ModelRequest
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.world import Allowance
from turnkeeper.table import Blobs, Item, Table
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper.testing.faulty_table import Call, Crash, FaultyTable
from turnkeeper.testing.script import answer, say

#: In all that is said, and in all that tools take and give.
SECRET = "swordfish"
_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@tool(effect="idempotent", scopes={"notes:read"})
def look_up(word: str) -> str:
    """Look a word up."""
    return f"{word} is a {SECRET}"


@tool(effect="once")
def write_down(word: str) -> str:
    """Write a word down."""
    return f"wrote {word}, {SECRET}"


def agents() -> list[Agent]:
    tools = [look_up, write_down]
    return [
        Agent(name="short", model=MODEL, system="You act.", tools=tools, context=Context(window=9_000)),
        Agent(name="away", model=MODEL, system="You act.", tools=tools, placement="background"),
    ]


class Talker:
    """A model whose answers depend on what it is asked and on how often it was."""

    def __init__(self) -> None:
        self.calls = 0

    def count_tokens(self, request: ModelRequest) -> int:
        return len(str(request.messages)) // 3 + 100

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: object = None) -> ModelReply:
        self.calls += 1
        last = request.messages[-1]["content"]
        text = str(last)
        if "tool_result" not in text:
            for name in ("look_up", "write_down"):
                if name in text and any(name == each["name"] for each in request.tools or ()):
                    use = {"type": "tool_use", "id": f"toolu_{self.calls:06d}", "name": name, "input": {"word": SECRET}}
                    return self._said(request, say("I look."), use)
        long = "".join(Random(self.calls).choices(_LETTERS, k=90_000)) if "long" in text else ""
        return self._said(request, say(f"{SECRET} {self.calls} {long}"))

    def _said(self, request: ModelRequest, *content: Any) -> ModelReply:
        made = answer(*content, model=MODEL, input_tokens=self.count_tokens(request))
        return replace(made, message_id=f"msg_{self.calls:06d}")


class Kit(MemoryKit):
    """One of the kits that are held against each other."""

    def __init__(self, table: Table | None, blobs: Blobs | None) -> None:
        self._stores = (table, blobs)
        #: The write at which the runner dies, counted from now.
        self.dies_at: tuple[str, int] | None = None
        self.sessions_made: list[str] = []
        super().__init__(agents(), model=Talker(), runner="none", clock=ManualClock(), ids=SeededIds(1))

    @cached_property
    def table(self) -> Any:
        table = self._stores[0]
        return FaultyTable(super().table if table is None else table, self._fault)

    @cached_property
    def blobs(self) -> Any:
        return super().blobs if self._stores[1] is None else self._stores[1]

    def _fault(self, when: str, call: Call) -> None:
        if self.dies_at is None or not call.writes or threading.current_thread() is not threading.main_thread():
            return
        dies, left = self.dies_at
        if when == dies:
            self.dies_at = (dies, left - 1)
            if left == 0:
                self.dies_at = None
                raise Crash(f"dies {when} a write")

    # ---- what is done ----

    def does(self, what: str, which: int, number: int, word: str) -> Any:
        """What became of it: of an error its code."""
        try:
            return getattr(self, f"do_{what}")(which, number, word)
        except TurnkeeperError as error:
            return type(error).__name__, error.code
        except Crash:
            return "died"
        finally:
            self.dies_at = None

    def chosen(self, which: int) -> Head | None:
        made = self.sessions_made
        return self.head(made[which % len(made)]) if made else None

    def do_create(self, which: int, number: int, word: str) -> Any:
        agent = ("short", "away")[number % 2]
        head = self.intake.create(who(which), NewSession(agent=agent, input=f"{word} {SECRET}", metadata={}))
        self.sessions_made.append(head.session_id)
        return head.session_id

    def do_post(self, which: int, number: int, word: str) -> Any:
        if (head := self.chosen(which)) is not None:
            return self.intake.post(head, f"{word} {SECRET}", who=who(number)).status
        return None

    def do_run(self, which: int, number: int, _word: str) -> Any:
        if (head := self.chosen(which)) is None:
            return None
        if number > 4:
            self.dies_at = (("before", "after")[number % 2], (number - 5) // 2 + which)
        # The first kind hands what takes long over.
        kind = (
            Allowance(runner="lambda", turn_seconds=840, hard_seconds=890) if which % 2 else Allowance(runner="fargate")
        )
        left = self.run(head, kind)
        return left.status, left.steps

    def do_turn(self, which: int, number: int, word: str) -> Any:
        """As most of them are: an input, and no runner that dies."""
        if not self.sessions_made:
            self.do_create(which, number, word)
        with suppress(SessionBusy):
            self.do_post(which, number, word)
        return self.do_run(which, 0, word)

    def do_fork(self, which: int, number: int, word: str) -> Any:
        if (head := self.chosen(which)) is None:
            return None
        value = f"{word} {SECRET}" if number % 2 else None
        made = self.branching.fork(who(which), head, at_seq=number or None, value=value)
        self.sessions_made.append(made.session_id)
        return made.session_id

    def do_rewind(self, which: int, number: int, _word: str) -> Any:
        if (head := self.chosen(which)) is not None:
            return self.branching.rewind(who(which), head, turns=number % 3 + 1).last_seq
        return None

    def do_cancel(self, which: int, number: int, _word: str) -> Any:
        if number > 7 and (head := self.chosen(which)) is not None:
            return self.cancelling.cancel(head, actor="ann").status
        return None

    def do_resume(self, which: int, number: int, _word: str) -> Any:
        if (head := self.chosen(which)) is not None:
            return self.intake.resume(head, clear_flags=bool(number % 2), actor="operator:eve").status
        return None

    def do_erase(self, which: int, number: int, _word: str) -> Any:
        if number > 4 and (head := self.chosen(which)) is not None:
            if number > 6:
                self.dies_at = (("before", "after")[number % 2], number - 7)
            self.erasure.erase(head, actor="ann")
        return None

    def do_wait(self, _which: int, number: int, _word: str) -> Any:
        self.clock.advance(number * 45)  # type: ignore[attr-defined]

    def do_sweep(self, _which: int, _number: int, _word: str) -> Any:
        return str(self.sweep.run(lambda: 60.0))

    def do_work(self, _which: int, _number: int, _word: str) -> Any:
        return self.work()


def who(number: int) -> Identity:
    return Identity(tenant_id="acme", user_id="ann", role=("user", "writer", "admin")[number % 3])


DOINGS = [name.removeprefix("do_") for name in vars(Kit) if name.startswith("do_")]
steps = st.tuples(
    st.sampled_from([*DOINGS, *["run", "turn", "turn", "turn"] * 2]),
    st.integers(0, 5),
    st.integers(0, 9),
    st.sampled_from(["talk", "look_up", "write_down", "long", "long look_up"]),
)


# ---- what is stored ----


class Stored:
    """All that is in a store, however it is kept."""

    def __init__(self, kit: Kit, database: Database | None) -> None:
        self.kit = kit
        self._database = database

    def items(self) -> dict[tuple[str, str], Item]:
        if self._database is None:
            return {(item["pk"], item["sk"]): item for item in self.kit.table.table.snapshot()}
        rows = self._database.read(lambda statements: statements.rows("SELECT item FROM turnkeeper_items"))
        items = [item_from_wire(read(row[0])) for row in rows]
        return {(item["pk"], item["sk"]): item for item in items}

    def contents(self) -> dict[str, bytes]:
        if self._database is None:
            return dict(self.kit.blobs.contents)
        rows = self._database.read(lambda statements: statements.rows("SELECT key, data FROM turnkeeper_blobs"))
        return {bytes(key).decode(): bytes(data) for key, data in rows}

    def rest(self) -> list[Any]:
        """Rows of all other tables, as of ten minutes and a bit later."""
        if self._database is None:
            return []
        self._database.write(lambda statements, _: statements.many("UPDATE turnkeeper_feed SET at = at - 100000", [()]))
        while feed.prune(self._database):
            pass
        return [
            row
            for table in ("feed", "messages")
            for row in self._database.read(
                lambda statements, table=table: statements.rows(f"SELECT * FROM turnkeeper_{table}")
            )  # type: ignore[misc]
        ]


def words_of(value: Any) -> Iterator[str]:
    if isinstance(value, bytes):
        try:
            yield zlib.decompress(value).decode("utf-8", "replace")
        except zlib.error:
            yield value.decode("utf-8", "replace")
    elif isinstance(value, Mapping):
        for name, each in value.items():
            yield str(name)
            yield from words_of(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from words_of(each)
    else:
        yield str(value)


@pytest.fixture(scope="module")
def made(new_database: Callable[[str], Database]) -> list[Database]:
    return [new_database("sqlite"), new_database("postgresql")]


def stores(made: list[Database]) -> list[Stored]:
    for database in made:
        for table in ("items", "feed", "messages", "blobs"):
            database.write(lambda statements, _, table=table: statements.many(f"DELETE FROM turnkeeper_{table}", [()]))  # type: ignore[misc]
    return [
        Stored(Kit(None, None), None),
        *(Stored(Kit(SqlTable(database), SqlBlobs(database)), database) for database in made),
    ]


@pytest.mark.examples
@settings(
    max_examples=examples(12, all=150),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=st.lists(steps, min_size=5, max_size=30))
def test_sessions_are_the_same_wherever_they_are_kept(
    made: list[Database], history: list[tuple[str, int, int, str]]
) -> None:
    first, *others = all_of = stores(made)
    for step in history:
        became = [each.kit.does(*step) for each in all_of]
        assert became == [became[0]] * len(became), step
    for other in others:
        assert other.items() == first.items()
        assert other.contents() == first.contents()
    for each in all_of:
        kit = each.kit
        kit.clock.advance(1_000)  # type: ignore[attr-defined]
        for session_id in kit.sessions_made:
            kit.erasure.erase(kit.head(session_id), actor="ann")
        kit.clock.advance(1_000)  # type: ignore[attr-defined]
        kit.sweep.run(lambda: 60.0)
        left = [word for word in words_of([each.items(), each.rest()]) if SECRET in word]
        assert (left, each.contents()) == ([], {})
    for other in others:
        assert other.items() == first.items()
