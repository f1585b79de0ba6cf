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
from typing import Any
from urllib.parse import urlsplit

from turnkeeper_local.kit.home import Home
from turnkeeper_local.kit.ministack import Ministack
from turnkeeper_local.kit.processes import Started
from turnkeeper_local.kit.record import Record

_NANO = 1_000_000_000
_TABLES = "dynamodb.json"
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
    if old_url and old_url != url:
        old = re.compile(re.escape(urlsplit(old_url).netloc) + r"(?!\d)")
        for file in home.state.glob("*.json"):
            if file.name not in _WRITTEN_BY_USERS:
                file.write_text(old.sub(urlsplit(url).netloc, file.read_text()))
    functions = home.state / "lambda.json"
    if functions.exists():
        content = json.loads(functions.read_text())
        content.get("payload", content).pop("dynamodb_stream_positions", None)
        functions.write_text(json.dumps(content))


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
    return f"the AWS emulator was killed before it could save: what happened since {since} is lost"


def forget(home: Home) -> None:
    shutil.rmtree(home.state, ignore_errors=True)


def holdings(home: Home) -> Holdings | None:
    """What `forget` would lose; None where there is nothing."""
    record = Record.read(home)
    process = record.process("ministack")
    if record.deployed is None or record.emulator is None:
        return None
    if process is not None and process.alive():
        items = _of_running(Ministack(str(record.emulator["endpoint_url"]), process), record.deployed["table_name"])
    elif kept(home):
        items = _items(json.loads((home.state / _TABLES).read_text()))
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
