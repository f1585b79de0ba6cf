"""Readers of running sessions, many in one process: the *hub* looks once for all of them.

For every session that somebody reads it looks at head and stream, all sessions in one read, and at new entries once.
What readers are told follows from how the session stands and what each was told already, so none of them has a queue
that could grow: a slow one is told more at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from turnkeeper.core.deltas import Delta, Heard, Told
from turnkeeper.core.session import Entry, Head
from turnkeeper.runtime.news import next_look
from turnkeeper.runtime.store import codec
from turnkeeper.runtime.store.records import Records
from turnkeeper.runtime.store.streams import LOOK_SECONDS, Seen, Streams, forming_of
from turnkeeper.table import Item

logger = logging.getLogger(__name__)

T = TypeVar("T")

#: From the beginning of one look at a session to that of the next: while something of it comes in, and else.
BUSY_SECONDS = 0.125
QUIET_SECONDS = 0.25
#: How long after the latest news it counts as busy.
_BUSY_FOR_SECONDS = 2.0
#: Looks that fall due within this are made together.
_TOGETHER_SECONDS = 0.04
#: Entries that are kept for readers that are a little behind; those who are far behind read for themselves.
_KEPT_ENTRIES = 50
_PAGE = 100


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Landed:
    """An entry of the transcript, shared by all who read it."""

    entry: Entry
    #: What was made of it for readers, by what they asked for.
    made: dict[Any, Any] = field(default_factory=dict)


@dataclass
class _Watch:
    """One session, as the hub sees it."""

    tenant_id: str
    session_id: str
    due: float
    head: Head | None = None
    heard: Heard | None = None
    landed: list[Landed] = field(default_factory=list)
    #: What any reader holds, by seq: readers that take nothing hold one copy, however many they are.
    held: WeakValueDictionary[int, Landed] = field(default_factory=WeakValueDictionary)
    readers: list[Reader] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    busy_until: float = 0.0
    #: When to say again that somebody looks; whether the runner is to tell all of the entry to come.
    look_at: float = 0.0
    anew: bool = True
    head_item: Item | None = None
    stream_item: Item | None = None

    @property
    def name(self) -> tuple[str, str]:
        return self.tenant_id, self.session_id

    def share(self, entry: Entry) -> Landed:
        """The entry as others have it, unless it was erased meanwhile."""
        known = self.held.get(entry.seq)
        if known is None or known.entry != entry:
            known = self.held[entry.seq] = Landed(entry)
        return known

    def tell(self) -> None:
        """Wake all readers."""
        self.changed.set()
        self.changed = asyncio.Event()


class Hub:
    """One a process, on its event loop. Reads are made in threads of its own.

    Args:
        records, streams: where sessions are read.
        threads: how many reads are made at once.
    """

    def __init__(self, records: Records, streams: Streams, *, threads: int = 8) -> None:
        self._records = records
        self._streams = streams
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="hub")
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._looking: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        #: The process is told to stop: readers end where they are.
        self.stopping = False

    def stop(self) -> None:
        """Readers come to their ends; each says where its client goes on."""
        self.stopping = True
        for watch in self._watches.values():
            watch.tell()

    @asynccontextmanager
    async def reader(self, tenant_id: str, session_id: str, *, after: int) -> AsyncIterator[Reader]:
        """A place in a session, behind an entry. The session has to exist; who may see it is the caller's affair."""
        name = (tenant_id, session_id)
        watch = self._watches.get(name)
        if watch is None:
            watch = self._watches[name] = _Watch(*name, due=_now())
            self._woken.set()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_on())
        reader = Reader(self, watch, after)
        watch.readers.append(reader)
        try:
            yield reader
        finally:
            watch.readers.remove(reader)
            if not watch.readers:
                del self._watches[name]
                self._woken.set()  # With nobody left, nobody looks on.

    async def read(self, call: Callable[..., T], *args: Any, **more: Any) -> T:
        """Something that waits for the table, in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, lambda: call(*args, **more))

    async def page(self, watch: _Watch, after: int) -> list[Landed]:
        """Entries behind a seq: those that are at hand, or a page of the table."""
        at_hand = [each for each in watch.landed if each.entry.seq > after]
        if at_hand and watch.landed[0].entry.seq <= after + 1:
            return at_hand
        entries = await self.read(self._records.entries, *watch.name, after=after, limit=_PAGE)
        return list(map(watch.share, entries))

    # ---- looking ----

    async def _look_on(self) -> None:
        """For as long as anybody reads."""
        while self._watches:
            now = _now()
            soonest = min(watch.due for watch in self._watches.values())
            if soonest > now:
                self._woken.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), soonest - now)
                continue
            due = [watch for watch in self._watches.values() if watch.due <= now + _TOGETHER_SECONDS]
            try:
                await self._look(due)
            except Exception as error:  # noqa: BLE001 - whatever it was, readers wait for the next look
                logger.warning("sessions could not be looked at: %s", type(error).__name__)
            after = _now()
            for watch in due:
                watch.due = next_look(now, after, BUSY_SECONDS if after < watch.busy_until else QUIET_SECONDS)

    async def _look(self, watches: list[_Watch]) -> None:
        seen = await self.read(self._streams.see, [watch.name for watch in watches])
        outcomes = await asyncio.gather(
            *(self._take(watch, each) for watch, each in zip(watches, seen, strict=True)), return_exceptions=True
        )
        for watch, outcome in zip(watches, outcomes, strict=True):
            if isinstance(outcome, Exception):
                logger.warning("session %s could not be looked at: %s", watch.session_id, type(outcome).__name__)

    async def _take(self, watch: _Watch, seen: Seen) -> None:
        """What is new of one session."""
        news = False
        if seen.head is not None and seen.head != watch.head_item:
            head = codec.head_of(seen.head)
            await self._land(watch, head)
            if head.status == "erased":  # Nobody who comes now is told what was said before.
                watch.landed, watch.heard = [], None
            watch.head, watch.head_item, news = head, seen.head, True
        if seen.stream != watch.stream_item:
            watch.stream_item = seen.stream
            news = self._hear(watch, seen.stream) or news
        if news:
            watch.busy_until = _now() + _BUSY_FOR_SECONDS
            watch.tell()
        # Who stays with one at rest waits for its next turn, whose runner is to know from its first word on.
        looks = watch.head is not None and (not watch.head.resting or any(each.stays for each in watch.readers))
        if looks and _now() >= watch.look_at:
            watch.look_at, anew, watch.anew = _now() + LOOK_SECONDS / 2, watch.anew, False
            await self.read(self._streams.look, *watch.name, anew=anew)

    async def _land(self, watch: _Watch, head: Head) -> None:
        """Read entries that came since the last look. Who begins to read is told from the table what was before."""
        if watch.head is None or head.last_seq <= watch.head.last_seq:
            return
        known = watch.landed[-1].entry.seq if watch.landed else watch.head.last_seq
        entries = await self.read(self._records.entries, *watch.name, after=known, limit=_PAGE)
        passed = min((reader.seq for reader in watch.readers), default=0)
        kept = [each for each in watch.landed if each.entry.seq > passed]
        watch.landed = [*kept, *map(watch.share, entries)][-_KEPT_ENTRIES:]

    @staticmethod
    def _hear(watch: _Watch, item: Item | None) -> bool:
        forming = forming_of(item)
        if forming is None:
            return False
        began = watch.heard is None or not watch.heard.is_of(forming)
        if began or (watch.heard is not None and watch.heard.lost and forming.start == 0):
            watch.heard = Heard(forming.seq, forming.run)
        assert watch.heard is not None
        was_lost = watch.heard.lost
        news = watch.heard.take(forming)
        if watch.heard.lost and not was_lost:
            watch.anew, watch.look_at = True, 0.0
        return news


def _now() -> float:
    return asyncio.get_running_loop().time()


class Reader:
    """One client's place in a session."""

    def __init__(self, hub: Hub, watch: _Watch, after: int) -> None:
        self._hub = hub
        self._watch = watch
        self._told = Told()
        self._handed_off = 0
        #: It waits for the next turn of a session at rest.
        self.stays = False
        #: The last entry that it was told.
        self.seq = after

    @property
    def head(self) -> Head | None:
        """As it was seen last; ``None`` before the first look."""
        return self._watch.head

    @property
    def is_done(self) -> bool:
        """The session rests, and everything of it was told."""
        head = self._watch.head
        return head is not None and head.resting and self.seq >= head.last_seq

    async def take(self, wait_seconds: float, *, stay: bool = False) -> list[Landed | Delta]:
        """What is new, in its order, as soon as anything is; nothing where the time is up, the session rests and all
        of it was told (unless it is to ``stay``), or the hub is told to stop."""
        until = _now() + wait_seconds
        self.stays = stay
        while True:
            changed = self._watch.changed
            if news := await self._news():
                return news
            left = until - _now()
            if left <= 0 or self._hub.stopping or (self.is_done and not stay):
                return []
            try:
                await asyncio.wait_for(changed.wait(), left)
            except TimeoutError:
                return []

    async def _news(self) -> list[Landed | Delta]:
        head = self._watch.head
        if head is None:
            return []
        if head.last_seq > self.seq:
            return list(self._landed(await self._hub.page(self._watch, self.seq)))
        heard = self._watch.heard
        news: list[Landed | Delta] = []
        if not head.resting and heard is not None and heard.seq == self.seq + 1:
            news += self._told.deltas(heard)
        if head.status == "queued" and head.turn.iterations:
            news += self._hand_off()
        return news

    def _landed(self, page: Iterable[Landed]) -> Iterable[Landed | Delta]:
        for landed in page:
            yield from self._told.land(landed.entry)
            self.seq = landed.entry.seq
            yield landed
            if landed.entry.type == "status" and landed.entry.status == "queued":
                yield from self._hand_off()

    def _hand_off(self) -> Iterable[Delta]:
        """Once for each place in the transcript."""
        if self._handed_off != self.seq:
            self._handed_off = self.seq
            yield {"type": "handed_off", "seq": self.seq + 1}
