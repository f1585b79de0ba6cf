"""Bringing the whole kit up on one machine, and down again.

`up` starts, in this order: the emulator, the stand-in model, the two stacks by `cdk deploy`, the worker. Each process
is written down before it is waited for, so that `down` finds it even after an `up` that crashed.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from turnkeeper_local.kit.deploy import Deployed, deploy
from turnkeeper_local.kit.environments import ensure_lambda_dependencies, ensure_ministack
from turnkeeper_local.kit.errors import KitError, with_log_tail
from turnkeeper_local.kit.home import Home, read_json
from turnkeeper_local.kit.http import answers, wait_until
from turnkeeper_local.kit.ministack import REGION, Ministack, start_ministack
from turnkeeper_local.kit.model import start_standin
from turnkeeper_local.kit.preflight import look_at_project
from turnkeeper_local.kit.record import Record
from turnkeeper_local.kit.settings import ANTHROPIC_URL, KitSettings
from turnkeeper_local.kit.sources import fingerprint
from turnkeeper_local.kit.values import LocalValues, put_secrets
from turnkeeper_local.kit.worker import start_worker
from turnkeeper_project import Project

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

Progress = Callable[[str], None]

_HEALTH_SECONDS = 30
_NO_KEY = "no-key"
"""What is sent where nobody asks for one: an empty secret counts as forgotten, and nothing is called without a key."""


@dataclass(frozen=True, slots=True)
class LocalKit:
    """A kit that is up. The fields are those of `local.json`."""

    api_url: str
    queue_url: str
    dlq_url: str
    table_name: str
    region: str
    aws_endpoint_url: str
    model_url: str
    worker_pid: int
    console_url: str | None

    @classmethod
    def read(cls, home: Home | None = None) -> LocalKit | None:
        """The kit that is up, or None. Read anew after a worker died: its `worker_pid` is another one then."""
        document = read_json((home or Home.from_environment()).local_json)
        if document is None:
            return None
        return cls(**{field.name: document[field.name] for field in dataclasses.fields(cls)})


def up(
    settings: KitSettings | None = None,
    *,
    home: Home | None = None,
    progress: Progress = lambda _: None,
) -> LocalKit:
    """Bring the kit up and return once it answers.

    One that is up already, and up to date, is left alone; one that is out of date is deployed anew and keeps its
    sessions. Raises KitError, and leaves nothing running, where it cannot. What must not be deployed is refused before
    anything is touched: a kit that is up stays as it was.
    """
    settings = settings or KitSettings.from_environment()
    home = home or Home.from_environment()
    with home.lock():
        wanted = fingerprint(settings, dataclasses.asdict(settings))
        running = _running(home, wanted)
        if running is not None:
            return running
        look_at_project(settings, progress)
        try:
            return _up(settings, home, wanted, progress)
        except BaseException:
            _down(home)
            raise


def down(home: Home | None = None) -> bool:
    """End everything that `up` started, also one that crashed half-way. Whether there was anything to end."""
    home = home or Home.from_environment()
    if not home.path.exists():
        return False
    with home.lock():
        return _down(home)


def _up(settings: KitSettings, home: Home, wanted: str, progress: Progress) -> LocalKit:
    record = Record.read(home)
    record.end("worker", "standin")
    home.local_json.unlink(missing_ok=True)
    home.make()

    project = Project(settings.project)
    dependencies = ensure_lambda_dependencies(project, ensure_ministack(project))
    ministack = _surviving_emulator(record, settings)
    if ministack is None:
        progress("starting the AWS emulator")
        record.end()
        ministack = start_ministack(home, project, first_port=settings.first_port, on_start=record.noting("ministack"))
        ministack.bootstrap()
        record.note(emulator={"endpoint_url": ministack.endpoint_url, "first_port": settings.first_port})

    model_url = settings.model_url or ANTHROPIC_URL
    if settings.uses_standin:
        progress("starting the stand-in model")
        model_url = start_standin(home, settings, on_start=record.noting("standin"))

    progress("deploying the stacks")
    values = LocalValues.read(settings.project)
    deployed = deploy(
        home,
        ministack,
        settings,
        dependencies=dependencies,
        model_url=model_url,
        tool_secrets=put_secrets(ministack, values.secrets),
        tool_settings=values.settings,
    )
    _put_key(ministack, deployed, settings.anthropic_api_key or _NO_KEY)

    progress("waiting for the API")
    api_url = ministack.api_url(deployed.api_id)
    if not wait_until(lambda: answers(f"{api_url}/v1/health", 30), within_seconds=_HEALTH_SECONDS):
        raise with_log_tail(f"{api_url}/v1/health does not answer", home.log("ministack"))

    progress("starting the worker")
    document = {
        "api_url": api_url,
        "queue_url": deployed.queue_url,
        "dlq_url": deployed.dlq_url,
        "table_name": deployed.table_name,
        "region": REGION,
        "aws_endpoint_url": ministack.endpoint_url,
        "model_url": model_url,
        "console_url": None,
    }
    start_worker(home, ministack, deployed, settings, document, on_start=record.noting("worker"))
    record.note(wanted=wanted)
    kit = LocalKit.read(home)
    assert kit is not None, "the supervisor wrote local.json before it was found ready"
    return kit


def _running(home: Home, wanted: str) -> LocalKit | None:
    """The kit that is up, where it is whole, healthy, and what `wanted` stands for."""
    record = Record.read(home)
    kit = LocalKit.read(home)
    if kit is None or record.wanted != wanted or not record.all_alive():
        return None
    return kit if answers(f"{kit.api_url}/v1/health") else None


def _surviving_emulator(record: Record, settings: KitSettings) -> Ministack | None:
    """The emulator of a kit that is up but out of date: its sessions stay, what runs is deployed anew."""
    emulator, process = record.emulator, record.process("ministack")
    if emulator is None or process is None or emulator["first_port"] != settings.first_port:
        return None
    ministack = Ministack(str(emulator["endpoint_url"]), process)
    return ministack if ministack.healthy() else None


def _down(home: Home) -> bool:
    home.local_json.unlink(missing_ok=True)
    ended = Record.read(home).end()
    home.local_json.unlink(missing_ok=True)  # the supervisor may have written it once more
    shutil.rmtree(home.temporary, ignore_errors=True)
    (home.path / "supervise.json").unlink(missing_ok=True)
    home.kit_json.unlink(missing_ok=True)
    return ended


def _put_key(ministack: Ministack, deployed: Deployed, key: str) -> None:
    """As an operator does after the first deploy."""
    client: SecretsManagerClient = ministack.session().client("secretsmanager", endpoint_url=ministack.endpoint_url)
    client.put_secret_value(SecretId=deployed.model_secret_id, SecretString=key)


__all__ = ["KitError", "LocalKit", "down", "up"]
