"""Secrets of webhooks: one for each tenant, made of keys that only what signs can read.

They are no continuation tokens' keys: what signs webhooks must not be able to let anybody go on with a session.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence

from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import Clock

_logger = logging.getLogger(__name__)

_FRESH_SECONDS = 300
_PURPOSE = b"turnkeeper/webhook/v1\0"


class DerivedHookSecrets:
    """A :class:`turnkeeper.ports.HookSecrets`. A secret says nothing of the key that it is made of, nor of another
    tenant's.

    Args:
        keys: those in force, the current one first. Read again after five minutes, and kept while they cannot be.
    """

    def __init__(self, keys: Callable[[], Sequence[str]], clock: Clock) -> None:
        self._read = keys
        self._clock = clock
        self._known: tuple[float, Sequence[str]] = (0.0, ())

    def of(self, tenant_id: str) -> Sequence[str]:
        return [_derived(key, tenant_id) for key in self._keys()]

    def _keys(self) -> Sequence[str]:
        read_at, keys = self._known
        if not keys or self._clock.monotonic() - read_at > _FRESH_SECONDS:
            try:
                keys = self._read()
            except Unavailable:
                if not keys:
                    raise
                _logger.warning("the keys of webhooks cannot be read now: those at hand stay in use")
            self._known = (self._clock.monotonic(), keys)
        return keys


def _derived(key: str, tenant_id: str) -> str:
    digest = hmac.digest(key.encode(), _PURPOSE + tenant_id.encode("utf-8", "surrogatepass"), hashlib.sha256)
    return "whsec_" + base64.b64encode(digest).decode()
