"""Before an update of the worker's service: one task at least, so that the update has to start one of the new image.

A deployment of a service at zero is complete at once, and its circuit breaker never sees an image that does not start.
CloudFormation calls this for each new task definition, before it updates the service. It goes into the template as it
is (`infra/src/turnkeeper_infra/worker.py`), so it imports nothing of the kit; `cfnresponse` is there for such code.
"""

from __future__ import annotations

from typing import Any

import boto3
import cfnresponse

#: Of the resource in the stack: always the same one.
ID = "worker-awake"


def handler(event: dict[str, Any], context: Any) -> None:
    """Answers CloudFormation, whatever happens; it would wait an hour for one that does not."""
    try:
        # When this is made, so is the service, and that starts with a task by itself.
        if event["RequestType"] == "Update":
            _have_one_task(*event["ResourceProperties"]["Service"].split("/"))
    except Exception as error:  # noqa: BLE001
        cfnresponse.send(event, context, cfnresponse.FAILED, {}, ID, reason=f"{type(error).__name__}: {error}")
    else:
        cfnresponse.send(event, context, cfnresponse.SUCCESS, {}, ID)


def _have_one_task(cluster: str, service: str) -> None:
    ecs = boto3.client("ecs")
    try:
        found = ecs.describe_services(cluster=cluster, services=[service])["services"]
    except ecs.exceptions.ClusterNotFoundException:
        return
    if [one for one in found if one["status"] == "ACTIVE" and one["desiredCount"] == 0]:
        ecs.update_service(cluster=cluster, service=service, desiredCount=1)
