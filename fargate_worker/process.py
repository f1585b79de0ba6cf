"""A worker in one process: one by itself, or one of several that ``fargate_worker.supervising`` started."""

from __future__ import annotations

import gc
import logging
import os
import platform
from typing import TYPE_CHECKING

from fargate_worker.health import HealthServer
from fargate_worker.link import Link
from fargate_worker.metrics import Page
from fargate_worker.protection import TaskProtection
from fargate_worker.reading import Reader
from fargate_worker.retiring import Retiring
from fargate_worker.signals import Signals
from fargate_worker.worker import Options, Worker
from turnkeeper.adapters.ecs import EcsTask, own_task_arn
from turnkeeper.bootstrap import Kit
from turnkeeper.ports import Clock
from turnkeeper.sdk.leash import hide_this_process
from turnkeeper.settings import Settings
from turnkeeper.table import Key

if TYPE_CHECKING:
    from turnkeeper.gateway.server import GatewayServer

logger = logging.getLogger(__name__)

#: Garbage is looked for after so many new objects: some ten megabytes, where all of them were garbage.
_NEW_OBJECTS = 50_000


def worker_of(kit: Kit, *, number: int = 0, of: int = 1) -> Worker:
    """The worker of a wired kit, or of its processes this one. Everything that is expensive is made here, before the
    first message."""
    settings = kit.settings
    return Worker(
        engine=kit.engine,
        reader=Reader(kit.intake, kit.tokens),
        sessions=kit.sessions,
        queue=kit.queue,
        tokens=kit.tokens,
        clock=kit.clock,
        workers=kit.workers,
        wakes=kit.wakes if settings.auto_placement == "economy" else None,
        options=Options(
            name=name_of_this(number),
            concurrency=share(settings.worker_concurrency, number, of),
            processes=of,
            lease_seconds=settings.lease_seconds,
            stop_seconds=settings.stop_seconds,
            # The process ends when its last poll does.
            poll_seconds=max(1, min(5, int(settings.stop_seconds / 3))),
        ),
    )


def share(slots: int, number: int, of: int) -> int:
    """The slots of one process; those of all are as many as there are."""
    return slots // of + (number < slots % of)


def name_of_this(number: int = 0) -> str:
    """The task's id where ECS says it, with the process's number but for the first, else host and process: by it logs
    are found."""
    try:
        task = own_task_arn(os.environ["ECS_CONTAINER_METADATA_URI_V4"]).rsplit("/", 1)[-1]
        return f"{task}-{number}" if number else task
    except (OSError, ValueError, KeyError):
        # Whole: what tells one pod's host from another's stands at its end, and each of them has the same process id.
        return f"{platform.node() or 'worker'}-{os.getpid()}"


def retiring_of(kit: Kit) -> Retiring | None:
    """Where this is a task of the service that is named, the one who sees that it was replaced; already looking."""
    metadata_uri, service = os.environ.get("ECS_CONTAINER_METADATA_URI_V4"), kit.settings.worker_service
    if not metadata_uri or not service:
        return None
    try:
        task = EcsTask(kit.platform.aws.ecs, service, own_task_arn(metadata_uri))
    except (OSError, ValueError, KeyError) as error:
        logger.warning("this task cannot tell which one it is, and works until it is stopped: %s", error)
        return None
    retiring = Retiring(task.is_replaced, kit.clock)
    retiring.start()
    return retiring


def gateway_of(kit: Kit) -> GatewayServer | None:
    """Where the worker serves the gateway, that; already answering."""
    settings = kit.settings
    if kit.engines:
        hide_this_process()
    # Other engines make their calls through it, whether or not anybody else may.
    port = 0 if settings.gateway_port is None and kit.engines else settings.gateway_port
    if port is None:
        return None
    from turnkeeper.gateway.server import GatewayServer

    host = "127.0.0.1" if settings.gateway_port is None else settings.gateway_host
    server = GatewayServer(kit.gateway, host=host, port=port)
    server.start()
    logger.info("the gateway answers at %s", server.url)
    return server


def spare_the_collector() -> None:
    """What is there now stays, so it is never searched for garbage; and what many sessions hold is searched rarely,
    since nearly nothing of it is in cycles. Else all of them stop for 0.2 s now and then (docs/performance.md)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, 20, 20)


def wait_for_the_end(worker: Worker, signals: Signals, retiring: Retiring | None, clock: Clock) -> None:
    """Until it is told to stop; or was replaced, and has handed on what ran."""
    while not signals.stop:
        if retiring is not None and retiring.due and not worker.draining:
            logger.info("another deployment has taken over: %d sessions are handed on", worker.running())
            worker.retire()
        if worker.is_retired():
            return
        clock.sleep(0.1)


def work(signals: Signals, settings: Settings, link: Link | None) -> int:
    """Until it is told to stop, and then until everything is handed on."""
    if link is not None:
        link.watch(signals.note)
    kit = Kit(settings)
    kit.need_keys()
    page = Page()
    kit.written = page.see
    number, of = (link.number, settings.worker_processes or 1) if link is not None else (0, 1)
    worker = worker_of(kit, number=number, of=of)
    page.watch(worker)
    health = HealthServer(
        worker,
        lambda: kit.table.get(Key("readyz", "readyz")),
        page,
        host=settings.health_host,
        port=settings.health_port,
    )
    protection = None
    if agent_uri := os.environ.get("ECS_AGENT_URI"):
        protection = TaskProtection(agent_uri, lambda: worker.running() > 0, kit.clock)
        protection.start()
    gateway = gateway_of(kit)
    spare_the_collector()
    health.start()
    if signals.stop:
        # Told so while it was made: then it takes nothing any more.
        worker.stop()
    worker.start()
    if link is not None:
        logger.info("ready: %s slots", worker.options.concurrency)
        link.say(health.port)
    else:
        logger.info("ready: %s slots, health on port %d", worker.options.concurrency, health.port)
    wait_for_the_end(worker, signals, retiring_of(kit), kit.clock)
    worker.stop()
    logger.info("told to stop: %d sessions run, %.0f s to go", worker.running(), settings.stop_seconds)
    until = kit.clock.monotonic() + settings.stop_seconds
    clean = worker.drain()
    if gateway is not None:
        # After the sessions, whose calls may go through it.
        gateway.close(within_seconds=until - kit.clock.monotonic())
    if protection is not None:
        protection.close()
    logger.info("stopped" if clean else "stopped with work given back")
    return 0
