"""What the model API refuses of a conversation is left out from then on, and the call is made without it."""

from __future__ import annotations

from turnkeeper.core import repairs
from turnkeeper.core.containers import container_of
from turnkeeper.core.errors import ProviderError
from turnkeeper.core.fallbacks import model_of
from turnkeeper.core.lifecycle import running
from turnkeeper.core.projection import project
from turnkeeper.ports import Redacts
from turnkeeper.runtime.worksheet import Worksheet

#: Things that one turn may leave out because the API refuses them.
MAX_REPAIRS = 8


def repaired(sheet: Worksheet, redactor: Redacts, failed: ProviderError) -> bool:
    """Whether the refusal is about something that can be left out: then that is written down. What was left out once
    and is refused again is no repair."""
    before = [entry for entry in sheet.entries if entry.type == "repair" and entry.seq > sheet.head.turn.seq]
    if len(before) >= MAX_REPAIRS:
        return False
    model = model_of(sheet.head, sheet.spec)
    why = redactor.redact_text(failed.detail)[:300]
    if failed.data.get("container"):
        sent = project(sheet.entries, model=model).seqs
        if container_of(sheet.entries, sent, sheet.now()) is not None:
            sheet.write(running.repair(sheet.head, sheet.now(), (), why))
            return True
    if failed.status_code != 400:
        return False
    left_out = repairs.left_out(sheet.entries, model, failed.data.get("at"), why)
    if left_out:
        sheet.write(running.repair(sheet.head, sheet.now(), left_out, why))
    return bool(left_out)
