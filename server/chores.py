"""What nobody waits for: the change feed handed to the functions that read the table's stream on AWS, and the sweep.

Of several processes one does it, by a lease in the table. Each function follows the feed by itself, as it does there:
one that is slow or broken keeps no other waiting (docs/decisions/0134).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fargate_worker.threads import Spawn, in_thread
from functions.sweep.handler import SCORES_EACH_MINUTES, sweep, watch_scores
from server.leading import KEEP_SECONDS, Leadership
from turnkeeper.bootstrap import Kit
from turnkeeper.ports import Clock

logger = logging.getLogger(__name__)

#: A Lambda as it is called: an event with a batch of records, and what of it is given back.
Function = Callable[[dict[str, Any], Any], Mapping[str, Any]]

#: How long a feed with nothing new is left alone, and one whose first record is given back.
IDLE_SECONDS = 0.5
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 30.0
#: How long one sweep may take.
SWEEP_SECONDS = 45.0


class Feed(Protocol):
    """The changes of a table as one reader sees them, at least once, those of an item in their order."""

    def round(self, handler: Function) -> int:
        """Show the handler what follows that which it took before, if anything does; how many records it took."""


class Follower:
    """Hands a feed to a function, batch by batch. One that gives records back is left alone for a while."""

    def __init__(self, name: str, feed: Feed, function: Function) -> None:
        self.name = name
        self._feed = feed
        self._function = function
        self._failures = 0
        self._gives_back = False

    def step(self) -> float:
        """One batch; how long to wait before the next. Raises nothing."""
        self._gives_back = False
        try:
            taken = self._feed.round(self._call)
        except Exception as error:  # noqa: BLE001 - nothing was taken, so that it comes again
            logger.warning("%s cannot follow the changes: %s: %s", self.name, type(error).__name__, error)
            self._gives_back = True
        if self._gives_back:
            self._failures += 1
            return float(min(FIRST_PAUSE_SECONDS * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE_SECONDS))
        self._failures = 0
        return 0.0 if taken else IDLE_SECONDS

    def _call(self, event: dict[str, Any], context: Any) -> Mapping[str, Any]:
        answer = self._function(event, context)
        self._gives_back = bool(answer["batchItemFailures"])
        return answer


class Chores:
    """``start`` it, ``stop`` it, then ``drain`` it."""

    def __init__(self, kit: Kit, followers: Sequence[Follower], *, name: str, spawn: Spawn = in_thread) -> None:
        self._kit = kit
        self._followers = followers
        self._clock: Clock = kit.clock
        self._spawn = spawn
        self._leading = Leadership(kit.table, kit.clock, work="chores", owner=f"{name}-{kit.ids.token()[:12]}")
        self._alive_at = self._clock.monotonic()
        self._swept_at = self._scored_at = -float("inf")
        self._at_work: set[str] = set()
        self.draining = False

    def start(self) -> None:
        self._loop("leading", self._keep)
        self._loop("sweep", self.look)
        for follower in self._followers:
            self._loop(follower.name, follower.step, if_led=True)

    def stop(self) -> None:
        """Begin nothing any more. May be called again."""
        self.draining = True

    def drain(self, seconds: float) -> bool:
        """After ``stop``: whether what was begun came to its end in time; another process goes on with the rest."""
        until = self._clock.monotonic() + seconds
        while self._at_work and self._clock.monotonic() < until:
            self._clock.sleep(0.05)
        if clean := not self._at_work:
            self._leading.give_up()
        return clean

    def round(self, seconds: float) -> bool:
        """Instead of starting it, where nothing goes on between requests: all that is due, as far as time allows. False
        where another process does it now."""
        self._keep()
        if not self._leading.held:
            return False
        until = self._clock.monotonic() + seconds
        self._swept_at = -float("inf")
        self.look()
        for follower in self._followers:
            while self._clock.monotonic() < until and self._still_leads() and follower.step() == 0.0:
                pass
        self._leading.give_up()
        return True

    def _still_leads(self) -> bool:
        """Keeping the lease is a change, too, which who follows them takes: not before it is time to."""
        if self._clock.monotonic() - self._alive_at >= KEEP_SECONDS:
            self._keep()
        return self._leading.held

    # ---- for those who watch ----

    def quiet_seconds(self) -> float:
        return 0.0 if self.draining else self._clock.monotonic() - self._alive_at

    def status(self) -> dict[str, Any]:
        return {"status": "draining" if self.draining else "running", "leads": self._leading.held}

    # ---- what is done ----

    def _keep(self) -> float:
        self._leading.keep()
        self._alive_at = self._clock.monotonic()
        return KEEP_SECONDS

    def look(self) -> float:
        """Sweep, and look at scores, where it is time to; how long to wait before the next look."""
        now = self._clock.monotonic()
        if self._leading.held and now - self._swept_at >= self._kit.settings.sweep_seconds:
            self._swept_at = now
            sweep(self._kit, lambda: self._left(now + SWEEP_SECONDS), quiet=True)
            if now - self._scored_at >= SCORES_EACH_MINUTES * 60:
                self._scored_at = now
                watch_scores(self._kit)
        return 0.5

    def _left(self, until: float) -> float:
        return 0.0 if self.draining else until - self._clock.monotonic()

    def _loop(self, name: str, step: Callable[[], float], *, if_led: bool = False) -> None:
        self._at_work.add(name)

        def body() -> None:
            try:
                while not self.draining:
                    self._wait(self._stepped(name, step) if self._leading.held or not if_led else IDLE_SECONDS)
            finally:
                self._at_work.discard(name)

        self._spawn(name, body)

    def _stepped(self, name: str, step: Callable[[], float]) -> float:
        try:
            return step()
        except Exception:
            logger.exception("%s failed", name)
            return LONGEST_PAUSE_SECONDS

    def _wait(self, seconds: float) -> None:
        """In small pieces: the end does not wait for it."""
        until = self._clock.monotonic() + seconds
        while not self.draining and (left := until - self._clock.monotonic()) > 0:
            self._clock.sleep(min(left, 0.25))
