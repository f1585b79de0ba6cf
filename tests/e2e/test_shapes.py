"""The processes of each shape, started as its manifest says: with its command, its environment, its signals; the
database is a real PostgreSQL.

What differs on this machine is said place by place: ``SECRETS``, ``IDENTITY``, ``ADDED``, ports and the database's
address. Every other value is passed as it is stated; one that names a place which is not listed fails the test. What
a container runtime, a cluster or systemd do around a process is not proven here.
"""

from __future__ import annotations

import re
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.support.installation import Installation, client, environment_here, steps_of
from tests.support.manifests import DEPLOY, Stated, kubernetes, of_compose, of_kubernetes, of_systemd
from tests.support.postgresql import Server
from tests.support.repository import REPOSITORY
from turnkeeper_infra.bundle import Sources, image_context
from turnkeeper_project import kit_source

pytestmark = pytest.mark.timeout(600)

PARTS = ["front-door", "worker", "chores"]
SHAPES: Mapping[str, Callable[[], dict[str, Stated]]] = {
    "compose": lambda: of_compose([*PARTS, "migrate"]),
    "kubernetes": of_kubernetes,
    "systemd": of_systemd,
}
#: Where a manifest's secrets are, and the file of ours that holds the same.
SECRETS = {
    "/run/secrets/": {
        **dict.fromkeys(("database-owner", "database-app", "database-chores"), "password"),
        **{"signing-keys": "signing-key", "model-key": "model-key"},
    },
    "/secrets/": {
        **{"database/password": "password", "signing/keys": "signing-key", "model/key": "model-key"},
    },
    "/credentials/": {
        **dict.fromkeys(("database-app", "database-chores"), "password"),
        **{"signing-keys": "signing-key", "model-key": "model-key"},
    },
}
#: What no test can have: an issuer's tokens. Callers name themselves instead.
IDENTITY = {"TURNKEEPER_IDENTITY": "local"}
#: What no manifest says: a model of the tests, and that the dead are soon noticed.
ADDED = {"TURNKEEPER_LEASE_SECONDS": "4", "TURNKEEPER_SWEEP_SECONDS": "2"}


