"""Names that the stacks share with each other and with what is deployed.

Attribute and index names are part of the table's layout: `turnkeeper.adapters.dynamodb` uses the same ones.
"""

from __future__ import annotations

from typing import Final

PARTITION_KEY: Final = "pk"
SORT_KEY: Final = "sk"
TTL_ATTRIBUTE: Final = "expires_at_epoch"

INDEXES: Final[dict[str, tuple[str, str]]] = {
    "by_user": ("user_key", "created_key"),
    "by_tenant": ("tenant_key", "created_key"),
    "by_status": ("status_key", "created_key"),
    "due": ("due_shard", "due_at"),
}
"""Index name to its partition and sort attribute; all are strings, all indexes hold keys only."""

CLAIMS_PREFIX: Final = "claims/"
"""Where in the bucket contents too large for the table are kept."""

API_HANDLER: Final = "functions.api.handler.handler"
TURN_HANDLER: Final = "functions.turn.handler.handler"
OBSERVE_HANDLER: Final = "functions.observe.handler.handler"
SCORE_HANDLER: Final = "functions.score.handler.handler"
SWEEP_HANDLER: Final = "functions.sweep.handler.handler"
TRACE_HANDLER: Final = "functions.trace.handler.handler"
STREAM_PROGRAM: Final = "functions/api/serve.sh"
"""The handler of a function behind the Lambda Web Adapter: a program, by its place in the code."""
LIVE_ALIAS: Final = "live"

CLOUDWATCH: Final = "cloudwatch"
"""Where traces may go without an address: the region's own receiver."""

WAKE_FAILED: Final = "wake_failed"
"""The `code` of a line in the log that says that ECS could not be asked for a task (`turnkeeper.adapters.ecs`)."""
WAKES_FAILED: Final = "wakes_failed"
"""The metric that counts those lines."""


def metric_namespace(name: str) -> str:
    """Of one deployment's metrics, so that those of `dev` are not taken for production's in the same account."""
    return f"Turnkeeper/{name}"


WORKER_SERVICE: Final = "worker"


def worker_service(name: str) -> str:
    """The worker's ECS service as `cluster/service`; the cluster is called like the deployment."""
    return f"{name}/{WORKER_SERVICE}"


PUBLIC_PATHS: Final = ("/v1/health", "/v1/openapi.json")
"""Answered without an identity."""

STREAM_KEY: Final = "STREAM"
"""Sort key of the items through which readers look on (`turnkeeper.runtime.store.keys.stream_key`)."""
