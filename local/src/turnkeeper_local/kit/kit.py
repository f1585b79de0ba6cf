"""Bringing the whole kit up on one machine, and down again.

`up` starts, in this order: the emulator, the stand-in model, the two stacks by `cdk deploy`, worker and front door.
Each process is written down before it is waited for, so that `down` finds it even after an `up` that crashed. What can
fail without touching what runs is done first. The state outlives the processes (docs/decisions/0092).
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from turnkeeper_local.kit import state
from turnkeeper_local.kit.deploy import deploy, synthesize
from turnkeeper_local.kit.environments import ensure_lambda_dependencies, ensure_ministack
from turnkeeper_local.kit.errors import KitError, with_log_tail
from turnkeeper_local.kit.home import Home, read_json
from turnkeeper_local.kit.http import answers, wait_until
from turnkeeper_local.kit.live import build_code, make_live
from turnkeeper_local.kit.ministack import REGION, Ministack, start_ministack
from turnkeeper_local.kit.model import start_standin
from turnkeeper_local.kit.preflight import look_at_project
from turnkeeper_local.kit.processes import Started
from turnkeeper_local.kit.record import Record
from turnkeeper_local.kit.serve import end_serving, forget_served, serving
from turnkeeper_local.kit.settings import ANTHROPIC_URL, KitSettings
from turnkeeper_local.kit.sources import fingerprint, standin_fingerprint
from turnkeeper_local.kit.values import LocalValues, put_secrets, put_secrets_away, values_digest
from turnkeeper_local.kit.worker import PROCESSES, start_processes
from turnkeeper_project import Project
from turnkeeper_project.locking import lock_problems

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

Progress = Callable[[str], None]

_HEALTH_SECONDS = 30
REPLIES = "replies"
"""What a job may name as its `reply_to` on a local kit."""
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
    gateway_url: str | None
    stream_url: str | None
    #: The queue that a job's `reply_to` may name here, with its URL.
    reply_queues: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, home: Home | None = None) -> LocalKit | None:
        """The kit that is up, or None. Read anew after a worker died: its `worker_pid` is another one then."""
        document = read_json((home or Home.from_environment()).local_json)
        if document is None:
            return None  # also where something else stands there: the next `up` writes it anew
        # of a kit of an earlier version
        document = {"gateway_url": None, "stream_url": None, "reply_queues": {}, **document}
        names = [each.name for each in dataclasses.fields(cls)]
        return cls(**{name: document[name] for name in names}) if document.keys() >= set(names) else None


def up(
    settings: KitSettings | None = None,
    *,
    home: Home | None = None,
    progress: Progress = lambda _: None,
) -> LocalKit:
    """Bring the kit up and return once it answers.

    One that is up already, and up to date, is left alone; one that is out of date is deployed anew. Sessions and
    everything else in its state stay, whatever the settings. Without `settings` they are the environment's, and the
    last `up`'s where that says nothing.

    Raises:
        KitError: it cannot. A kit that was up before still is, or at least its state is kept. What must not be
            deployed is refused before anything is touched.
    """
    home = home or Home.from_environment()
    with home.lock():
        record = Record.read(home)
        settings = settings or KitSettings.from_environment(remembered=record.settings)
        wanted = wanted_by(settings)
        if processes := serving(home):
            pids = ", ".join(str(process.pid) for process in processes)
            raise KitError(
                f"`turnkeeper serve` runs here, as process {pids}: end it first, with Ctrl-C or `turnkeeper down`"
            )
        running = _running(home, wanted)
        if running is not None:
            return running
        if problems := lock_problems(Project(settings.project), settings.more_agents):
            raise KitError("\n".join(problems))
        look_at_project(settings, progress)
        before, holds = record.process("ministack"), record.deployed is not None or state.kept(home)
        try:
            return _up(settings, home, wanted, progress)
        except BaseException:
            _give_up(home, before, holds=holds)
            raise


def down(home: Home | None = None, *, forget: bool = False) -> bool:
    """End everything that `up` started, also one that crashed half-way; whether there was anything to end. Its state
    is kept for the next `up`, but with `forget`. Its settings are not, nor is the key for Claude.

    Raises:
        KitError: the state cannot be kept. Where that is known before, nothing was ended.
    """
    home = home or Home.from_environment()
    if not home.path.exists():
        return False
    with home.lock():
        emulator = Record.read(home).process("ministack")
        if not forget:
            _look_for_room(home)
            _put_key_away(home)
        ended = end_serving(home) or _down(home, forget=forget)
        if forget:
            forget_served(home)
        if home.kit_json.exists():
            Record.read(home).note(settings={})
        if not forget and (lost := state.lost_since(home, emulator)):
            raise KitError(f"{lost}; {home.log('ministack')} may say why. All else has ended")
        return ended


def wanted_by(settings: KitSettings) -> str:
    """What a kit is recognized by that is up to date with its sources and these settings."""
    return fingerprint(settings, {**dataclasses.asdict(settings), "tool_values": values_digest(settings.project)})


def _up(settings: KitSettings, home: Home, wanted: str, progress: Progress) -> LocalKit:
    record = Record.read(home)
    record.end("standin_next")  # of an `up` that was killed
    home.make()
    project = Project(settings.project)
    dependencies = ensure_lambda_dependencies(project, ensure_ministack(project))
    assembly = synthesize(home, settings, dependencies)
    code = build_code(settings) if record.swapped else None

    ministack = _surviving_emulator(record, settings) or _start_emulator(home, record, settings, progress)
    record.note(wanted=None)
    model_url = settings.model_url or ANTHROPIC_URL
    if settings.uses_standin:
        model_url = _standin(home, record, settings, progress)

    progress("deploying the stacks")
    values = LocalValues.read(settings.project)
    reply_queues = {REPLIES: _reply_queue(ministack)}
    deployed = deploy(
        home,
        ministack,
        settings,
        assembly=assembly,
        model_url=model_url,
        tool_secrets=put_secrets(ministack, values.secrets),
        tool_settings=values.settings,
        reply_queues=reply_queues,
    )
    record.note(deployed=dataclasses.asdict(deployed))
    make_live(ministack, deployed.turn_function, code)
    record.note(swapped=False)
    if not settings.key_kept:
        _put_key(ministack, deployed.model_secret_id, settings.anthropic_api_key or _NO_KEY)

    progress("waiting for the API")
    api_url = ministack.api_url(deployed.api_id)
    if not wait_until(lambda: answers(f"{api_url}/v1/health", 30), within_seconds=_HEALTH_SECONDS):
        raise with_log_tail(f"{api_url}/v1/health does not answer", home.log("ministack"))

    progress("starting worker and front door")
    record.end(*PROCESSES)
    if "standin_next" in record.processes:
        record.end("standin")
        record.rename("standin_next", "standin")
    elif not settings.uses_standin:
        record.end("standin")
        record.note(standin=None)
    home.local_json.unlink(missing_ok=True)
    document = {
        "api_url": api_url,
        "queue_url": deployed.queue_url,
        "dlq_url": deployed.dlq_url,
        "table_name": deployed.table_name,
        "region": REGION,
        "aws_endpoint_url": ministack.endpoint_url,
        "model_url": model_url,
        "console_url": None,
        "reply_queues": reply_queues,
    }
    start_processes(home, ministack, deployed, settings, document, dependencies=dependencies, noting=record.noting)
    record.note(wanted=wanted, settings=settings.variables())
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


def _start_emulator(home: Home, record: Record, settings: KitSettings, progress: Progress) -> Ministack:
    """With the state of the last one, where there was one. One that runs elsewhere is ended for it, and saves it."""
    _look_for_room(home)
    before = record.process("ministack")
    record.end()
    progress("starting the AWS emulator")
    if (lost := state.lost_since(home, before)) is not None:
        progress(lost)
    kept = state.kept(home)
    if not kept and settings.key_kept:
        raise KitError("the key for Claude is lost with the kit's state: set ANTHROPIC_API_KEY, or set it to nothing")
    old_url = str(record.emulator["endpoint_url"]) if record.emulator else None
    ministack = start_ministack(
        home,
        Project(settings.project),
        first_port=settings.first_port,
        keep=True,
        before_start=lambda url: state.prepare(home, old_url, url),
        on_start=record.noting("ministack"),
    )
    record.note(
        emulator={
            "endpoint_url": ministack.endpoint_url,
            "first_port": settings.first_port,
            "started_at": round(time.time(), 3),
        }
    )
    if kept and record.deployed is not None:
        state.look_whether_taken(home, ministack, record.deployed["table_name"])
    ministack.bootstrap()
    return ministack


def _standin(home: Home, record: Record, settings: KitSettings, progress: Progress) -> str:
    """The stand-in's address: of the one that runs, where nothing about it has changed."""
    asked = {"scenario": settings.scenario, "sources": standin_fingerprint(settings)}
    running, known = record.process("standin"), record.standin or {}
    if running is not None and running.alive() and known.get("asked") == asked:
        return str(known["url"])
    progress("starting the stand-in model")
    url = start_standin(home, settings, on_start=record.noting("standin_next"))
    record.note(standin={"url": url, "asked": asked})
    return url


