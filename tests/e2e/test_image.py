"""The worker's image, built without Docker and put to work.

Its Dockerfile is played step by step in clean roots (`tests/support/image_build.py`): the build context is what CDK
stages less what Docker would ignore, RUN lines run as they are written, wheels are checked by their hashes, the last
stage holds what the Dockerfile copies. Its entry point then runs as its user, with its environment and a task's
settings, on a deployed kit whose own worker is gone.

This proves that everything that the worker needs is in the image and may be read, that nothing of it has to be written,
and that entry point, health check, stop signal and settings fit together.

It does not prove the base image: this machine's `/usr` and a Python stand in for it, which is of the image's minor
version where the machine has one, else the tests' own, with a warning. That `/usr` holds more than the slim image's; a
RUN line that uses what only it has is not noticed. Nor does it prove arm64: the wheels are those for this machine's
processor, out of the same lock file. Nor what Docker, a registry and Fargate (with its init process) do with an image.

What builds an image runs where there is time; `make test` looks at the build context.

It needs Linux, root, and on a new clone a package registry for the wheels; without these it is skipped, and says why.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import uuid
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.outside import Caller, Stack, eventually
from tests.support import clean_root
from tests.support.dockerfile import DockerfileError, read
from tests.support.image_build import Builder, BuildError, Image, files_of, python_of
from tests.support.image_inputs import NoRegistry, build_context, wheels_for
from tests.support.repository import REPOSITORY
from tests.support.running_kit import running_kit
from turnkeeper_local.kit import Home
from turnkeeper_local.kit.record import Record

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]

DOCKERFILE = (REPOSITORY / "fargate_worker" / "Dockerfile").read_text()
UNCOMPILED = re.sub(r"RUN [^\n]* -m compileall (.*\\\n)*.*\n", "", DOCKERFILE)
"""Compiling takes most of a build's time, and does nothing for what is not there."""
FROM_THE_TASK = ("AWS_", "ANTHROPIC_", "TURNKEEPER_", "POWERTOOLS_")
STARTS_SECONDS = 60


@dataclass(frozen=True)
class Bench:
    """What every build of these tests begins with."""

    base: clean_root.Base
    wheels: Path
    context: Path
    builder: Builder


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_context(tmp_path_factory.mktemp("assembly"))


