"""What the parts of a kit without AWS have understood of a setting: for the table of settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from tests.support.wiring import Process
from turnkeeper.adapters.sql.database import UnsuitableDatabase
from turnkeeper.adapters.sql.postgresql import PostgresDatabase
from turnkeeper.adapters.sql.sqlite import SqliteDatabase
from turnkeeper.table import Key
from turnkeeper.wiring.sql import SqlPlatform

SQLITE = {"database_url": "sqlite:///{root}/kit.db"}
POSTGRESQL = {"database_url": "postgresql://app@127.0.0.1:1/kit"}


def platform(process: Process) -> SqlPlatform:
    found = process.kit.platform
    assert isinstance(found, SqlPlatform)
    return found


def database(process: Process) -> object:
    """The file in which an item lies that was asked for; ``None`` where it was asked of somebody else."""
    process.kit.table.get(Key("a", "b"))
    if not isinstance(process.kit.platform, SqlPlatform):
        return None
    found = process.kit.platform.database
    assert isinstance(found, SqliteDatabase)
    return found.path.name


def migrates(process: Process) -> object:
    platform(process).opened.close()
    try:
        process.kit.table.get(Key("a", "b"))
    except UnsuitableDatabase:
        return False
    finally:
        _file(process).unlink(missing_ok=True)
    return True


def _file(process: Process) -> Path:
    opened = platform(process).opened
    assert isinstance(opened, SqliteDatabase)
    return opened.path


def connections(process: Process) -> object:
    opened = platform(process).opened
    assert isinstance(opened, PostgresDatabase)
    return opened.most_connections


def outside(process: Process) -> object:
    """How many of a small and a large content are in files of the folder."""
    process.kit.blobs.put("small", b"x" * 100)
    process.kit.blobs.put("large", b"x" * 2_000_000)
    folder = process.kit.settings.blob_folder
    files = [path for path in folder.rglob("*") if path.is_file()] if folder else []
    found = len(files)
    process.kit.blobs.delete_prefix("small")
    process.kit.blobs.delete_prefix("large")
    return found


def signing_keys(process: Process) -> object:
    """Of a file, its own name three times."""
    file = process.kit.settings.signing_key_file
    if file is not None:
        file.write_text(f"{file.name * 40}\n{'older' * 10}\n")
    return platform(process).signing_keys()[0][:5]


def model_key(process: Process) -> object:
    file = process.kit.settings.model_key_file
    if file is not None:
        file.write_text(f"key of {file.name}\n")
    return process.model_request().headers["authorization"]


def tool_secret(process: Process) -> object:
    folder = process.kit.settings.secrets_folder
    assert folder is not None
    folder.mkdir(exist_ok=True)
    (folder / "crm-key").write_text(f"a secret of {folder.name}\n")
    return process.kit.tool_values.secret("crm")


def alerted(process: Process) -> object:
    """Addresses that an alert is sent to."""
    sent: list[str] = []

    def post(url: str, **_more: Any) -> Any:
        sent.append(url)
        return mock.Mock(status_code=200)

    with mock.patch("httpx2.post", post):
        process.kit.alerts.alert("kind", "subject", {})
    return sent
