"""`turnkeeper database`: the tables of a kit without AWS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.postgresql import Server
from tests.unit.cli.conftest import Cli
from turnkeeper.adapters.retries import Pauses
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.adapters.sql.queue import SqlQueue
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.table import Key, Put


def test_tables_are_made_once_and_told_of(cli: Cli, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'kit.db'}"
    made = cli("database", "migrate", "--url", url, "--json").document
    assert made["made"] == list(range(1, made["version"] + 1))
    again = cli("database", "migrate", "--url", url)
    assert again.stdout.strip() == f"the database is at version {made['version']} already"
    database = database_of(url)
    SqlTable(database).write([Put(Key("a", "b"), {})])
    SqlQueue(database).send("x", group="g")
    told = cli("database", "status", "--url", url, "--json").document
    assert (told["items"], told["feed"], told["messages"], told["needed_version"]) == (
        1,
        1,
        {"jobs": 1},
        told["version"],
    )
    database.close()


@pytest.mark.parametrize("command", [("database", "status"), ("tenant", "show", "acme"), ("dead", "list")])
def test_who_only_looks_makes_no_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TURNKEEPER_DATABASE_URL", f"sqlite:///{tmp_path / 'mistyped.db'}")
    failed = cli(*command)
    assert failed.exit_code == 1
    assert "mistyped.db is not there" in failed.stderr
    assert not list(tmp_path.glob("mistyped*"))


def test_who_is_not_let_in_is_told_why(cli: Cli, postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("turnkeeper.adapters.sql.database.Pauses.pause", refuse)
    monkeypatch.setattr("turnkeeper.adapters.sql.postgresql._POOL_SECONDS", 0.5)
    monkeypatch.setenv("TURNKEEPER_DATABASE_URL", postgresql.url(user="nobody_here"))
    for command in (("tenant", "show", "acme"), ("database", "status")):
        failed = cli(*command)
        assert failed.exit_code == 1
        assert 'role "nobody_here" does not exist' in " ".join(failed.stderr.split())


def test_the_address_may_stand_in_the_environment(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNKEEPER_DATABASE_URL", f"sqlite:///{tmp_path / 'kit.db'}")
    assert cli("database", "migrate", "--json").document["kind"] == "sqlite"
    assert (tmp_path / "kit.db").exists()


def test_an_address_that_is_none_is_refused_without_its_password(cli: Cli) -> None:
    refused = cli("database", "migrate", "--url", "mysql://app:a-password@db/kit")
    assert refused.exit_code == 2
    assert "postgresql://" in refused.stderr
    assert "a-password" not in refused.stdout + refused.stderr


def test_a_kit_on_a_database_is_looked_at_as_any_other(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TURNKEEPER_DATABASE_URL", f"sqlite:///{tmp_path / 'kit.db'}")
    assert "turnkeeper database migrate" in cli("tenant", "show", "acme").stderr
    assert cli("database", "migrate").exit_code == 0
    assert cli("tenant", "show", "acme", "--json").document["tenant_id"] == "acme"
    assert "systemd" in cli("logs").stderr
    assert "TURNKEEPER_API_URL" in cli("status").stderr
    checks = {one["name"]: one for one in cli("doctor", "--json").document["checks"]}
    assert (checks["api"]["ok"], checks["table"]["ok"], checks["queues"]["ok"]) == (False, True, True)
    assert "TURNKEEPER_API_URL" in checks["api"]["detail"]
    monkeypatch.setenv("TURNKEEPER_API_URL", "http://127.0.0.1:1")
    assert cli("status", "--json").document == {"up": False, "api": False, "api_url": "http://127.0.0.1:1"}


def test_a_database_that_is_gone_is_told_without_its_password(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("turnkeeper.adapters.sql.database.Pauses.pause", refuse)
    monkeypatch.setattr("turnkeeper.adapters.sql.postgresql._POOL_SECONDS", 0.1)
    monkeypatch.setenv("TURNKEEPER_DATABASE_URL", "postgresql://app:a-password@127.0.0.1:1/kit")
    for command in (("tenant", "show", "acme"), ("database", "status"), ("dead", "list")):
        failed = cli(*command)
        assert failed.exit_code == 1
        assert "is the database there" in failed.stderr or "PGPASSWORD" in failed.stderr
        assert "a-password" not in failed.stdout + failed.stderr + caplog.text


def refuse(_: Pauses, failed: Exception, cause: Exception | None = None) -> None:
    raise failed from cause
