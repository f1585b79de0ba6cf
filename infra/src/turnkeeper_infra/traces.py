"""Traces of turns, where a stage asks for them: a queue, the function that makes and sends them, what it could not
send, and who is told of that. Nothing else waits for any of it (docs/decisions/0110).
"""

from __future__ import annotations

from collections.abc import Callable

import aws_cdk as cdk
from constructs import Construct

from turnkeeper_infra import fed, names
from turnkeeper_infra.alarms import Heard
from turnkeeper_infra.config import Config
from turnkeeper_infra.functions import KitFunction
from turnkeeper_infra.grants import Grants
from turnkeeper_infra.state import StateStack

_TIMEOUT_SECONDS = 60
_RECEIVES = 14
"""With the back-off of `turnkeeper.adapters.trace_queue`: half a minute, twice as long each time, at most an hour. So a
receiver may be away for seven hours."""
_BATCH = 5
_AT_ONCE = 5
"""Batches: a receiver that is slow must not take the account's concurrency from turns."""

_TROUBLES = fed.Troubles(
    section="traces",
    set_aside="Traces that were not taken for hours, or cannot be made: the log of `trace` says why",
    errors="What sends traces fails outside of what it handles",
    throttled="What sends traces is throttled",
)


class Traces(Construct):
    """What makes and sends traces. `ask` lets another function ask for some."""

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
        self._config = config
        self._state = state
        self.queue, self.dead_letters = fed.queue_of(self, config, timeout_seconds=_TIMEOUT_SECONDS, receives=_RECEIVES)
        self.function = function(
            "Trace",
            handler=names.TRACE_HANDLER,
            service="trace",
            description="Makes traces of turns that came to rest, and sends them",
            timeout_seconds=_TIMEOUT_SECONDS,
            memory_mb=config.memory_mb.traces,
            settings={**self._settings(), "POWERTOOLS_METRICS_NAMESPACE": names.metric_namespace(config.name)},
        )
        self._grant(Grants(state, self.function.kit_role))
        fed.feed(self, self.function, self.queue, batch=_BATCH, at_once=_AT_ONCE)
        if not config.local:
            fed.watch(self, self.function, self.dead_letters, _TROUBLES, heard)

    def ask(self, asker: KitFunction) -> None:
        """Let a function ask for traces."""
        asker.tell(
            {"TURNKEEPER_TRACES_QUEUE_URL": self.queue.queue_url, "TURNKEEPER_OTLP_ENDPOINT": endpoint(self._config)}
        )
        Grants(self._state, asker.kit_role).ask_for_traces(self.queue)

    def _settings(self) -> dict[str, str]:
        config = self._config
        settings = {
            "TURNKEEPER_TRACES_QUEUE_URL": self.queue.queue_url,
            "TURNKEEPER_OTLP_ENDPOINT": endpoint(config),
            "TURNKEEPER_TRACE_CONTENTS": ",".join(config.trace_contents),
            "TURNKEEPER_DEPLOYMENT": config.name,
        }
        if config.traces_secret_arn:
            settings["TURNKEEPER_OTLP_SECRET_ID"] = config.traces_secret_arn
        return settings

    def _grant(self, grants: Grants) -> None:
        config = self._config
        grants.read_sessions().note_traces().read_claims().take_traces(self.queue)
        if config.traces_secret_arn:
            grants.read_headers(config.traces_secret_arn, config.traces_secret_kms_key_arn)
        if config.traces == names.CLOUDWATCH:
            grants.put_traces()


def endpoint(config: Config) -> str:
    """Where traces go; nowhere, for an empty one."""
    if config.traces == names.CLOUDWATCH:
        return f"https://xray.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}/v1/traces"
    return "" if config.traces == "off" else config.traces