def _surviving_emulator(record: Record, settings: KitSettings) -> Ministack | None:
    """The emulator of a kit that is up but out of date: its sessions stay, what runs is deployed anew."""
    emulator, process = record.emulator, record.process("ministack")
    if emulator is None or process is None or emulator["first_port"] != settings.first_port:
        return None
    ministack = Ministack(str(emulator["endpoint_url"]), process)
    return ministack if ministack.healthy() else None


def _give_up(home: Home, before: Started | None, *, holds: bool) -> None:
    """After an `up` that could not: a kit that it found running stays, and what it kept; the rest goes."""
    record = Record.read(home)
    if before is not None and before.alive() and record.process("ministack") == before:
        record.end("standin_next")
        record.note(wanted=None, standin=None)  # the next one looks again
        return
    _down(home, forget=not holds)


def _down(home: Home, *, forget: bool) -> bool:
    record = Record.read(home)
    forget = forget or (record.deployed is None and not state.kept(home))  # stacks that were never whole are no state
    home.local_json.unlink(missing_ok=True)
    if forget:
        state.forget(home)  # at first, for it makes room
    ended = record.end(at_once=forget)
    home.local_json.unlink(missing_ok=True)  # the supervisor may have written it once more
    shutil.rmtree(home.temporary, ignore_errors=True)
    for name in PROCESSES:
        (home.path / f"supervise_{name}.json").unlink(missing_ok=True)
    if forget:
        state.forget(home)
        home.kit_json.unlink(missing_ok=True)
    else:
        record.note(wanted=None, standin=None)
    return ended


