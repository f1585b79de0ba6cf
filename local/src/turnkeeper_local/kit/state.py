"""What outlives the processes of a kit: sessions, spend, everything in tables, queues, buckets and secrets.

The emulator writes its state when it is asked to end, and reads it when it starts; while it runs, the state is in its
memory. So whoever ends it kindly keeps everything (`down`, another port, a machine that is shut down), and `kill -9`
loses what happened since it last started (docs/decisions/0092).
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.home import Home, read_json, write_text
from turnkeeper_local.kit.ministack import Ministack
from turnkeeper_local.kit.processes import Started
from turnkeeper_local.kit.record import Record

_NANO = 1_000_000_000
_TABLES = "dynamodb.json"
_LEAST_ROOM = 16_000_000
_WRITTEN_BY_USERS = frozenset({_TABLES, "cloudwatch_logs.json"})
"""Files of the emulator that hold what was said in sessions: an address in them is not the emulator's own."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """What a kit knows that cannot be made again."""

    sessions: int
    spent_usd: float

    def __str__(self) -> str:
        sessions = "1 session" if self.sessions == 1 else f"{self.sessions} sessions"
        return f"{sessions}, ${self.spent_usd:.4f} of spend on the books"


def kept(home: Home) -> bool:
    """Whether there is a state to begin with."""
    return (home.state / _TABLES).exists()


def prepare(home: Home, old_url: str | None, url: str) -> None:
    """Before an emulator starts at `url` with a state that was written at `old_url`: addresses of its own in it, such
    as those of queues, follow; and where readers of a table's stream have got to is forgotten, for the stream begins
    anew."""
    home.state.mkdir(parents=True, exist_ok=True)
    home.state.chmod(0o700)  # secrets are in it
    for file in home.state.glob("*.json"):
        _read(file)
    if old_url and old_url != url:
        old = re.compile(re.escape(urlsplit(old_url).netloc) + r"(?!\d)")
        for file in home.state.glob("*.json"):
            if file.name not in _WRITTEN_BY_USERS:
                write_text(file, old.sub(urlsplit(url).netloc, file.read_text(encoding="utf-8")))
    functions = home.state / "lambda.json"
    if functions.exists():
        content = _read(functions)
        content.get("payload", content).pop("dynamodb_stream_positions", None)
        write_text(functions, json.dumps(content))


def _read(file: Path) -> dict[str, Any]:
    """One of the emulator's files. It passes over what it cannot read, and writes over it when it ends."""
    if (content := read_json(file)) is None:
        raise KitError(
            f"{file} cannot be read: it was cut, or is not the emulator's. Put back a copy of it that is whole; "
            "`turnkeeper down --forget` drops all that is kept"
        )
    return content


def look_for_room(home: Home) -> None:
    """Before an emulator is ended that is to write its state: each file anew beside the old one.

    Raises:
        KitError: there is no room for that, and all since it started would be lost.
    """
    files = [file.stat().st_size for file in home.state.glob("*.json")]
    wanted = _LEAST_ROOM + 2 * max(files, default=0)
    free = shutil.disk_usage(home.state).free if home.state.exists() else wanted
    if free < wanted:
        raise KitError(
            f"there is no room to keep what the kit has stored: {free / 1e6:.1f} MB are free where {home.state} is, "
            f"and {wanted / 1e6:.1f} MB are needed. The kit is still up: make room, or drop it all with "
            "`turnkeeper down --forget`"
        )


def look_whether_taken(home: Home, ministack: Ministack, table: str) -> None:
    """Once an emulator has started with a state. One that passes over it, as that of an earlier version of the kit may,
    is ended before it writes over it.

    Raises:
        KitError: it has not taken it.
    """
    if table not in ministack.client("dynamodb").list_tables()["TableNames"]:
        ministack.process.end(0)
        raise KitError(
            f"the AWS emulator does not read what is kept in {home.state}: it may be of a later version of the kit. "
            "It is as it was; `turnkeeper down --forget` drops it"
        )


def lost_since(home: Home, emulator: Started | None) -> str | None:
    """What to say of an emulator that is gone without having saved; None for one that has, or still runs."""
    record = Record.read(home)
    if emulator is None or emulator.alive() or record.emulator is None or record.deployed is None:
        return None
    saved = (home.state / _TABLES).stat().st_mtime if kept(home) else None
    started = float(record.emulator["started_at"])
    if saved is not None and saved >= started:
        return None
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
    return f"the AWS emulator ended before it could save: what happened since {since} is lost"


def forget(home: Home) -> None:
    shutil.rmtree(home.state, ignore_errors=True)


def holdings(home: Home) -> Holdings | None:
    """What `forget` would lose; None where there is nothing, or where that cannot be told."""
    record = Record.read(home)
    process = record.process("ministack")
    if record.deployed is None or record.emulator is None:
        return None
    if process is not None and process.alive():
        ministack = Ministack(str(record.emulator["endpoint_url"]), process)
        if not ministack.healthy():
            return None
        items = _of_running(ministack, record.deployed["table_name"])
    elif kept(home):
        items = _items(read_json(home.state / _TABLES))
    else:
        return None
    sessions, spent = 0, 0
    for item in items:
        partition, sort = item["pk"]["S"], item["sk"]["S"]
        sessions += sort == "HEAD"
        if "#U#" in partition and sort.startswith("MONTH#"):
            spent += int(item.get("spent", {"N": "0"})["N"])
    return Holdings(sessions, spent / _NANO)


def _of_running(ministack: Ministack, table: str) -> Iterator[dict[str, Any]]:
    for page in ministack.client("dynamodb").get_paginator("scan").paginate(TableName=table):
        yield from page["Items"]


def _items(content: Any) -> Iterator[dict[str, Any]]:
    """The items in the emulator's own file of its tables, wherever they are in it."""
    if isinstance(content, dict):
        if isinstance(content.get("pk"), dict) and isinstance(content.get("sk"), dict):
            yield content
            return
        for value in content.values():
            yield from _items(value)
    elif isinstance(content, list):
        for value in content:
            yield from _items(value)