@pytest.fixture(scope="module")
def bench(context: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    if why := clean_root.why_not():
        pytest.skip(why)
    [argument] = [each for each in read(DOCKERFILE) if each.name == "ARG" and each.value.startswith("PYTHON=")]
    wanted = python_of(argument.value.removeprefix("PYTHON="))
    assert wanted is not None
    base = clean_root.Base.make(wanted, tmp_path_factory.mktemp("base"))
    if base.version != wanted:
        warnings.warn(f"no Python {wanted} on this machine: the image is tried on {base.version}", stacklevel=1)
    try:
        wheels = wheels_for(base)
    except NoRegistry as error:
        pytest.skip(str(error))
    return Bench(base, wheels, context, Builder(base, context, wheels, tmp_path_factory.mktemp("build")))


@pytest.fixture(scope="module")
def image(bench: Bench) -> Image:
    return bench.builder.build(DOCKERFILE)


@pytest.fixture(scope="module")
def stack(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A deployed kit without a worker. Its agents are those of the image."""
    folder = tmp_path_factory.mktemp("kit")
    with running_kit(folder) as kit:
        Record.read(Home(folder)).end("worker")
        yield Stack(kit, Home(folder))


@pytest.fixture
def settings(stack: Stack) -> dict[str, str]:
    """What the kit gave its worker and a task is given; the rest of that environment is the machine's."""
    given: Mapping[str, str] = json.loads((stack.home.path / "supervise_worker.json").read_text())["environment"]
    return {name: value for name, value in given.items() if name.startswith(FROM_THE_TASK)}


class Running:
    """An image's entry point at work."""

    def __init__(self, image: Image, settings: Mapping[str, str], folder: Path) -> None:
        self._image = image
        self._settings = settings
        self._log = folder / "worker.log"
        with self._log.open("wb") as log:
            self.process = image.start(image.entrypoint, settings, output=log)

    def log(self) -> str:
        return self._log.read_text()

    def is_healthy(self) -> bool:
        """By the image's own command, run beside the process as Docker does."""
        asking = self._image.start(self._image.healthcheck, self._settings, output=subprocess.DEVNULL)
        try:
            return asking.wait(timeout=STARTS_SECONDS) == 0
        finally:
            clean_root.end(asking)

    def environment(self) -> dict[str, str]:
        """What the process was started with."""
        words = Path(f"/proc/{self.process.pid}/environ").read_text().split("\0")
        return dict(word.split("=", 1) for word in words if word)

    def users(self) -> dict[str, set[str]]:
        """User and group ids of the process: real, effective, saved, of the file system."""
        status = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in status)
        return {name: set(fields[name].split()) for name in ("Uid", "Gid", "Groups")}


@contextlib.contextmanager
def started(image: Image, settings: Mapping[str, str], folder: Path) -> Iterator[Running]:
    running = Running(image, settings, folder)
    try:
        yield running
    finally:
        clean_root.end(running.process)
        sys.stdout.write(running.log())  # pytest shows it where a test fails


@pytest.fixture
def running(image: Image, settings: dict[str, str], tmp_path: Path) -> Iterator[Running]:
    with started(image, settings, tmp_path) as running:
        yield running


def a_job(caller: Caller) -> dict[str, Any]:
    """It loads an agent of the image, a tool of it, and the data beside that."""
    return {
        "schema": "turnkeeper.job/v1",
        "job_id": f"job-{uuid.uuid4().hex}",
        "tenant_id": caller.tenant,
        "user_id": caller.user,
        "agent": "support",
        "input": '[[tool get_invoice {"invoice_id": "INV-1001"}]] [[say It is there.]]',
    }


def sessions_of(caller: Caller) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = caller.get("/v1/sessions").json()["sessions"]
    return found


@pytest.mark.long
def test_it_takes_a_job_and_stops_when_told(
    image: Image, stack: Stack, settings: dict[str, str], running: Running
) -> None:
    before = files_of(image.root)
    eventually(lambda: running.process.poll() is not None or running.is_healthy(), "it is healthy or has ended")
    assert running.process.poll() is None, running.log()
    user, group = image.user.split(":")
    assert running.users() == {"Uid": {user}, "Gid": {group}, "Groups": set()}
    assert running.environment() == {**image.environment, **settings}

    caller = stack.caller()
    stack.send(a_job(caller), group=caller.tenant)
    eventually(lambda: sessions_of(caller), "the job became a session")
    [session_id] = [session["session_id"] for session in sessions_of(caller)]
    caller.rested(session_id)
    session, events = caller.checked(session_id)
    assert (session["status"], session["runner"], session["steps"]) == ("idle", "fargate", 2), session
    [result] = [result for event in events for result in event.get("results", ())]
    assert (result["tool"], result["outcome"]) == ("get_invoice", "ok")
    eventually(lambda: stack.depths(stack.kit.queue_url) == (0, 0), "the queue is empty")

    from turnkeeper_infra.worker import STOP_SECONDS  # jsii starts with this import

    running.process.send_signal(signal.Signals[image.stop_signal])
    assert running.process.wait(timeout=STOP_SECONDS) == 0, running.log()
    assert "stopped" in running.log()
    assert files_of(image.root) == before


@pytest.mark.long
def test_nobody_but_root_may_write_what_is_in_it(image: Image) -> None:
    assert "0" not in image.user.split(":")
    found = {path: mode for path, (mode, *_) in files_of(image.root).items()}
    assert {"app/policy.toml", "app/fargate_worker/__main__.py", "opt/venv/bin/python"} <= found.keys()
    links = {path for path, mode in found.items() if mode & 0o170000 == 0o120000}
    assert [path for path, mode in found.items() if mode & 0o022 and path not in links] == []
    assert {owner for _, owner, *_ in files_of(image.root).values()} == {0}


def test_its_context_holds_what_it_needs_and_nothing_else(context: Path) -> None:
    assert {path.name for path in context.iterdir()} == {"Dockerfile", "agent-sdk.txt", "app", "requirements.txt"}
    app = context / "app"
    assert {path.name for path in app.iterdir()} == {"agents", "fargate_worker", "policy.toml", "turnkeeper"}
    assert {path.suffix for path in (app / "fargate_worker").iterdir()} == {".py"}
    assert not list(context.rglob("*.pyc"))


@pytest.mark.long
def test_it_holds_no_tests_no_caches_and_no_build_tools(image: Image) -> None:
    top = {path.name for path in (image.root / "app").iterdir()}
    assert top == {"agents", "fargate_worker", "policy.toml", "turnkeeper"}
    assert not (image.root / "build").exists()
    assert not list(image.root.glob("opt/venv/lib/*/site-packages/pip"))
    compiled = list((image.root / "app").rglob("*.pyc"))
    assert {path.parent.name for path in compiled} == {"__pycache__"}
    assert len(compiled) == len(list((image.root / "app").rglob("*.py")))


@pytest.mark.long
def test_the_task_asks_and_listens_as_the_image_says(image: Image) -> None:
    """ECS takes the task's health check and not the image's; so what was tried above has to be the same."""
    from turnkeeper_infra.worker import _HEALTH_PROBE, HEALTH_PORT

    assert image.healthcheck == ["python", "-c", _HEALTH_PROBE]
    assert image.ports == [str(HEALTH_PORT)]
    assert image.environment["TURNKEEPER_HEALTH_PORT"] == str(HEALTH_PORT)


@pytest.mark.long
def test_a_module_that_is_not_copied_is_found(
    bench: Bench, image: Image, settings: dict[str, str], tmp_path: Path
) -> None:
    lost = "COPY --from=build /app /app\n"
    assert lost in DOCKERFILE
    without = bench.builder.build(UNCOMPILED.replace(lost, ""))
    with started(without, settings, tmp_path) as broken:
        assert broken.process.wait(timeout=STARTS_SECONDS) != 0
        assert "No module named fargate_worker" in broken.log()


@pytest.mark.long
def test_what_a_run_line_misses_is_found(bench: Bench, image: Image) -> None:
    broken = DOCKERFILE.replace("COPY requirements.txt /build/requirements.txt\n", "")
    with pytest.raises(BuildError, match=r"requirements\.txt"):
        bench.builder.build(broken)


@pytest.mark.long
def test_a_file_that_the_context_does_not_hold_is_found(bench: Bench, image: Image, tmp_path: Path) -> None:
    """Were it left out of what is laid out."""
    context = shutil.copytree(bench.context, tmp_path / "context")
    (context / "requirements.txt").unlink()
    builder = Builder(bench.base, context, bench.wheels, tmp_path / "build")
    with pytest.raises(DockerfileError, match=r"requirements\.txt is not in what is copied from"):
        builder.build(DOCKERFILE)


@pytest.mark.long
def test_a_wheel_of_another_hash_is_not_installed(bench: Bench, tmp_path: Path) -> None:
    wheels = shutil.copytree(bench.wheels, tmp_path / "wheels")
    wheel = next(wheels.glob("pydantic-*.whl"))
    wheel.write_bytes(wheel.read_bytes() + b" ")
    with pytest.raises(BuildError, match=f"(?s)MATCH THE HASHES.*{wheel.name.split('-')[0]}"):
        Builder(bench.base, bench.context, wheels, tmp_path / "build").build(DOCKERFILE)
