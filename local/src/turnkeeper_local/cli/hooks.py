"""Deliveries of word that turns have ended, as commands read and tell them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from turnkeeper.bootstrap import Kit
from turnkeeper.core.word import Delivery
from turnkeeper.runtime.store.deliveries import DeliveryNotFound

Document = dict[str, Any]

#: As :attr:`turnkeeper.core.word.Delivery.id` has it.
_ID = re.compile(r"evt_(\w+)_(\d+)_(webhook|reply)")


class HookOffice:
    """``name`` makes who it is, for the audit trail, when something is about to be done."""

    def __init__(self, kit: Kit, name: Callable[[], str]) -> None:
        self._kit = kit
        self._name = name

    def deliveries(self, tenant_id: str, *, session_id: str | None, state: str | None, limit: int) -> list[Document]:
        """Newest first."""
        found: Iterator[Delivery] = (
            self._kit.deliveries.of_tenant(tenant_id)
            if session_id is None
            else reversed(self._kit.deliveries.of_session(tenant_id, session_id))
        )
        return [document(one) for one in islice((one for one in found if state in (None, one.state)), limit)]

    def replay(self, tenant_id: str, delivery_id: str) -> Document:
        """Deliver it once more, now; goes onto the tenant's audit chain.

        Raises:
            DeliveryNotFound: there is none of this id, or its session was erased.
        """
        parts = _ID.fullmatch(delivery_id)
        found = parts and self._kit.deliveries.get(tenant_id, f"ses_{parts[1]}", int(parts[2]), parts[3])
        if not found:
            raise DeliveryNotFound(f"tenant {tenant_id} has no delivery {delivery_id}")
        again = self._kit.deliverer.replay(found)
        if again is None:
            raise DeliveryNotFound(f"{delivery_id} cannot be delivered any more: its session was erased")
        self._audit(tenant_id, "hook_replayed", delivery=delivery_id)
        return document(again)

    def secrets(self, tenant_id: str) -> Document:
        """What a tenant's receivers verify by; that somebody was shown it goes onto the tenant's audit chain."""
        current, *previous = self._kit.hook_secrets.of(tenant_id)
        self._audit(tenant_id, "hook_secret_shown")
        return {"tenant_id": tenant_id, "secret": current, "previous": previous[0] if previous else None}

    def _audit(self, tenant_id: str, action: str, **detail: str) -> None:
        self._kit.tenants.audit(tenant_id, "operator_action", self._name(), {"action": action, **detail})


def document(delivery: Delivery) -> Document:
    data = delivery.event.data
    return {
        "id": delivery.id,
        "event_id": delivery.event.id,
        "tenant_id": data.tenant_id,
        "session_id": data.session_id,
        "agent": data.agent,
        "turn": data.turn,
        "status": data.status,
        "channel": delivery.channel,
        "to": shown(delivery.to),
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": delivery.created_at,
        "last_at": delivery.last_at,
        "last_status": delivery.last_status,
        "last_answer": delivery.last_answer,
        "next_at": delivery.next_at,
    }


def shown(to: str | None) -> str | None:
    """An address without its path, which may be all that keeps others from posting there too."""
    scheme, separator, rest = (to or "").partition("://")
    return f"{scheme}://{re.split('[/?#]', rest, maxsplit=1)[0]}" if separator else to