def _reply_queue(ministack: Ministack) -> str:
    """A queue for results of jobs, as somebody's own would be elsewhere."""
    client: SQSClient = ministack.client("sqs")
    return client.create_queue(QueueName=f"turnkeeper-{REPLIES}")["QueueUrl"]


def _look_for_room(home: Home) -> None:
    """Where there is an emulator that is to save."""
    record = Record.read(home)
    if (process := record.process("ministack")) and process.alive() and record.deployed is not None:
        state.look_for_room(home)


def _put_key(ministack: Ministack, secret_id: str, key: str) -> None:
    """As an operator does after the first deploy."""
    client: SecretsManagerClient = ministack.client("secretsmanager")
    client.put_secret_value(SecretId=secret_id, SecretString=key)


def _put_key_away(home: Home) -> None:
    """So that it is in no state that is kept on disk. An emulator that does not answer saves none either."""
    record = Record.read(home)
    process, deployed, emulator = record.process("ministack"), record.deployed, record.emulator
    if process is None or deployed is None or emulator is None:
        return
    ministack = Ministack(str(emulator["endpoint_url"]), process)
    if ministack.healthy():
        for _ in range(2):  # a secret keeps its previous value, too
            _put_key(ministack, deployed["model_secret_id"], _NO_KEY)
        put_secrets_away(ministack)


__all__ = ["KitError", "LocalKit", "down", "up"]
