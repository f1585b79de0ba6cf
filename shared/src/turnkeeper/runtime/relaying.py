"""The runner's side of streams: how the entry to come stands is told while somebody looks on, and only then.

Telling must not hold a turn up: it is done by a thread of its own, at most every ``EVERY_SECONDS``, only of how things
stand then, and where it fails the entry says it all. Where nobody looks nothing is written, and no thread is there.
"""

from __future__ import annotations

import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from turnkeeper.core.deltas import PROGRESS_CHARS, Forming, Part, ToolState, pieces_of, settled
from turnkeeper.core.session import Head, Looked
from turnkeeper.ports import Clock, OnEvent
from turnkeeper.runtime.store.streams import MOST_BYTES, Streams, tail_of

logger = logging.getLogger(__name__)

EVERY_SECONDS = 0.1
#: What has been told for this long is not told again, unless somebody has just begun to look.
WINDOW_SECONDS = 2.0
#: Of what a tool says of its progress, what is looked at: more than is ever shown, so that no half of a secret is.
_LOOKED_AT = 4_000


@dataclass
class _Running:
    """A tool call as its thread tells of it."""

    state: ToolState
    #: What it said last, and what of that may be shown; made when it is told.
    said: str = ""
    shown: Callable[[str], str] | None = None


class Relay:
    """Of one turn, while one runner has it. This one tells nobody; what else is needed to tell is in :meth:`_wake`.

    Args:
        head: as the runner claimed it.
        hidden: tools whose arguments are not streamed, since some of them are secret.
    """

    def __init__(self, streams: Streams | None, head: Head, clock: Clock, hidden: Collection[str] = ()) -> None:
        self._streams = streams
        self._head = head
        self._clock = clock
        self._hidden = frozenset(hidden)
        self._lock = threading.Lock()
        #: Somebody looks, as far as is known.
        self.on = False
        self._looked = Looked()
        self._last: Forming | None = None
        # The entry to come.
        self._seq = 0
        self._attempt = 0
        self._parts: Callable[[], Sequence[Part]] | None = None
        self._calls: dict[str, _Running] = {}
        self._waiting: str | None = None
        # The window of its text: how long it was when, and where what is told begins.
        self._marks: deque[tuple[float, int]] = deque()
        self._start = 0

    # ---- what the turn tells ----

    def answer(self, seq: int) -> OnEvent:
        """A model call begins: what its answer is to be told to."""
        attempt = self._begin(seq)

        def on_event(parts: Callable[[], Sequence[Part]]) -> None:
            if self._attempt == attempt:  # A call that was given up may go on in its thread.
                self._parts = parts
                self.changed()

        return on_event

    def tools(self, seq: int) -> None:
        """Calls of a step begin; some may run already."""
        if self._seq != seq or not self._calls:
            self._begin(seq)

    def void(self, seq: int) -> None:
        """The call brought no answer: what was told of it is void."""
        self._begin(seq)
        self.changed()

    def waits(self, seq: int, what: str) -> None:
        """Before it goes on, something is waited for: ``money`` in flight, or the ``provider``."""
        if self._seq != seq:
            self._begin(seq)
        if self._waiting != what:
            self._waiting = what
            self.changed()

    def started(self, call_id: str, tool: str) -> None:
        self._calls[call_id] = _Running(ToolState(call_id, tool))
        self.changed()

    def progress(self, call_id: str, text: str, fraction: float | None, shown: Callable[[str], str]) -> None:
        """A tool says how far it is.

        Args:
            shown: the text without its secrets.
        """
        with self._lock:
            if (running := self._calls.get(call_id)) is None:
                return
            running.said, running.shown = text[:_LOOKED_AT], shown
            running.state = replace(running.state, told=running.state.told + 1, fraction=fraction)
        self.changed()

    def finished(self, call_id: str, outcome: str) -> None:
        with self._lock:
            if (running := self._calls.get(call_id)) is None:
                return
            running.state = replace(running.state, outcome=outcome)
        self.changed()

    def _begin(self, seq: int) -> int:
        with self._lock:
            self._seq, self._attempt = seq, self._attempt + 1
            self._parts, self._calls, self._waiting = None, {}, None
            self._marks.clear()
            self._start = 0
            return self._attempt

    # ---- who looks ----

    def look(self, looked: Looked) -> None:
        """What is known now of who looks on."""
        with self._lock:
            if looked.readers != self._looked.readers:
                # Whoever has just come is told the entry from its beginning.
                self._marks.clear()
                self._start, self._last = 0, None
            self._looked = looked
            self.on = self._streams is not None and looked.at(self._clock.now())
        if self._last is None:
            self.changed()

    def changed(self) -> None:
        """Something is new."""
        if self.on:
            self._wake()

    def _wake(self) -> None:
        """Somebody looks, and something is new: have it told soon."""

    def close(self) -> None:
        """The turn is over here. What is not told yet stands in the transcript."""

    # ---- telling ----

    def flush(self) -> None:
        """Tell how the entry stands, where that is new. Never raises."""
        try:
            forming = self._forming()
            if self._streams is None or forming is None or forming == self._last:
                return
            self._last = forming
            self.look(self._streams.tell(self._head, _bounded(forming)))
        except Exception as error:  # noqa: BLE001 - nothing of it is needed: the entry will say it all
            logger.warning("session %s: not told: %s", self._head.session_id, type(error).__name__)

    def _forming(self) -> Forming | None:
        with self._lock:
            if not self._attempt:
                return None
            parts = [self._shown(part) for part in self._parts()] if self._parts is not None else []
            total, now = sum(len(part.text) for part in parts), self._clock.monotonic()
            while self._marks and self._marks[0][0] <= now - WINDOW_SECONDS:
                self._start = self._marks.popleft()[1]
            if not self._marks or self._marks[-1][1] != total:
                self._marks.append((now, total))
            return Forming(
                self._seq,
                f"{self._head.lease.fencing_token}.{self._attempt}",
                self._start,
                pieces_of(parts, self._start),
                tuple(map(_state_of, self._calls.values())),
                self._waiting,
            )

    def _shown(self, part: Part) -> Part:
        if part.kind == "tool_input" and part.tool in self._hidden:
            return Part("other")
        return replace(part, text=settled(part.text))