class Deployment(Installation):
    """A shape on this machine."""

    def __init__(
        self, folder: Path, database_url: str, stated: Mapping[str, Stated], app: Path, model_url: str
    ) -> None:
        super().__init__(folder, database_url)
        self.stated, self.app, self.model_url = stated, app, model_url
        self.ports: dict[str, int] = {}
        for name, text in {"password": "not asked for", "model-key": "stand-in"}.items():
            (folder / name).write_text(text)

    def run(self, name: str) -> subprocess.Popen[bytes]:
        stated = self.stated[name]
        assert Path(stated.command[0]).name == "python"
        environment = {key: self._here(name, key, value) for key, value in stated.environment.items()}
        around = environment_here(PYTHONPATH=str(self.app), HOME=str(self.folder))
        given = {"TURNKEEPER_MODEL_URL": self.model_url} if name in {"worker", "turnkeeper"} else {}
        if "/etc/turnkeeper/environment" in stated.elsewhere:
            given["TURNKEEPER_DATABASE_URL"] = self._address()
        return self.start(
            [sys.executable, *stated.command[1:]], {**around, **ADDED, **environment, **given}, name=name, cwd=self.app
        )

    def _address(self) -> str:
        """Who connects is for the manifest to say."""
        return self.database_url.replace("turnkeeper_app@", "")

    def _here(self, part: str, name: str, value: str) -> str:
        if name in IDENTITY:
            return IDENTITY[name]
        if name == "PYTHONPATH":
            return str(self.app)
        if name == "TURNKEEPER_DATABASE_URL":
            assert re.fullmatch(r"postgresql://\w+:5432/.*|sqlite:////var/lib/turnkeeper/serve.db", value), value
            return self._address()
        if name.endswith("_PORT"):
            port = _free_port()
            # Where it has two, the one that it answers calls at.
            if name == "TURNKEEPER_API_PORT" or part not in {"front-door", "turnkeeper"}:
                self.ports[part] = port
            return str(port)
        for folder, files in SECRETS.items():
            if value.startswith(folder):
                assert any(value.startswith(place) for place in self.stated[part].secrets), (
                    f"{value} is mounted nowhere"
                )
                return str(self.folder / files[value.removeprefix(folder)])
        assert "/" not in value or value.startswith("https://"), f"{name}={value} is a place that is not here"
        return value

    def up(self, *names: str) -> dict[str, subprocess.Popen[bytes]]:
        """These processes, once each says that it is well."""
        started = {name: self.run(name) for name in names}
        for name in names:
            path = "/v1/health" if name in {"front-door", "turnkeeper"} else "/healthz"
            self.wait(lambda name=name, path=path: _answers(self.ports[name], path), f"{name} is well")  # type: ignore[misc]
        return started

    def ask(self) -> httpx2.Client:
        return client(f"http://127.0.0.1:{self.ports.get('front-door') or self.ports['turnkeeper']}")

    def stop(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """As its manifest says, and in the time that it gives."""
        process.send_signal(signal.Signals[self.stated[name].stop_signal])
        assert process.wait(timeout=self.stated[name].grace_seconds) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _database(postgresql: Server) -> str:
    """A new database whose owner and user are those of ``deploy/roles.sql``, as an administrator makes them."""
    url = postgresql.database()
    with psycopg.connect(url, autocommit=True) as connection:
        # Roles are the whole server's: those of the test before are still there.
        text = (DEPLOY / "roles.sql").read_text()
        known = connection.execute("SELECT FROM pg_roles WHERE rolname = 'turnkeeper_app'").fetchone() is not None
        connection.execute(re.sub(r"(?m)^CREATE ROLE.*$", "", text) if known else text)  # type: ignore[call-overload]
    return url.replace("postgres@", "turnkeeper_app@")


#: In `make test`, beside systemd's unit for one machine; the others run where there is time.
ALWAYS = "kubernetes"


@pytest.fixture(
    params=[pytest.param(shape, marks=[pytest.mark.long] * (shape != ALWAYS), id=shape) for shape in SHAPES]
)
def deployment(
    request: pytest.FixtureRequest, postgresql: Server, model_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Deployment]:
    """Migrated, with nothing running."""
    stated = SHAPES[request.param]()
    made = Deployment(tmp_path, _database(postgresql), stated, tmp_path / "app", model_url)
    # The image's own content, built as the documentation says.
    monkeypatch.setenv("TURNKEEPER_CACHE", str(tmp_path / "cache"))
    project = tmp_path / "project"
    project.mkdir()
    shutil.copytree(made.agents, project / "agents")
    shutil.copy(REPOSITORY / "policy.toml", project)
    made.app = image_context(Sources(project, kit_source()), server=True) / "app"
    made.stated = {"migrate": of_kubernetes()["migrate"], **stated}
    assert made.run("migrate").wait(timeout=60) == 0
    yield made
    made.end()


def test_a_turn_a_job_a_drain_a_crash(deployment: Deployment) -> None:
    processes = deployment.up(*PARTS)
    with deployment.ask() as http:
        turn = http.post("/v1/sessions", json={"agent": "noter", "input": steps_of(2)}).json()
        assert (turn["status"], turn["output_text"]) == ("idle", "done")
    job = deployment.job("a job", steps_of(2))
    deployment.wait(lambda: deployment.rests(job), "the job is done")
    deployment.check([turn["session_id"], job], steps=3)
    deployment.wait(
        lambda: deployment.kit.scores.of_session("acme", job), "who follows the changes has scored its turn"
    )

    long = [deployment.job(f"long {number}", steps_of(8)) for number in range(3)]
    before = deployment.noted()
    deployment.wait(lambda: deployment.noted() > before + 2, "they run")
    deployment.stop("worker", processes["worker"])
    assert [head.lease.owner for each in long if (head := deployment.head(each))] == [None] * 3
    assert not deployment.rests(*long)
    [worker] = deployment.up("worker").values()
    deployment.wait(lambda: deployment.rests(*long), "another worker ends what was handed on")

    doomed = [deployment.job(f"doomed {number}", steps_of(8)) for number in range(3)]
    before = deployment.noted()
    deployment.wait(lambda: deployment.noted() > before + 2, "they run")
    for process in (worker, processes["chores"]):
        process.kill()
        process.wait()
    processes |= deployment.up("worker", "chores")
    deployment.wait(lambda: deployment.rests(*doomed), "what was killed goes on")
    for each in [*long, *doomed]:
        assert (head := deployment.head(each)) is not None
        assert (head.status, head.steps) == ("idle", 9)
    for name in PARTS:
        deployment.stop(name, processes[name])


def test_the_front_door_stops_with_a_word_to_those_who_listen(deployment: Deployment) -> None:
    processes = deployment.up("front-door", "worker")
    with deployment.ask() as http:
        turn = http.post("/v1/sessions", json={"agent": "noter", "input": steps_of(30)}, headers={"prefer": "wait=0"})
        session_id = turn.json()["session_id"]
        with http.stream("GET", f"/v1/sessions/{session_id}/stream", headers={"accept": "text/event-stream"}) as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line.startswith("id: "))
            processes["front-door"].send_signal(signal.SIGTERM)
            rest = list(lines)
    assert [line for line in rest if line.startswith("event: ")][-1] == "event: end"
    assert processes["front-door"].wait(timeout=deployment.stated["front-door"].grace_seconds) == 0
    deployment.stop("worker", processes["worker"])


