"""What the program remembers of a session, kept in the kit's table: the SDK's ``SessionStore``.

Each batch of lines is an item of the session, behind a condition that the runner still has it; large ones go to the
blob store. Lines with an id are written once, however often they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.core.errors import LeaseLost, Unavailable
from turnkeeper.runtime.store import contents, keys
from turnkeeper.table import ABSENT, Blobs, Check, ConditionFailed, Put, Table

Line = dict[str, Any]
_TRIES = 5


@dataclass
class _Stream:
    """One log of the program: the session's own, or one of its subagents'."""

    items: int = 0
    ids: set[str] = field(default_factory=set)


class SessionLog:
    """One runner's hold on the logs of one session.

    Args:
        checks: conditions that every write is made under.
        project: the name that stands for every folder that the program may work in: which one it is must not decide
            what it remembers. ``None`` keeps logs of each folder apart.
    """

    def __init__(
        self,
        table: Table,
        blobs: Blobs,
        tenant_id: str,
        session_id: str,
        *,
        checks: Sequence[Check] = (),
        project: str | None = None,
    ) -> None:
        self._table = table
        self._blobs = blobs
        self._owner = tenant_id, session_id
        self._checks = tuple(checks)
        self._project = project
        self._streams: dict[str, _Stream] = {}
        self._lock = asyncio.Lock()
        #: Ids of the tool calls that are written down, in whichever log.
        self.calls: set[str] = set()

    # ---- what the SDK asks for ----

    async def append(self, key: Any, entries: list[Any]) -> None:
        """Raises LeaseLost, StoreBusy, Unavailable: not all is written."""
        if entries:
            async with self._lock:
                await asyncio.to_thread(self._append, self._name(key), entries)

    async def load(self, key: Any) -> list[Any] | None:
        async with self._lock:
            return await asyncio.to_thread(self._load, self._name(key))

    async def list_subkeys(self, key: Any) -> list[str]:
        return await asyncio.to_thread(self._subkeys, self._name(key))

    # ---- in threads ----

    def _append(self, name: str, entries: Sequence[Line]) -> None:
        for _ in range(_TRIES):
            if name not in self._streams:
                self._load(name)
            stream = self._streams.setdefault(name, _Stream())
            new = _new(entries, stream.ids)
            if new and not self._written(name, stream, new):
                continue
            self._see(stream, new)
            return
        raise Unavailable("the session's log is written by somebody else")

    def _written(self, name: str, stream: _Stream, lines: Sequence[Line]) -> bool:
        """False where an item is there already: the answer to an earlier write was lost, so it is looked at again."""
        item = {"stream": name, **contents.pack(list(lines), self._blobs, keys.blob_prefix(*self._owner))}
        put = Put(keys.elsewhere_key(*self._owner, name, stream.items + 1), item, (ABSENT,))
        try:
            self._table.write([put, *self._checks])
        except ConditionFailed as failed:
            if any(index for index in failed.failures):
                raise LeaseLost("another runner took the session", session_id=self._owner[1]) from failed
            del self._streams[name]
            return False
        stream.items += 1
        return True

    def _load(self, name: str) -> list[Line] | None:
        prefix = keys.elsewhere_prefix(name)
        items = self._table.query_all(keys.session_pk(*self._owner), first=prefix, last=f"{prefix}~")
        lines = [line for item in items for line in contents.unpack(item, self._blobs) or ()]
        stream = self._streams[name] = _Stream(items=len(items))
        self._see(stream, lines)
        return lines if items else None

    def _see(self, stream: _Stream, lines: Sequence[Line]) -> None:
        stream.ids.update(line["uuid"] for line in lines if line.get("uuid"))
        self.calls.update(block["id"] for line in lines for block in blocks_of(line, "tool_use"))

    def _subkeys(self, name: str) -> list[str]:
        first = keys.elsewhere_prefix()
        items = self._table.query_all(keys.session_pk(*self._owner), first=first, last=f"{first}~")
        begin = f"{name}/"
        found = dict.fromkeys(item["stream"] for item in items if item["stream"].startswith(begin))
        return [each.removeprefix(begin) for each in found]

    def _name(self, key: Any) -> str:
        parts = (self._project or key["project_key"], key["session_id"], key.get("subpath"))
        return "/".join(part for part in parts if part)


def _new(lines: Sequence[Line], known: Collection[str]) -> list[Line]:
    """Without those that are known by their id, or come twice."""
    new: list[Line] = []
    seen = set()
    for line in lines:
        name = line.get("uuid")
        if name is None or (name not in known and name not in seen):
            new.append(line)
        seen.add(name)
    return new


def blocks_of(line: Line, kind: str) -> list[dict[str, Any]]:
    """Blocks of a kind in a line of the program's log."""
    message = line.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    blocks = content if isinstance(content, list) else ()
    return [block for block in blocks if isinstance(block, dict) and block.get("type") == kind]
