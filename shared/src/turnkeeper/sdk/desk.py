"""What the parts of one runner's turn share: the session's worksheet, the program's log, and whether it is to end."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from turnkeeper.core.errors import CostCapExceeded, TurnkeeperError
from turnkeeper.core.lifecycle import elsewhere
from turnkeeper.core.session import Head, Stop
from turnkeeper.runtime.store.purses import Spent
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.turn import Turn
from turnkeeper.runtime.worksheet import Worksheet
from turnkeeper.sdk.log import SessionLog
from turnkeeper.table import Blobs, Item, Table


class Calls(Protocol):
    """The gateway, as it serves a runner: see :class:`turnkeeper.gateway.Gateway`."""

    url: str | None

    def lease_token(self, head: Head) -> str: ...

    def close_lease(self, token: str, *, wait_seconds: float = ...) -> Spent: ...

    def refusal(self, token: str) -> TurnkeeperError | None: ...

    def spent(self, head: Head) -> Spent: ...

    def calls_since(self, head: Head, after: int = 0) -> list[Item]: ...


#: User and group that a program runs as.
Account = tuple[int, int]


@dataclass(frozen=True)
class Means:
    """What turns are driven with."""

    calls: Calls
    sessions: Sessions
    table: Table
    blobs: Blobs
    #: Where the sessions' folders are.
    folder: Path
    #: The first of the accounts that programs run as, one a slot, where the worker is root; ``None``: the worker's own.
    account: Account | None = None


@dataclass(frozen=True)
class End:
    """How this runner's part ends: at rest, with a refusal of the gateway, or on the way to another runner."""

    stop: Stop | None = None
    refused: CostCapExceeded | None = None
    #: Calls may be open, which the next runner answers.
    hands_off: bool = False


@dataclass
class Desk:
    means: Means
    turn: Turn
    log: SessionLog
    #: What the program shows the gateway, and its commands can read: it is kept out of what is written down.
    token: str
    end: End | None = None
    #: Raised once the program is gone: nothing more may be written, or can be.
    fatal: BaseException | None = None
    #: The thread that hears the program is not waited for: whatever it may still hear is nothing to anybody.
    abandoned: bool = False
    #: Ids of calls that stand in the transcript.
    written: set[str] = field(default_factory=set)
    #: For the model to read beside its next call.
    warnings: list[str] = field(default_factory=list)

    @property
    def sheet(self) -> Worksheet:
        return self.turn.sheet

    def stop(self, stop: Stop) -> None:
        """The turn ends, unless it does already."""
        self.end = self.end or End(stop)

    def fail(self, error: BaseException) -> None:
        self.fatal = self.fatal or error

    def given_up(self) -> bool:
        return self.end is not None or self.fatal is not None or self.abandoned or self.turn.given_up()

    def catch_up(self, spent: Spent) -> None:
        """The account is what the ledger says."""
        self.sheet.head = elsewhere.caught_up(
            self.sheet.head, spent_nanousd=spent.spent_nanousd, in_doubt_nanousd=spent.in_doubt_nanousd
        )
