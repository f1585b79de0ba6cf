"""How heads, entries, specs and plans become items, and back.

Contents are JSON, compressed where it pays. What would make an item larger than 64 KB goes to the blob store under its
hash (a claim check), and its hash is checked when it is read. Fields of a head stay attributes of their own, so that a
step writes those that changed and conditions can name them.

What a later version has added, in a field or as a kind of entry that is no message, is passed over in reading: during a
deployment the two have one table, and a session goes to and fro between them.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from turnkeeper.core.canonical import without_surrogates
from turnkeeper.core.errors import TurnkeeperError
from turnkeeper.core.ledger import iso
from turnkeeper.core.session import Account, Entry, EntryType, Head, LeaseState, Plan, Spec, TurnState
from turnkeeper.core.transcript import CONTENT_LOST, text_block
from turnkeeper.ports import Blobs, Item
from turnkeeper.runtime.store import keys

#: Room for the attributes beside the content, below the 64 KB that an item may have.
INLINE_BYTES = 60_000
_COMPRESS_FROM = 512
#: What one content may be, uncompressed. The largest input is 4 MB, and 64 results of a step bring less than this.
MAX_CONTENT_BYTES = 512 * 1024 * 1024


class Damaged(TurnkeeperError):
    """A stored content does not have the hash that it was stored with."""


class Lost(TurnkeeperError):
    """A stored content is gone from the blob store."""


def pack(value: Any, blobs: Blobs, prefix: str) -> Item:
    """The attributes that hold a JSON value: ``data`` inline, or ``blob`` as a claim check."""
    raw = _json_text(value).encode()
    data = zlib.compress(raw, 6) if len(raw) >= _COMPRESS_FROM else raw
    if len(data) >= len(raw):
        data = raw
    if len(data) <= INLINE_BYTES:
        return {"data": data}
    digest = hashlib.sha256(data).hexdigest()
    key = f"{prefix}{digest}"
    blobs.put(key, data)
    return {"blob": key, "blob_sha256": digest, "blob_bytes": len(data)}


def unpack(item: Mapping[str, Any], blobs: Blobs) -> Any:
    """The JSON value; ``None`` where it was erased.

    Raises:
        Damaged: the blob is not what was stored.
        Lost: the blob is gone.
    """
    if "blob" in item:
        try:
            data = blobs.get(item["blob"])
        except KeyError as missing:
            raise Lost("a stored content is gone", key=item["blob"]) from missing
        if hashlib.sha256(data).hexdigest() != item["blob_sha256"]:
            raise Damaged("a stored content does not have its hash", key=item["blob"])
    elif "data" in item:
        data = item["data"]
    else:
        return None
    # A compressed stream begins with 0x78; JSON never does.
    raw = _inflated(data) if data[:1] == b"\x78" else data
    return json.loads(without_surrogates(raw.decode("utf-8", "surrogatepass")))


def _inflated(data: bytes) -> bytes:
    """Raises Damaged for more than anything that was stored can become: a few kilobytes must not fill the memory."""
    stream = zlib.decompressobj()
    raw = stream.decompress(data, MAX_CONTENT_BYTES)
    if not stream.eof:
        raise Damaged("a stored content is too large, or cut off")
    return raw


# ---- heads ----

#: Fields that are JSON text in the item; the others stay as they are, for conditions and indexes to read.
_JSON_FIELDS = frozenset(
    {
        "metadata",
        "stop",
        "handoff",
        "forked_from",
        "companion",
        "usage",
        "pending",
        "lease_run",
        "breakers",
        "turn_tally",
        "flags",
        "step_millis",
        "granted_tools",
        "limits",
    }
)


#: Parts of a head that are spread over attributes of the item, which conditions and indexes read: the names of those
#: that are not the fields' own.
_PARTS: Mapping[str, Mapping[str, str]] = {
    "turn": {
        "number": "turn",
        "seq": "turn_seq",
        "started_at": "turn_started_at",
        "role": "turn_role",
        "model": "turn_model",
        "traceparent": "turn_traceparent",
        "request_id": "turn_request_id",
        "tally": "turn_tally",
    },
    "lease": {"owner": "lease_owner", "expires_at": "lease_expires_at", "run": "lease_run"},
    "account": {},
}
_PART_TYPES: Mapping[str, type] = {"turn": TurnState, "lease": LeaseState, "account": Account}
#: Field and attribute of everything in a part.
_ATTRIBUTES: Mapping[str, Sequence[tuple[str, str]]] = {
    part: [(field.name, names.get(field.name, field.name)) for field in fields(_PART_TYPES[part])]
    for part, names in _PARTS.items()
}
_HEAD = TypeAdapter(Head)


def head_item(head: Head) -> Item:
    """All attributes of the head's item but its key; ``None`` is left out."""
    values: dict[str, Any] = {field.name: getattr(head, field.name) for field in fields(Head)}
    for part, names in _ATTRIBUTES.items():
        state = values.pop(part)
        values |= {attribute: getattr(state, name) for name, attribute in names}
    item: Item = {name: value for name, value in values.items() if value is not None}
    for name in _JSON_FIELDS & item.keys():
        item[name] = _json_text(to_jsonable_python(item[name]))
    item.update(_index_attributes(head))
    return item


