"""The third stage: what was begun under the same idempotency key is found again instead of being begun twice."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from functions.api.http import Request
from functions.api.stages.begin import Begun
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.errors import SessionBusy, SessionEnded
from turnkeeper.core.inputs import invalid
from turnkeeper.runtime.intake import Identity
from turnkeeper.runtime.store.idempotency import AlreadyDone, IdempotencyKey
from turnkeeper.wiring.front_door import FrontDoorKit

_KEY = re.compile(r"[ -~]{1,128}")


def key_of(kit: FrontDoorKit, request: Request, body: Any) -> IdempotencyKey | None:
    """The key that the caller sent, which stands for this very call with this body, however it is written down.

    Raises:
        InvalidRequest: it is none.
    """
    key = request.headers.get("idempotency-key")
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise invalid("Idempotency-Key is 1 to 128 printable characters.", "header Idempotency-Key", "not a key")
    protected = sorted_json([request.method, request.path, body], ascii=True)
    # Earlier releases wrote this one, and know no other: whoever read the table could try short inputs against it.
    plain = hashlib.sha256(protected).hexdigest()
    marks = kit.request_marks.of(protected)
    first, *others = (*marks, plain) if kit.settings.compact_writes else (plain, *marks)
    return IdempotencyKey(key, first, request.who.user_id, others)


def once(
    kit: FrontDoorKit, who: Identity, key: IdempotencyKey | None, begin: Callable[[IdempotencyKey | None], Begun]
) -> Begun:
    """What was begun under the key before, or else what ``begin`` begins and writes down under it.

    Raises:
        IdempotencyMismatch: the key was used with another call or body.
    """
    if key is None:
        return begin(None)
    try:
        return _earlier(kit, who, key) or begin(key)
    except (AlreadyDone, SessionBusy, SessionEnded):
        # Perhaps by the same request, a moment ago.
        if begun := _earlier(kit, who, key):
            return begun
        raise


def _earlier(kit: FrontDoorKit, who: Identity, key: IdempotencyKey) -> Begun | None:
    """Whose it is, is looked at once more: who asks may have been an admin then, and be none now."""
    earlier = kit.sessions.earlier(who.tenant_id, who.user_id, key)
    return Begun(kit.intake.owned(who, earlier.session_id), earlier.turn, seq=earlier.seq) if earlier else None
