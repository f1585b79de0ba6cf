"""How many streams a process holds open, and of whom: each takes memory, and looks at the table, while it lasts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from turnkeeper.core.errors import Unavailable
from turnkeeper.runtime.intake import Identity

#: One user's share is a quarter, so that nobody keeps all others out.
_SHARE = 4
_RETRY_SECONDS = 5


class OpenStreams:
    """The streams that a process holds open, and whose they are. Used from its event loop; asked from any thread.

    Args:
        most: how many there may be. Those who ask at the very moment when the last is taken may be a few more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._of: Counter[tuple[str, str]] = Counter()

    def admit(self, who: Identity) -> None:
        """Asked before anything is begun that only a stream would tell of.

        Raises:
            Unavailable: there are as many as there may be, or the user has a quarter of that.
        """
        if self._of.total() >= self._most:
            full = "This server holds as many streams as it may"
        elif self._of[who.tenant_id, who.user_id] >= max(1, self._most // _SHARE):
            full = "You have as many streams open as one user may"
        else:
            return
        raise Unavailable(f"{full}. Ask again, or for events without a stream.", retry_after_seconds=_RETRY_SECONDS)

    @contextmanager
    def one_of(self, who: Identity) -> Iterator[None]:
        """For as long as one is open."""
        name = who.tenant_id, who.user_id
        self._of[name] += 1
        try:
            yield
        finally:
            self._of[name] -= 1
            if not self._of[name]:
                del self._of[name]