@pytest.mark.parametrize("deployment", ["kubernetes"], indirect=True)
def test_who_counts_for_keda_may_count_and_nothing_else(deployment: Deployment) -> None:
    [scaled] = [one for one in kubernetes("components/keda-postgresql") if one["kind"] == "ScaledObject"]
    [trigger] = scaled["spec"]["triggers"]
    deployment.job("waits", "[[say hello]]")
    user = trigger["metadata"]["userName"]
    with psycopg.connect(deployment.database_url.replace("turnkeeper_app@", f"{user}@"), autocommit=True) as connection:
        assert connection.execute(trigger["metadata"]["query"]).fetchone() == (1,)
        for refused in (
            "SELECT body FROM turnkeeper_messages",
            "SELECT 1 FROM turnkeeper_items",
            "DELETE FROM turnkeeper_messages",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)


def test_the_processes_role_changes_no_table_and_takes_nothing_away(deployment: Deployment) -> None:
    with psycopg.connect(deployment.database_url, autocommit=True) as connection:
        for refused in (
            "DROP TABLE turnkeeper_items",
            "CREATE TABLE turnkeeper.mine (a int)",
            "TRUNCATE turnkeeper_items",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(refused)


def test_the_unit_for_one_machine(model_url: str, tmp_path: Path) -> None:
    """On SQLite: a turn and a job, a crash in the midst of both, and a drain."""
    stated = {"turnkeeper": of_systemd()["turnkeeper"]}
    one = Deployment(tmp_path, f"sqlite:///{tmp_path / 'serve.db'}", stated, REPOSITORY, model_url)
    try:
        one.app = _app_of(one)
        process = one.up("turnkeeper")["turnkeeper"]
        with one.ask() as http:
            turn = http.post(
                "/v1/sessions", json={"agent": "noter", "input": steps_of(6)}, headers={"prefer": "wait=0"}
            )
        ids = [turn.json()["session_id"], one.job("a job", steps_of(6))]
        one.wait(lambda: one.noted() > 3, "both run")
        process.kill()
        process.wait()
        process = one.up("turnkeeper")["turnkeeper"]
        one.wait(lambda: one.rests(*ids), "both go on")
        one.check(ids, steps=7, notes=False)
        one.stop("turnkeeper", process)
    finally:
        one.end()


def _app_of(one: Installation) -> Path:
    """What is deployed, laid out by hand: `/opt/turnkeeper/app`."""
    app = one.folder / "app"
    app.mkdir()
    for name in ("functions", "fargate_worker", "server"):
        (app / name).symlink_to(REPOSITORY / name)
    (app / "turnkeeper").symlink_to(REPOSITORY / "shared" / "src" / "turnkeeper")
    shutil.copytree(one.agents, app / "agents")
    shutil.copy(REPOSITORY / "policy.toml", app)
    return app
