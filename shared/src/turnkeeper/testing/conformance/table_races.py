"""What a table promises to many threads at once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

from turnkeeper.table import ABSENT, EXISTS, Check, Cond, ConditionFailed, Key, Operation, Put, StoreBusy, Table, Update
from turnkeeper.testing.conformance._help import unique

T = TypeVar("T")

THREADS = 16
TRANSACTIONS = 400
#: Less than what is asked for, so that the last ones must be refused.
BOUND = 250


class TableRaceConformance:
    table: Table

    def test_contended_transactions_keep_to_the_bound_and_to_the_log(self) -> None:
        """Each takes two counters and notes it in a log, all in one write; the first counter has a bound."""
        pk = unique("races")
        counters = [Key(pk, f"COUNTER#{n}") for n in range(4)]
        self.table.write([Put(counter, {"n": 0}) for counter in counters])

        def take(n: int) -> bool:
            bounded, free = counters[0], counters[1 + n % 3]
            operations: list[Operation] = [
                Update(bounded, add={"n": 1}, conditions=(Cond("n", "<", BOUND),)),
                Update(free, add={"n": n}, conditions=(EXISTS,)),
                Put(Key(pk, f"LOG#{n:04}"), {"n": n, "free": free.sk}, (ABSENT,)),
            ]
            return self._written(lambda: self.table.write(operations))

        answers = self._at_once(take, TRANSACTIONS)

        log = self.table.query_all(pk, first="LOG#", last="LOG#~")
        assert [item["n"] for item in log] == [n for n, written in enumerate(answers) if written]
        assert len(log) == BOUND
        values = {item["sk"]: item["n"] for item in self.table.batch_get(counters)}
        assert values[counters[0].sk] == BOUND
        for counter in counters[1:]:
            assert values[counter.sk] == sum(item["n"] for item in log if item["free"] == counter.sk)

    def test_one_of_many_puts_wins(self) -> None:
        keys = [Key(unique("races"), "LOCK") for _ in range(10)]

        def put(n: int) -> bool:
            return self._written(lambda: self.table.write([Put(keys[n % len(keys)], {"by": n}, (ABSENT,))]))

        answers = self._at_once(put, THREADS * len(keys))
        for index, key in enumerate(keys):
            winners = [n for n, written in enumerate(answers) if written and n % len(keys) == index]
            item = self.table.get(key)
            assert item is not None
            assert winners == [item["by"]]

    def test_what_was_checked_still_holds_when_it_is_written(self) -> None:
        """Two writes that each check what the other one changes: never do both go through."""
        pairs = [(Key(pk, "A"), Key(pk, "B")) for pk in (unique("races") for _ in range(10))]

        def write(n: int) -> bool:
            mine, other = pairs[n % 10] if n // 10 % 2 else tuple(reversed(pairs[n % 10]))
            return self._written(lambda: self.table.write([Put(mine, {"by": n}), Check(other, (ABSENT,))]))

        self._at_once(write, THREADS * 10)
        for pair in pairs:
            assert len(self.table.batch_get(pair)) == 1

    def test_every_update_sees_the_one_before(self) -> None:
        key = Key(unique("races"), "LEASE")
        tokens = self._at_once(
            lambda n: self.table.update(Update(key, set={"owner": n}, add={"token": 1}))["token"], 160
        )
        assert sorted(tokens) == list(range(1, 161))

    def _written(self, write: Callable[[], None]) -> bool:
        while True:
            try:
                write()
            except ConditionFailed:
                return False
            except StoreBusy:
                # Nothing was written, so asking again is safe; the bound must hold all the same.
                continue
            return True

    def _at_once(self, run: Callable[[int], T], times: int) -> list[T]:
        barrier = Barrier(THREADS)

        def worker(first: int) -> list[tuple[int, T]]:
            barrier.wait()
            return [(n, run(n)) for n in range(first, times, THREADS)]

        with ThreadPoolExecutor(THREADS) as pool:
            done = [pair for pairs in pool.map(worker, range(THREADS)) for pair in pairs]
        return [answer for _, answer in sorted(done, key=lambda pair: pair[0])]
