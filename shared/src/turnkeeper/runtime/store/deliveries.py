"""Who hears when a turn of a session has ended, and the log of what was delivered to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.ledger import iso
from turnkeeper.runtime.store import keys
from turnkeeper.table import ABSENT, EXISTS, Check, Cond, ConditionFailed, Item, Key, Put, Table, Update

if TYPE_CHECKING:
    from turnkeeper.core.word import Delivery

#: The log is kept this long.
KEEP_DAYS: Final = 30
_FACTS: Final = ("state", "attempts", "since", "next_at", "last_at", "last_status", "last_answer")


class DeliveryNotFound(TurnkeeperError):
    """There is no delivery of this id, or it was erased, or is no longer kept."""

    code = "delivery_not_found"
    status = 404


@dataclass(frozen=True, slots=True)
class DeliverTo:
    """Who hears of a session, beside those that its agent names."""

    #: An address.
    webhook: str | None = None
    #: The name that the deployment gave a queue.
    reply_to: str | None = None
    #: The job that the session was made for, where it named a queue.
    job_id: str | None = None

    def put(self, tenant_id: str, session_id: str) -> list[Put]:
        """For the write that the session is made with; nothing where nobody is to hear."""
        named = {"webhook": self.webhook, "reply_to": self.reply_to, "job_id": self.job_id}
        item = {name: value for name, value in named.items() if value is not None}
        return [Put(keys.deliver_to_key(tenant_id, session_id), item, (ABSENT,))] if item else []


TO_NOBODY: Final = DeliverTo()


@dataclass(frozen=True, slots=True)
class Receiver:
    """How an address answers a tenant's webhooks."""

    #: In a row.
    failures: int = 0
    held_until: str | None = None
    #: Since when it says that it is there no more.
    gone_at: str | None = None


class Deliveries:
    def __init__(self, table: Table) -> None:
        self._table = table

    def named_by(self, tenant_id: str, session_id: str) -> DeliverTo:
        """Who hears of a session, as it was said when it was made."""
        item = self._table.get(keys.deliver_to_key(tenant_id, session_id)) or {}
        return DeliverTo(item.get("webhook"), item.get("reply_to"), item.get("job_id"))

    def create(self, delivery: Delivery) -> Delivery | None:
        """Write a delivery down, once; as it stands where it was written before. ``None`` where its session was erased:
        from then on nothing is told of it."""
        data = delivery.event.data
        key = _key(delivery)
        item: Item = {
            "event": delivery.event.model_dump_json(),
            "channel": delivery.channel,
            "to": delivery.to,
            "created_at": delivery.created_at,
            **_facts(delivery),
            "expires_at_epoch": _expires(datetime.fromisoformat(delivery.created_at)),
            "status_key": keys.by_delivery(data.tenant_id),
            "created_key": f"{delivery.created_at}#{delivery.id}",
        }
        not_erased = Check(keys.head_key(data.tenant_id, data.session_id), (Cond("status", "<>", "erased"),))
        try:
            self._table.write([Put(key, item, (ABSENT,)), not_erased])
        except ConditionFailed as failed:
            return None if 1 in failed.failures else self.find(key)
        return delivery

    def find(self, key: Key) -> Delivery | None:
        item = self._table.get(key)
        return _delivery(item) if item is not None else None

    def get(self, tenant_id: str, session_id: str, seq: int, channel: str) -> Delivery | None:
        return self.find(keys.delivery_key(tenant_id, session_id, seq, channel))

    def record(self, before: Delivery, after: Delivery) -> bool:
        """Write down how it stands; whether nobody else did so meanwhile."""
        facts, was = _facts(after), _facts(before)
        same = (
            Cond("state", "=", before.state),
            Cond("attempts", "=", before.attempts),
            Cond("since", "=", before.since),
        )
        # Whose session was erased keeps nothing of what a receiver answered.
        here = (Cond("to", "exists"),) if after.last_answer is not None else ()
        gone = tuple(name for name in was if name not in facts)
        try:
            self._table.update(Update(_key(before), set=facts, remove=gone, conditions=(EXISTS, *same, *here)))
        except ConditionFailed:
            return False
        return True

    # ---- lists ----

    def of_tenant(self, tenant_id: str) -> Iterator[Delivery]:
        """Newest first."""
        cursor: str | None = None
        partition = keys.by_delivery(tenant_id)
        while True:
            page = self._table.query(partition, index="by_status", limit=100, descending=True, cursor=cursor)
            yield from map(_delivery, self._table.batch_get([Key(item["pk"], item["sk"]) for item in page.items]))
            if (cursor := page.cursor) is None:
                return

    def of_session(self, tenant_id: str, session_id: str) -> list[Delivery]:
        """Oldest first."""
        pk = keys.session_pk(tenant_id, session_id)
        return list(map(_delivery, self._table.query_all(pk, first="DELIVERY#", last="DELIVERY#~")))

    # ---- receivers ----

    def receiver(self, tenant_id: str, address: str) -> Receiver:
        item = self._table.get(keys.receiver_key(tenant_id, address)) or {}
        return Receiver(int(item.get("failures", 0)), item.get("held_until"), item.get("gone_at"))

    def note_failure(
        self, tenant_id: str, address: str, now: datetime, *, asked_seconds: float = 0.0, gone: bool = False
    ) -> None:
        """It did not take something. After some in a row, or where it asks for that, it is left alone for a while;
        where it is gone, for good."""
        from turnkeeper.core.word import hold_seconds

        key = keys.receiver_key(tenant_id, address)
        facts = {"expires_at_epoch": _expires(now), **({"gone_at": iso(now)} if gone else {})}
        after = self._table.update(Update(key, set=facts, add={"failures": 1}))
        if "gone_at" in after:
            # Which is not forgotten by itself.
            self._table.update(Update(key, remove=("expires_at_epoch",)))
        elif held := hold_seconds(int(after["failures"]), asked_seconds):
            # Of attempts at the same time one may have asked for longer.
            until = max(iso(now + timedelta(seconds=held)), after.get("held_until", ""))
            self._table.update(Update(key, set={"held_until": until}))

    def note_success(self, tenant_id: str, address: str, now: datetime) -> None:
        """It takes what it is sent: what was against it is forgotten."""
        forgotten = ("held_until", "gone_at")
        with suppress(ConditionFailed):  # There was nothing.
            self._table.update(
                Update(
                    keys.receiver_key(tenant_id, address),
                    set={"failures": 0, "expires_at_epoch": _expires(now)},
                    remove=forgotten,
                    conditions=(EXISTS,),
                )
            )


def _key(delivery: Delivery) -> Key:
    data = delivery.event.data
    return keys.delivery_key(data.tenant_id, data.session_id, data.last_seq, delivery.channel)


def _expires(since: datetime) -> int:
    return int((since + timedelta(days=KEEP_DAYS)).timestamp())


def _facts(delivery: Delivery) -> Item:
    """What changes."""
    values = {name: getattr(delivery, name) for name in _FACTS}
    return {name: value for name, value in values.items() if value is not None}


def _delivery(item: Mapping[str, Any]) -> Delivery:
    from turnkeeper.core.word import Delivery, TurnEnded

    facts: dict[str, Any] = {name: item.get(name) for name in _FACTS}
    if "to" not in item and facts["state"] == "pending":
        facts["state"] = "dead"  # Its session was erased: whoever is trying it finds nothing to write it down in.
    return Delivery(
        event=TurnEnded.model_validate_json(item["event"]),
        channel=item["channel"],
        to=item.get("to"),
        created_at=item["created_at"],
        **facts,
    )
