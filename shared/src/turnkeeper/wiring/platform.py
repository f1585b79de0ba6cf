"""What a kit asks of the platform that it stands on, and which one that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from turnkeeper.adapters.secrets import KeySource
from turnkeeper.core.tools import ToolValues
from turnkeeper.ports import Alerts, Bus, Clock, Queue, Replies, Turns, Wakes, Words
from turnkeeper.settings import Settings
from turnkeeper.table import Blobs, Table

if TYPE_CHECKING:
    from turnkeeper.adapters.aws import Aws
    from turnkeeper.core.dead_letters import DeadLetter
    from turnkeeper.runtime.tracing import TraceQueue, TraceReceiver


class DeadLetters(Protocol):
    """A port: the queue and its dead letters, for the person who looks after them. All methods raise Unavailable where
    the queue is busy or out of reach."""

    def held(self) -> AbstractContextManager[Iterator[DeadLetter]]:
        """The letters that are there now, each once; those that come meanwhile, such as one that was given back and
        failed again, are not among them. They may be out of everybody else's sight until the end."""

    def give_back(self, letter: DeadLetter) -> None:
        """To the queue, its body as it was, without the reason. Whatever happens meanwhile may double it, and loses it
        never: a job that comes twice is done once."""

    def discard(self, letter: DeadLetter) -> None:
        """For good."""

    def depths(self) -> dict[str, int]:
        """``queue``: messages that wait; ``in_flight``: that are in somebody's hand; ``dead_letters``. Approximate."""


class Platform(Protocol):
    """Each part is made when it is first asked for. What needs a setting that is absent raises MissingSetting then."""

    @property
    def aws(self) -> Aws:
        """For what has no port: the worker's own task. Making it calls nobody."""

    @property
    def table(self) -> Table: ...

    @property
    def blobs(self) -> Blobs: ...

    @property
    def queue(self) -> Queue: ...

    @property
    def dead_letters(self) -> DeadLetters: ...

    @property
    def wakes(self) -> Wakes | None:
        """``None`` where the workers are a service of their own, that nobody needs to wake."""

    @property
    def turns(self) -> Turns | None:
        """``None`` where nobody runs turns but the worker."""

    @property
    def alerts(self) -> Alerts: ...

    @property
    def tool_values(self) -> ToolValues: ...

    @property
    def trace_queue(self) -> TraceQueue: ...

    @property
    def trace_receiver(self) -> TraceReceiver: ...

    @property
    def words(self) -> Words | None:
        """``None`` where nobody is told that a turn has ended."""

    @property
    def bus(self) -> Bus | None: ...

    @property
    def replies(self) -> Replies: ...

    def hook_keys(self) -> list[str]:
        """What secrets of webhooks are made of, read anew: those in force, the current one first."""

    def signing_keys(self) -> list[str]:
        """Those in force, the current one first."""

    def model_key(self) -> KeySource | None:
        """``None`` where the model asks for none."""


def platform_of(settings: Settings, clock: Callable[[], Clock]) -> Platform:
    """The one that the settings name."""
    if settings.database_url is not None:
        from turnkeeper.wiring.sql import SqlPlatform

        return SqlPlatform(settings, clock)
    from turnkeeper.wiring.aws import AwsPlatform

    return AwsPlatform(settings, clock)