class RelayThread(Relay):
    """Tells in a thread of its own, which is there from when somebody looks until the turn is over."""

    _thread: threading.Thread | None = None

    def _wake(self) -> None:
        if self._thread is None:
            self._news, self._over = threading.Event(), threading.Event()
            context = contextvars.copy_context()
            name = f"relay-{self._head.session_id}"
            self._thread = threading.Thread(target=context.run, args=(self._keep,), name=name, daemon=True)
            self._thread.start()
        self._news.set()

    def close(self) -> None:
        self.on = False
        if self._thread is not None:
            self._over.set()
            self._news.set()

    def _keep(self) -> None:
        while self._news.wait() and not self._over.is_set():
            self._news.clear()
            self.flush()
            self._over.wait(EVERY_SECONDS)


def _state_of(running: _Running) -> ToolState:
    if running.shown is not None:
        running.state = replace(running.state, text=running.shown(running.said)[:PROGRESS_CHARS])
        running.shown = None
    return running.state


def _bounded(forming: Forming) -> bytes:
    """As bytes, with less of it where that is too much: the latest of the text, and of the calls; none where a name
    alone is too much."""
    tail, size = tail_of(forming)
    while size > MOST_BYTES:
        text = sum(len(piece.part.text) for piece in forming.pieces)
        forming = replace(_latter(forming, (text + 1) // 2), calls=forming.calls[(len(forming.calls) + 1) // 2 :])
        tail, size = tail_of(forming)
    return tail


def _latter(forming: Forming, chars: int) -> Forming:
    """Without so many characters at the beginning of its text."""
    pieces, left = [], chars
    for piece in forming.pieces:
        text = piece.part.text[left:]
        left = max(0, left - len(piece.part.text))
        if text:
            pieces.append(replace(piece, part=replace(piece.part, text=text)))
    return replace(forming, start=forming.start + chars, pieces=tuple(pieces))
