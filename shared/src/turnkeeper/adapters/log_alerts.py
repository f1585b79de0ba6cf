"""Tells on-call in the log, where there is nobody else to tell."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

_logger = logging.getLogger(__name__)


class LogAlerts:
    """A :class:`turnkeeper.ports.Alerts` for where nobody subscribes: the log only."""

    def alert(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        _logger.warning("alert %s: %s", kind, subject, extra={"alert": {"kind": kind, "data": dict(data)}})
