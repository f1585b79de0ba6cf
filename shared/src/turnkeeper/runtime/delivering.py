"""Tells whoever wants to hear that a turn has ended. What one receiver does holds up neither the turn nor another.

A turn's end becomes one message: :meth:`Deliverer.take` puts it on the bus and writes a delivery for each receiver,
which is a message of its own. An attempt that fails is put off by the queue's delay; the table says when the next is
due, so that a message that comes twice, or too early, does nothing.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from standardwebhooks import Webhook

from turnkeeper.core.errors import InputTooLarge, InvalidRequest, NotPosted, TurnkeeperError
from turnkeeper.core.ledger import iso
from turnkeeper.core.retry_after import seconds_asked
from turnkeeper.core.transcript import answer_of_turn, output_of
from turnkeeper.core.word import WORD, Attempted, Channel, Delivery, TurnEnded
from turnkeeper.ports import Bus, Clock, HookSecrets, Ids, Redacts, Replies, Webhooks, Words
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.store.deliveries import Deliveries, Receiver
from turnkeeper.runtime.store.records import Records
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)

DELIVERY: Final = "turnkeeper/delivery@1"

#: A receiver has this long to take what it is sent.
TIMEOUT_SECONDS: Final = 15.0
#: The longest that a queue delays a message; what is due later is put off more than once.
_LONGEST_DELAY_SECONDS: Final = 900
_SHOWN_CHARS: Final = 300

#: What came of a message. ``later``: it was too early. ``nothing``: there is nothing to be done for it any more.
Outcome = Literal["told", "delivered", "failed", "dead", "later", "nothing"]


class NoWord(TurnkeeperError):
    """A message that tells of nothing, or one of a later version."""

    code = "no_word"


def delivery_message(delivery: Delivery) -> str:
    """What has a delivery attempted, when it is due."""
    data = delivery.event.data
    place = {"tenant_id": data.tenant_id, "session_id": data.session_id, "seq": data.last_seq}
    return json.dumps({"schema": DELIVERY, **place, "channel": delivery.channel}, separators=(",", ":"))


@dataclass(eq=False, repr=False)
class Deliverer:
    records: Records
    deliveries: Deliveries
    tenants: Tenants
    catalog: Catalog
    words: Words
    #: ``None`` where nobody in the account is told.
    bus: Bus | None
    webhooks: Webhooks
    replies: Replies
    secrets: HookSecrets
    redactor: Redacts
    clock: Clock
    ids: Ids

    def take(self, body: str) -> Outcome:
        """Do what a message of the queue asks for. Doing it again does no harm: a receiver is told of the same turn by
        the same id.

        Raises:
            NoWord: it asks for nothing.
            Unavailable, StoreBusy: later it may be done.
        """
        event, place = None, None
        try:
            message = json.loads(body)
            if (schema := message["schema"]) == WORD:
                event = TurnEnded.model_validate(message["event"])
            elif schema == DELIVERY:
                place = (message["tenant_id"], message["session_id"], int(message["seq"]), message["channel"])
        except (ValueError, KeyError, TypeError) as error:
            raise NoWord(f"a message that tells of nothing: {type(error).__name__}") from error
        if event is not None:
            return self._tell(event)
        if place is not None:
            return self._deliver(*place)
        raise NoWord(f"a message of another schema: {str(schema)[:60]}")

    def replay(self, delivery: Delivery) -> Delivery | None:
        """Deliver it once more, now, whatever came of it: an operator's word, which also forgets that its receiver said
        that it is gone. ``None`` where nothing can be delivered any more: its session was erased.

        Raises:
            Unavailable, StoreBusy: it is written down at most; replay it again.
        """
        if delivery.to is None:
            return None
        now = self.clock.now()
        again = delivery.replayed(now)
        if delivery.channel == "webhook":
            self.deliveries.note_success(delivery.event.data.tenant_id, delivery.to, now)
        if not self.deliveries.record(delivery, again):
            return None
        self.words.tell(delivery_message(again), group=delivery.event.data.tenant_id)
        return again

    # ---- a turn's end ----

    def _tell(self, event: TurnEnded) -> Outcome:
        _note(event)
        now = self.clock.now()
        for channel, to in self._receivers(event):
            new = Delivery(event=event, channel=channel, to=to, created_at=iso(now), since=iso(now), next_at=iso(now))
            delivery = self.deliveries.create(new)
            # One that was written and not sent, by whoever had this message before.
            if delivery is not None and delivery.state == "pending" and delivery.attempts == 0:
                self.words.tell(delivery_message(delivery), group=event.data.tenant_id)
        if self.bus is not None:
            self.bus.put(event.type, datetime.fromisoformat(event.timestamp), event.model_dump_json())
        return "told"

    def _receivers(self, event: TurnEnded) -> Iterator[tuple[Channel, str]]:
        """A session's own address stands in the place of its agent's. Of one that was erased nothing more is told than
        what stands on the bus: what is needed for it is erased as well."""
        data = event.data
        if data.status == "erased":
            return
        named = self.deliveries.named_by(data.tenant_id, data.session_id)
        agent = self.catalog.find(data.agent)
        if webhook := named.webhook or (agent.webhook if agent is not None else None):
            yield "webhook", webhook
        if named.reply_to is not None:
            yield "reply", named.reply_to

    # ---- a delivery ----

    def _deliver(self, tenant_id: str, session_id: str, seq: int, channel: Channel) -> Outcome:
        delivery = self.deliveries.get(tenant_id, session_id, seq, channel)
        if delivery is None or delivery.to is None or delivery.state != "pending":
            return "nothing"
        _note(delivery.event)
        now = self.clock.now()
        if delivery.is_too_old(now):
            return self._record(delivery, delivery.given_up("not taken for a day"))
        receiver = self._receiver(delivery)
        if receiver.gone_at is not None:
            return self._record(delivery, delivery.given_up(f"the receiver is gone since {receiver.gone_at}"))
        if (due := max(delivery.next_at, receiver.held_until or "")) > iso(now):
            self._send_again(delivery, due)
            return "later"
        after = delivery.answered(now, self._attempt(delivery, delivery.to, receiver), self.ids.jitter())
        outcome = self._record(delivery, after)
        if outcome == "failed":
            self._send_again(after, after.next_at)
        return outcome

    def _receiver(self, delivery: Delivery) -> Receiver:
        if delivery.channel != "webhook" or delivery.to is None:
            return Receiver()
        return self.deliveries.receiver(delivery.event.data.tenant_id, delivery.to)

    def _record(self, before: Delivery, after: Delivery) -> Outcome:
        if not self.deliveries.record(before, after):
            return "nothing"  # It was erased meanwhile, replayed, or another attempt was faster.
        said = {"delivery": after.id, "channel": after.channel, "attempts": after.attempts, "status": after.last_status}
        logger.info("a delivery is %s", after.state, extra=said)
        return "failed" if after.state == "pending" else after.state

    def _send_again(self, delivery: Delivery, due: str) -> None:
        seconds = (datetime.fromisoformat(due) - self.clock.now()).total_seconds()
        delay = min(max(math.ceil(seconds), 1), _LONGEST_DELAY_SECONDS)
        self.words.tell(delivery_message(delivery), group=delivery.event.data.tenant_id, delay_seconds=delay)

    # ---- an attempt ----

    def _attempt(self, delivery: Delivery, to: str, receiver: Receiver) -> Attempted:
        if delivery.channel == "reply":
            return self._reply(delivery, to)
        tenant_id = delivery.event.data.tenant_id
        try:
            # The plan may have changed since it was named.
            self.webhooks.check(to, self.tenants.terms(tenant_id).plan.webhook_hosts)
        except InvalidRequest as error:
            return Attempted(False, text=error.detail, final=True)
        answer = self._post(delivery, to)
        if not answer.taken:
            asked, gone = answer.asked_seconds, answer.final
            self.deliveries.note_failure(tenant_id, to, self.clock.now(), asked_seconds=asked, gone=gone)
        elif receiver.failures:
            self.deliveries.note_success(tenant_id, to, self.clock.now())
        return answer

    def _post(self, delivery: Delivery, to: str) -> Attempted:
        body = delivery.event.model_dump_json()
        headers = self._signed(delivery.event, body)
        try:
            posted = self.webhooks.post(to, headers, body.encode(), timeout_seconds=TIMEOUT_SECONDS)
        except NotPosted as error:
            return Attempted(False, text=self._shown(error.detail))
        taken, gone = 200 <= posted.status < 300, posted.status == 410
        asked = seconds_asked(posted.retry_after, self.clock.now()) or 0.0
        return Attempted(taken, posted.status, self._shown(posted.head), asked_seconds=asked, final=gone)

    def _signed(self, event: TurnEnded, body: str) -> dict[str, str]:
        """As Standard Webhooks has it: by each secret that verifies now, so that a receiver may have either."""
        now = self.clock.now()
        signatures = [Webhook(secret).sign(event.id, now, body) for secret in self.secrets.of(event.data.tenant_id)]
        return {
            "content-type": "application/json",
            "webhook-id": event.id,
            "webhook-timestamp": str(math.floor(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    def _reply(self, delivery: Delivery, name: str) -> Attempted:
        data = delivery.event.data
        document = {**delivery.event.model_dump(mode="json"), "result": self._result(delivery)}
        try:
            try:
                self._send_reply(delivery, name, document)
            except InputTooLarge:
                left = {**document["result"], "output": [], "output_text": "", "output_left_out": True}
                self._send_reply(delivery, name, {**document, "result": left})
        except (NotPosted, InputTooLarge) as error:
            return Attempted(False, text=self._shown(error.detail), final=isinstance(error, InputTooLarge))
        logger.info("the result of session %s was sent", data.session_id)
        return Attempted(True)

    def _send_reply(self, delivery: Delivery, name: str, document: Any) -> None:
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        self.replies.send(name, body, group=delivery.event.data.tenant_id, message_id=delivery.event.id)

    def _result(self, delivery: Delivery) -> dict[str, Any]:
        """What the turn came to, as it was when it ended: the session may have gone on."""
        data = delivery.event.data
        transcript = self.records.load(data.tenant_id, data.session_id)
        answer, stop = answer_of_turn(entry for entry in transcript.entries if entry.seq <= data.last_seq)
        job_id = self.deliveries.named_by(data.tenant_id, data.session_id).job_id
        return {"job_id": job_id, "metadata": transcript.head.metadata, **output_of(stop, answer)}

    def _shown(self, text: str) -> str:
        return self.redactor.redact_text(text)[:_SHOWN_CHARS]


def _note(event: TurnEnded) -> None:
    data = event.data
    fields.note(
        tenant_id=data.tenant_id, session_id=data.session_id, turn=data.turn, agent=data.agent, trace_id=data.trace_id
    )
