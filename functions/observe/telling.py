"""Has each turn's end told to whoever wants to hear of it: one message, and nothing waits for what becomes of it.

Here, since a shard of the table's stream has room for two readers (docs/decisions/0100), and the other one waits for
evaluators. The observer only asks: it writes nothing and reaches nobody outside.
"""

from __future__ import annotations

from dataclasses import dataclass

from functions.observe.records import Changed
from turnkeeper.core.session import RESTING
from turnkeeper.core.word import word_message, word_of
from turnkeeper.ports import Words


@dataclass(frozen=True)
class Telling:
    #: ``None`` where nobody is told.
    words: Words | None

    def see(self, change: Changed) -> None:
        """Raises Unavailable where it cannot be told now."""
        if self.words is None or change.sk != "HEAD" or change.new["status"] not in RESTING:
            return
        if (event := word_of(change.old_head, change.head)) is not None:
            self.words.tell(word_message(event), group=change.tenant_id)
