"""Word that turns have ended: a bus for whoever in the account wants to hear, a queue of what is to be told, and the
function that tells it. No turn waits for any of it (docs/decisions/0133).
"""

from __future__ import annotations

from collections.abc import Callable

from aws_cdk import aws_events as events
from constructs import Construct

from turnkeeper_infra import fed, names
from turnkeeper_infra.alarms import Heard
from turnkeeper_infra.config import Config
from turnkeeper_infra.functions import KitFunction
from turnkeeper_infra.grants import Grants
from turnkeeper_infra.state import StateStack

_TIMEOUT_SECONDS = 60
"""More than a receiver is waited for (`turnkeeper.runtime.delivering`), with what is read and written around it."""
_RECEIVES = 20
"""Of a message that cannot be worked on: the table is out of reach, or it tells of nothing. What a receiver does not
take is put off by a message of its own."""
_AT_ONCE = 20
"""Messages: receivers that hang must not take the account's concurrency from turns."""
_AT_ONCE_LOCALLY = 5
"""There each is a process of its own, which takes a second of this machine to start: twenty turns that end together
would start twenty."""

_TROUBLES = fed.Troubles(
    section="webhooks",
    set_aside="Word of turns that could not be worked on: the log of `deliver` says why",
    errors="What tells of turns fails outside of what it handles",
    throttled="What tells of turns is throttled",
)


class Hooks(Construct):
    """What tells of turns. `ask` lets another function have something told."""

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        state: StateStack,
        function: Callable[..., KitFunction],
        heard: Heard,
    ) -> None:
        super().__init__(scope, id)
        self._state = state
        self.bus = events.EventBus(
            self, "Bus", event_bus_name=config.name, description="Turnkeeper: turns that came to rest"
        )
        self.queue, self.dead_letters = fed.queue_of(self, config, timeout_seconds=_TIMEOUT_SECONDS, receives=_RECEIVES)
        self.function = function(
            "Deliver",
            handler=names.DELIVER_HANDLER,
            service="deliver",
            description="Tells of turns that came to rest: on the bus, to webhooks and reply queues",
            timeout_seconds=_TIMEOUT_SECONDS,
            memory_mb=config.memory_mb.deliver,
            settings={
                "TURNKEEPER_WORDS_QUEUE_URL": self.queue.queue_url,
                "TURNKEEPER_EVENT_BUS": self.bus.event_bus_name,
                "TURNKEEPER_HOOK_SECRET_ID": state.hook_secret.secret_arn,
                "POWERTOOLS_METRICS_NAMESPACE": names.metric_namespace(config.name),
            },
        )
        self._grant(Grants(state, self.function.kit_role), config)
        # One: whoever shares a batch with a receiver that hangs would wait for it.
        fed.feed(self, self.function, self.queue, batch=1, at_once=_AT_ONCE_LOCALLY if config.local else _AT_ONCE)
        if not config.local:
            fed.watch(self, self.function, self.dead_letters, _TROUBLES, heard)

    def ask(self, asker: KitFunction) -> None:
        """Let a function have a turn's end told."""
        asker.tell({"TURNKEEPER_WORDS_QUEUE_URL": self.queue.queue_url})
        Grants(self._state, asker.kit_role).send_words(self.queue)

    def _grant(self, grants: Grants, config: Config) -> None:
        grants.write_deliveries().read_claims().take_words(self.queue).send_words(self.queue)
        grants.tell_bus(self.bus).read_hook_keys()
        grants.send_replies({name: (one.arn, one.kms_key_arn) for name, one in config.reply_queues.items()})
