"""Tells on-call by a POST to an address."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from turnkeeper.adapters.log_alerts import LogAlerts
from turnkeeper.core.errors import Unavailable

_TIMEOUT_SECONDS = 5.0


class WebhookAlerts:
    """A :class:`turnkeeper.ports.Alerts`: every alert is logged, and sent as JSON ``{"kind", "subject", "data"}``; any
    answer below 300 is taken for told. The address may be a secret: no error names it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._log = LogAlerts()

    def alert(self, kind: str, subject: str, data: Mapping[str, Any]) -> None:
        import httpx2

        self._log.alert(kind, subject, data)
        body = json.dumps({"kind": kind, "subject": subject, "data": dict(data)}, default=str)
        try:
            answer = httpx2.post(
                self._url, content=body, headers={"content-type": "application/json"}, timeout=_TIMEOUT_SECONDS
            )
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError) as error:  # The last of a host that no name can be.
            raise Unavailable(
                f"the alert {kind} was not sent: {type(error).__name__}", retry_after_seconds=60
            ) from None
        if answer.status_code >= 300:
            text = f"the alert {kind} was not taken: {answer.status_code}"
            raise Unavailable(text, retry_after_seconds=60)
