"""Who may be told that a turn has ended: what plans and the deployment allow, closed until somebody is named."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from turnkeeper.core.errors import NotPosted
from turnkeeper.core.inputs import invalid
from turnkeeper.core.policy import Terms
from turnkeeper.ports import Replies, Webhooks
from turnkeeper.runtime.store.deliveries import DeliverTo


@dataclass(eq=False, repr=False)
class MayTell:
    webhooks: Webhooks
    replies: Replies

    def check(self, deliver_to: DeliverTo, terms: Terms) -> None:
        """Raises InvalidRequest where one of them may not be told."""
        if deliver_to.webhook is not None:
            self.webhooks.check(deliver_to.webhook, terms.plan.webhook_hosts)
        if deliver_to.reply_to is not None and deliver_to.reply_to not in self.replies.names:
            why = f"this deployment lets no results be sent to a queue {deliver_to.reply_to!r}"
            raise invalid(why, "reply_to", why)


class NoReplies:
    """A :class:`turnkeeper.ports.Replies` where the deployment names no queue."""

    names: Collection[str] = ()

    def send(self, name: str, body: str, *, group: str, message_id: str) -> None:  # noqa: ARG002 - the port's
        raise NotPosted(f"this deployment names no queue {name!r} any more")
