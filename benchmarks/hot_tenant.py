"""How many calls a second one tenant can make, by the shards of its counter: a simulation of DynamoDB's limits.

Nothing here talks to DynamoDB. What is assumed, and where it comes from:

- A call is two transactions on the tenant's shard: one that reserves, and one that settles when the model has answered.
- A write of an item of up to 1 KB takes one write unit, in a transaction two (documented).
- A partition takes 1,000 write units a second, with a second of them saved up at most (documented; the five minutes of
  burst capacity are left out, since a tenant that is hot is so for longer). What comes on top is throttled.
- Each shard is a partition key of its own, so in the end a partition of its own (documented as adaptive capacity, not
  promised). Everything else in the transactions is in the session's or the user's own keys and not hot.
- A transaction holds its items for ``HOLD_MILLIS`` (measured by others as 5 to 10 ms for a handful of items; not
  documented). Another one that wants the same item meanwhile fails as a conflict (documented) and has used up its write
  units all the same (documented).
- A conflict or a throttle is tried again as the table adapter does it: after a random part of 25 ms, twice as long each
  time, at most 1 s, and given up after 5 s. A try takes ``ROUND_TRIP_MILLIS`` there and back.
- Sessions are spread over shards by hash; calls arrive at random, independently, and so do their settlements.
- Budget moves are left out: away from the end of a cap they are rare.

What is reported is the highest rate at which fewer than one transaction in a thousand is given up and 99 % of them are
through within a second. Conflicts are what limits a shard, long before its write units.
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from dataclasses import dataclass, field

from benchmarks._results import Results

HOLD_MILLIS = 8.0
ROUND_TRIP_MILLIS = 4.0
WRITE_UNITS = 1_000.0
UNITS_A_WRITE = 2.0
FIRST_PAUSE_MILLIS = 25.0
LONGEST_PAUSE_MILLIS = 1_000.0
GIVE_UP_MILLIS = 5_000.0
SECONDS = 10


@dataclass
class Shard:
    free_at: float = 0.0
    units: float = WRITE_UNITS
    filled_at: float = 0.0

    def take(self, now: float) -> bool:
        """Whether a transaction that arrives now goes through."""
        self.units = min(WRITE_UNITS, self.units + (now - self.filled_at) * WRITE_UNITS / 1_000)
        self.filled_at = now
        if self.units < UNITS_A_WRITE:
            return False
        self.units -= UNITS_A_WRITE
        if now < self.free_at:
            return False
        self.free_at = now + HOLD_MILLIS
        return True


@dataclass(order=True)
class Try:
    at: float
    #: Tells equal times apart.
    number: int
    shard: int = field(compare=False)
    began: float = field(compare=False)
    pause: float = field(compare=False)


@dataclass(frozen=True)
class Outcome:
    given_up: float
    p50_millis: float
    p99_millis: float
    tries_a_write: float

    @property
    def fine(self) -> bool:
        return self.given_up < 0.001 and self.p99_millis < 1_000


def simulate(calls_a_second: float, shards: int, seed: int = 1) -> Outcome:
    chance = random.Random(seed)
    state = [Shard() for _ in range(shards)]
    queue: list[Try] = []
    number = 0
    # Reservations, and at the same rate the settlements of the calls before: in a steady state both come at random.
    for _ in ("reserve", "settle"):
        at = 0.0
        while at < SECONDS * 1_000:
            at += chance.expovariate(calls_a_second / 1_000)
            number += 1
            queue.append(Try(at, number, chance.randrange(shards), at, FIRST_PAUSE_MILLIS))
    heapq.heapify(queue)
    writes, tries, given_up = len(queue), 0, 0
    took: list[float] = []
    while queue:
        now = heapq.heappop(queue)
        tries += 1
        if state[now.shard].take(now.at + ROUND_TRIP_MILLIS / 2):
            took.append(now.at + ROUND_TRIP_MILLIS + HOLD_MILLIS - now.began)
            continue
        now.at += ROUND_TRIP_MILLIS + chance.random() * now.pause
        now.pause = min(2 * now.pause, LONGEST_PAUSE_MILLIS)
        if now.at - now.began > GIVE_UP_MILLIS:
            given_up += 1
        else:
            heapq.heappush(queue, now)
    took.sort()
    return Outcome(
        given_up / writes,
        took[len(took) // 2],
        took[len(took) * 99 // 100],
        tries / writes,
    )


def most(shards: int) -> int:
    """The highest rate that is fine."""
    low, high = 1, 400 * shards
    while high - low > max(1, low // 20):
        middle = (low + high) // 2
        if simulate(middle, shards).fine:
            low = middle
        else:
            high = middle
    return low


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    asked = parser.parse_args([] if arguments is None else arguments)
    print((__doc__ or "").split("\n\n", 1)[1].strip())
    about = {"hold_millis": HOLD_MILLIS, "round_trip_millis": ROUND_TRIP_MILLIS}
    with Results("hot_tenant", about=about) as results:
        for shards in asked.shards:
            rate = most(shards)
            outcome = simulate(rate, shards)
            results.count("calls", "a second", rate, shards=shards)
            results.count(
                "calls by write units alone", "a second", WRITE_UNITS / (2 * UNITS_A_WRITE) * shards, shards=shards
            )
            results.count("tries a write", "tries", outcome.tries_a_write, shards=shards)
            results.count("a write, simulated", "ms", outcome.p50_millis, shards=shards)
            results.count("a write, simulated, 99th percentile", "ms", outcome.p99_millis, shards=shards)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
