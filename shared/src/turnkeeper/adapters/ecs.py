"""The worker's service on ECS: how many tasks are wanted, and whether this process's task is still one of them."""

from __future__ import annotations

import json
import logging
import threading
from typing import Any, Protocol

from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import Clock

logger = logging.getLogger(__name__)

#: A process that has looked at the service leaves it alone for so long: ECS takes few requests a second of an account.
QUIET_SECONDS = 10.0


class EcsClient(Protocol):
    """What is called of boto3's client, and so what a role needs: ``DescribeServices``, ``UpdateService`` and, for a
    task that asks after itself, ``DescribeTasks``."""

    def describe_services(self, *, cluster: str, services: list[str]) -> dict[str, Any]: ...

    def update_service(self, *, cluster: str, service: str, desiredCount: int) -> dict[str, Any]: ...

    def describe_tasks(self, *, cluster: str, tasks: list[str]) -> dict[str, Any]: ...


class EcsWakes:
    """A :class:`turnkeeper.ports.Wakes`: the desired count of one service, which is only ever raised.

    ECS has no condition on the count that was read. Two who raise it in the same moment may leave the smaller of both
    wishes; the next look mends that.
    """

    def __init__(self, client: EcsClient, service: str, most_tasks: int, clock: Clock) -> None:
        """``service`` is ``cluster/service``; ``most_tasks`` the most that is ever asked for."""
        self._client = client
        self._cluster, self._service = service.split("/")
        self._most_tasks = most_tasks
        self._clock = clock
        self._lock = threading.Lock()
        self._quiet_until = 0.0
        #: What is wanted already, as far as this process knows, until then.
        self._known = 0
        #: Looks that failed since this process began.
        self.failures = 0

    def at_least(self, tasks: int) -> None:
        wanted = min(tasks, self._most_tasks)
        with self._lock:
            now = self._clock.monotonic()
            if now < self._quiet_until and wanted <= self._known:
                return
            # Noted before the look, so that the others of this process do not wait for it, and a service that is out
            # of reach delays one request and not each.
            self._quiet_until, self._known = now + QUIET_SECONDS, wanted
        try:
            found = self._raise(wanted)
        except Exception as error:  # noqa: BLE001 - whoever sends has done what counts
            with self._lock:
                self.failures += 1
            logger.warning(
                "the worker could not be woken: %s: %s",
                type(error).__name__,
                error,
                extra={"code": "wake_failed", "failures": self.failures},
            )
            return
        with self._lock:
            self._known = max(self._known, found)

    def _raise(self, wanted: int) -> int:
        found = int(_service(self._client, self._cluster, self._service)["desiredCount"])
        if found >= wanted:
            return found
        self._client.update_service(cluster=self._cluster, service=self._service, desiredCount=wanted)
        logger.info("the worker is woken: %d tasks instead of %d", wanted, found)
        return wanted


class EcsTask:
    """This process's own task."""

    def __init__(self, client: EcsClient, service: str, task_arn: str) -> None:
        self._client = client
        self._cluster, self._service = service.split("/")
        self._task_arn = task_arn
        self._deployment: str | None = None

    def is_replaced(self) -> bool:
        """Whether another deployment of the service has taken the place of the one that began this task, and has all of
        its tasks running. A deployment that cannot get that far is rolled back, and then this task is needed.

        Raises:
            Exception: ECS could not be asked, or does not know the task.
        """
        if self._deployment is None:
            # A service's task is begun by a deployment, and named after it. The task definition would not do: a
            # deployment may be forced with the same one.
            answer = self._client.describe_tasks(cluster=self._cluster, tasks=[self._task_arn])
            self._deployment = str(_only(answer, "tasks")["startedBy"])
        service = _service(self._client, self._cluster, self._service)
        primary = next((one for one in service["deployments"] if one["status"] == "PRIMARY"), None)
        if primary is None or primary["id"] == self._deployment:
            return False
        return bool(primary["runningCount"] >= primary["desiredCount"])


def own_task_arn(metadata_uri: str) -> str:
    """The ARN of this process's task, from the task metadata endpoint (version 4) that ECS names in
    ``ECS_CONTAINER_METADATA_URI_V4``.

    Raises:
        OSError, ValueError, KeyError: it cannot be read.
    """
    import urllib.request

    with urllib.request.urlopen(f"{metadata_uri}/task", timeout=5) as answer:  # noqa: S310 - the address is from ECS
        return str(json.load(answer)["TaskARN"])


def _service(client: EcsClient, cluster: str, service: str) -> dict[str, Any]:
    return _only(client.describe_services(cluster=cluster, services=[service]), "services")


def _only(answer: dict[str, Any], what: str) -> dict[str, Any]:
    if not answer[what]:
        raise Unavailable(f"ECS does not know it: {answer.get('failures')}")
    found: dict[str, Any] = answer[what][0]
    return found