def _json_text(value: Any) -> str:
    """As JSON that UTF-8 can hold: half a character, which a model may write, is replaced."""
    return without_surrogates(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _index_attributes(head: Head) -> Item:
    attributes = list_attributes(head)
    if (due := due_at(head)) is not None:
        attributes["due_shard"] = keys.due_shard(head.session_id)
        attributes["due_at"] = due
    elif (until := kept_until(head)) is not None:
        attributes["due_shard"] = keys.kept_shard(head.session_id)
        attributes["due_at"] = until
    return attributes


def list_attributes(head: Head) -> Item:
    """Where the session stands in lists."""
    return {
        "user_key": keys.by_user(head.tenant_id, head.user_id),
        "tenant_key": keys.by_tenant(head.tenant_id),
        "status_key": keys.by_status(head.tenant_id, head.status),
        "created_key": created_key(head),
    }


def created_key(head: Head) -> str:
    """The order of lists."""
    return f"{head.created_at}#{head.session_id}"


def due_at(head: Head) -> str | None:
    """When the sweep has to look after the session if nothing happened by then; ``None`` at rest, but for money that is
    still set aside there: that must not be, and is due at once.

    With a runner: when its lease ends. On its way to one: a minute after it was sent, twice as long each time it was
    sent again, at most a quarter of an hour, so that a long queue is not flooded with copies. Not sent at all: at once.
    """
    if head.resting:
        return head.updated_at if head.account.pending else None
    if head.lease.owner is not None:
        return lease_due(head.lease.expires_at)
    sends = head.handoff.sends if head.handoff else 1
    since = head.handoff.at if head.handoff else head.updated_at
    wait = (min(60 * 2 ** (sends - 1), 900) if sends else 0) + (head.handoff.delay_seconds if head.handoff else 0)
    return iso(datetime.fromisoformat(since) + timedelta(seconds=wait))


def kept_until(head: Head) -> str | None:
    """When the contents of a session at rest have been kept long enough; ``None`` where nobody says."""
    if not head.resting or head.status == "erased" or head.retention_days is None:
        return None
    return iso(datetime.fromisoformat(head.updated_at) + timedelta(days=head.retention_days))


def lease_due(expires_at_millis: int) -> str:
    return iso(datetime.fromtimestamp(expires_at_millis / 1000, UTC))


def head_of(item: Mapping[str, Any]) -> Head:
    """Raises ValueError where it is no head of this version or an earlier one."""
    values = {name: json.loads(value) if name in _JSON_FIELDS else value for name, value in item.items()}
    head = {field.name: values[field.name] for field in fields(Head) if field.name in values}
    for part, names in _ATTRIBUTES.items():
        head[part] = {name: values[attribute] for name, attribute in names if attribute in values}
    return _HEAD.validate_python(head, extra="ignore")


# ---- the rest ----

_ENTRY = TypeAdapter(Entry)
_ENTRY_TYPES = frozenset(get_args(EntryType))


def entry_item(entry: Entry, blobs: Blobs, prefix: str) -> Item:
    value = _ENTRY.dump_python(entry, mode="json", exclude_defaults=True, exclude={"seq", "type", "at"})
    return {"seq": entry.seq, "type": entry.type, "at": entry.at, **pack(value, blobs, prefix)}


def entry_of(item: Mapping[str, Any], blobs: Blobs) -> Entry:
    """One whose content is gone holds words that say so, and is ``lost``."""
    try:
        value = unpack(item, blobs) or {}
    except Lost:
        value = {"content": [text_block(CONTENT_LOST)], "lost": True}
    kind = item["type"] if item["type"] in _ENTRY_TYPES else "other"
    return _ENTRY.validate_python({**value, "seq": item["seq"], "type": kind, "at": item["at"]}, extra="ignore")


def spec_of(item: Mapping[str, Any], blobs: Blobs) -> Spec | None:
    """``None`` where it was erased."""
    value = unpack(item, blobs)
    return Spec.model_validate(value, extra="ignore") if value else None


def plan_of(item: Mapping[str, Any], blobs: Blobs) -> Plan | None:
    value = unpack(item, blobs)
    return Plan.model_validate(value, extra="ignore") if value else None
