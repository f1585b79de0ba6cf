"""Sessions that nobody looks after: dead runners, lost handoffs, money left set aside, erasures left half done; and
those whose contents were kept long enough. And calls of the gateway whose process is gone, and copies that were never
whole.

Everything is found through the ``due`` index, acted on by conditional writes against the head as it was read: two
sweeps at once, or a runner that turns out to be alive, make a write fail, which is no error.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from turnkeeper.core.errors import LeaseLost, SessionBusy, TurnkeeperError
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import leaving
from turnkeeper.core.session import Head
from turnkeeper.ports import Alerts, Clock
from turnkeeper.runtime.dispatch import Dispatch
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.beginnings import Beginnings
from turnkeeper.runtime.store.erasure import Erasure
from turnkeeper.runtime.store.purses import Purses
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.table import Item
from turnkeeper.telemetry import fields
from turnkeeper.telemetry.once_a_day import OnceADay

T = TypeVar("T")

logger = logging.getLogger(__name__)
logger.addFilter(OnceADay())


@dataclass
class Report:
    """What one sweep did."""

    #: Sessions whose runner was dead: taken from it and on their way to another.
    resumed: int = 0
    #: Handoffs that seemed lost, sent again.
    resent: int = 0
    #: Reservations of sessions at rest. There should be none: each is a defect.
    settled: int = 0
    #: Calls of the gateway whose process is gone: nobody knows what became of them.
    doubted: int = 0
    #: Erased sessions, and copies that never became whole, whose last contents were taken away.
    erased: int = 0
    #: Sessions whose contents were kept as long as their plan says, and are erased.
    expired: int = 0
    #: Looked after by somebody else meanwhile.
    alive: int = 0
    #: Written down as on their way, but the queue or the Lambda could not be asked: the next sweep does.
    unsent: int = 0
    failed: int = 0
    #: All that was due was seen, before time was up.
    complete: bool = True
    sessions: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


#: Session ids that a report names at most.
_MAX_NAMED = 50
#: Sessions that one sweep erases at most because they were kept long enough: 36,000 a day.
_MAX_EXPIRED = 25


@dataclass(eq=False, repr=False)
class Sweep:
    sessions: Sessions
    dispatch: Dispatch
    erasure: Erasure
    alerts: Alerts
    clock: Clock
    purses: Purses
    beginnings: Beginnings

    def run(self, seconds_left: Callable[[], float]) -> Report:
        """Look after everything that is due, as far as time allows: what is left is due the next time."""
        report = Report()
        for head in self._each(self.sessions.due):
            if seconds_left() <= 0:
                report.complete = False
                break
            self._look_after(head, report, self._act)
        self._look_through(self.purses.due, self._doubt, report, seconds_left)
        self._look_through(self.beginnings.due, self._take_away_unwhole, report, seconds_left)
        # Last, and a few: nobody waits for it, and the next sweep is a minute away.
        # Those that fail are there again, before all others, each time: they count as time, and not among the few.
        for head in self._each(self.sessions.kept_long_enough):
            if seconds_left() <= 0 or report.expired >= _MAX_EXPIRED:
                break
            self._look_after(head, report, self._expire)
        return report

    def _doubt(self, call: Item, report: Report) -> None:
        if self.purses.left_behind(call):
            report.doubted += self.purses.doubt(call)

    def _take_away_unwhole(self, note: Item, report: Report) -> None:
        whose = keys.session_of_pk(note["pk"])
        if whose is not None and self.beginnings.give_up(note, self.clock.now()):
            self.erasure.take_contents(*whose)
            self.beginnings.gone(note)
            report.erased += 1

    def _look_through(
        self,
        found: Callable[[datetime, int], Iterable[Item]],
        act: Callable[[Item, Report], None],
        report: Report,
        seconds_left: Callable[[], float],
    ) -> None:
        """What is due beside sessions: each item as far as time allows."""
        for item in self._each(found):
            if seconds_left() <= 0:
                report.complete = False
                return
            try:
                act(item, report)
            except TurnkeeperError as error:
                report.failed += 1
                logger.warning("%s of %s: %s", item["sk"], item["pk"], error)
            except Exception:
                report.failed += 1
                logger.exception("%s of %s could not be looked after", item["sk"], item["pk"])

    def _each(self, found: Callable[[datetime, int], Iterable[T]]) -> Iterator[T]:
        """The shards take turns, so that a long one does not starve the others."""
        now = self.clock.now()
        shards = [iter(found(now, shard)) for shard in range(keys.DUE_SHARDS)]
        while shards:
            for shard in list(shards):
                item = next(shard, None)
                if item is None:
                    shards.remove(shard)
                else:
                    yield item

    def _look_after(self, head: Head, report: Report, act: Callable[[Head, Report], bool]) -> None:
        with fields.scope(**fields.of_head(head)):
            self._look_after_it(head, report, act)

    def _look_after_it(self, head: Head, report: Report, act: Callable[[Head, Report], bool]) -> None:
        try:
            done = act(head, report)
        except (LeaseLost, SessionBusy):
            report.alive += 1
            return
        except TurnkeeperError as error:
            report.failed += 1
            logger.warning("session %s: %s", head.session_id, error)
            return
        except Exception:
            report.failed += 1
            logger.exception("session %s could not be looked after", head.session_id)
            return
        if done and len(report.sessions) < _MAX_NAMED:
            report.sessions.append(head.session_id)

    def _act(self, head: Head, report: Report) -> bool:
        """False where there was nothing to do: the index lags behind, and somebody has looked after it meanwhile."""
        if head.status == "erased":
            if not self.erasure.is_due(head):
                return False
            self.erasure.finish(head)
            report.erased += 1
            return True
        if head.resting:
            return self._settle(head, report)
        if not self.sessions.is_due(head):
            return False
        dead = head.lease.owner is not None
        # Written first: sent first, a failed write would send it anew each minute.
        on_its_way = self.sessions.send_again(head)
        if dead:
            report.resumed += 1
        else:
            report.resent += 1
        try:
            self.dispatch.send(on_its_way)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is due again
            report.unsent += 1
            logger.warning("session %s could not be sent: %s", head.session_id, error)
        return True

    def _expire(self, head: Head, report: Report) -> bool:
        """False where it was written in meanwhile: the index lags behind."""
        until = codec.kept_until(head)
        if until is None or until > iso(self.clock.now()):
            return False
        self.erasure.expire(head)
        report.expired += 1
        return True

    def _settle(self, head: Head, report: Report) -> bool:
        """Money of a session at rest: nobody knows what became of the call, so its full amount counts.

        Booked first: money must not wait for an alert. Raises Unavailable where that could not be sent.
        """
        change = leaving.settle_left_behind(head, self.clock.now())
        if change is None or change.resolved is None:
            return False
        self.sessions.write_at_rest(head, change)
        report.settled += 1
        self.alerts.alert(
            "stale_reservation",
            f"A reservation was left behind in session {head.session_id}",
            {"tenant_id": head.tenant_id, "session_id": head.session_id, "call": change.resolved.reservation.call},
        )
        return True
