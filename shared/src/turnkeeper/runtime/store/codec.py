"""How heads, entries, specs and plans become items, and back.

Fields of a head stay attributes of their own, so that a step writes those that changed and conditions can name them;
once it is packed, only those that others than its runner read or write.

What a later version has added, in a field or as a kind of entry that is no message, is passed over in reading: during a
deployment the two have one table, and a session goes to and fro between them.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, get_args

from pydantic import TypeAdapter
from pydantic_core import ValidationError, to_jsonable_python

from turnkeeper.core.breakers import DIGITS
from turnkeeper.core.canonical import json_text, stored_json
from turnkeeper.core.errors import WrittenByNewer
from turnkeeper.core.late import late
from turnkeeper.core.ledger import iso
from turnkeeper.core.replacing import replace
from turnkeeper.core.session import Account, Entry, EntryType, Head, LeaseState, Plan, Spec, TurnState
from turnkeeper.core.transcript import CONTENT_LOST, text_block
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.contents import MAX_CONTENT_BYTES, Lost, pack, unpack
from turnkeeper.table import Blobs, Item

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
        "pending_detail",
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
_HEAD = late(lambda: TypeAdapter(Head))


#: The attribute that holds what of a packed head nobody else reads or writes.
PACKED = "packed"
#: What stays attributes: what conditions and indexes read, what is written while a runner holds the session, and where
#: it is on its way to. ``created_at`` and the names are in those of the indexes.
_APART = {
    **dict.fromkeys(("tenant_id", "session_id", "user_id", "created_at", "revision"), True),
    **dict.fromkeys(("updated_at", "status", "last_seq", "handoff"), True),
    "turn": {"number", "cancel_requested", "cancel_actor"},
    "lease": {"owner", "fencing_token", "expires_at"},
}
_NOT_DUMPED: Any = {**_APART, "limits": True}
#: Words that every packed head has, so that a small one has few bytes. Never changed: items were written with it.
_WORDS = (
    b'"forked_from":"companion":"engine":"unbegun":true"repairs":"left_out":"lost":"done":"end_task""flags":"attempts":'
    b'"nudged":true"put_backs":"in_doubt_nanousd":"untold_nanousd":"run":{"id":"","kind":"lambda","claimed_at":"2026-'
    b'"prompted":true"stop":{"reason":"end_turn""first_call":"max_seconds":"max_tokens":"task_usd":"metadata":{"'
    b'{"role":"user","agent":"","version":"","prompt":"","placement":"auto","steps":,"turn":{"seq":,"started_at":"2026-'
    b'T00:00:00.000Z","iterations":,"breakers":{"window":24,"calls":24,"results":24,"error_streak":1,"apart":false},"traceparent":"00-'
    b'","request_id":"","tally":{"model_ms":,"tool_ms":,"queue_ms":,"money_ms":,"runs":1,"retries":,"compactions":,"flags":'
    b'}},"lease":{"claims":1},"account":{"usage":{"input_tokens":,"output_tokens":,"cache_read_input_tokens":,'
    b'"cache_creation_input_tokens":},"context_tokens":,"cost_nanousd":,"pending":{"call":,"amount_nanousd":,"model":'
    b'"claude-","max_tokens":8192,"periods":{"user_daily":"2026-","user_monthly":"2026-","tenant_monthly":"2026-},"shard":'
    b',"at":"2026-},"calls":},"runner":"fargate","step_millis":[,"window":200000,"retention_days":30,"granted_tools":["'
    b'"],"audit_seq":,"audit_hash":"","limits":{"max_iterations":25,"task_usd":null,"max_tokens":8192,'
    b'"repetition_strikes":3,"error_streak":5,"max_seconds":21600,"max_attempts":5}}'
)
_HEX = re.compile("[0-9a-f]*")
#: Windows of the breakers: no text that could be compressed, so they stand behind what is.
_WINDOWS = ("calls", "results", "window")


def head_item(head: Head) -> Item:
    """All attributes of the head's item but its key; ``None`` is left out. Packed into a few once it has a revision."""
    return {**plain_item(head), PACKED: _packed(head)} if head.revision else flat_item(head)


def plain_item(head: Head) -> Item:
    """Of a packed head, what stays an attribute of its own."""
    item: Item = {
        "revision": head.revision,
        "status": head.status,
        "last_seq": head.last_seq,
        "updated_at": head.updated_at,
        "turn": head.turn.number,
        "fencing_token": head.lease.fencing_token,
        "lease_expires_at": head.lease.expires_at,
    }
    if head.lease.owner is not None:
        item["lease_owner"] = head.lease.owner
    if head.turn.cancel_requested:
        item["cancel_requested"] = True
    if head.turn.cancel_actor is not None:
        item["cancel_actor"] = head.turn.cancel_actor
    if head.handoff is not None:
        item["handoff"] = json_text(to_jsonable_python(head.handoff))
    item.update(_index_attributes(head))
    return item


#: Everything that is packed, to be compared.
packed_fields = attrgetter(
    *(field.name for field in fields(Head) if field.name not in _APART),
    *(
        f"{part}.{field.name}"
        for part, apart in (("turn", _APART["turn"]), ("lease", _APART["lease"]))
        for field in fields(_PART_TYPES[part])
        if field.name not in apart  # type: ignore[operator]
    ),
)


def _packed(head: Head) -> bytes:
    value: dict[str, Any] = _HEAD.dump_python(head, mode="json", exclude_defaults=True, exclude=_NOT_DUMPED)
    # Whole: what a limit is where nobody says may be another one some day.
    value["limits"] = to_jsonable_python(head.limits)
    behind = _taken_apart(value["turn"].get("breakers") or {})
    # Less memory than usual: most of the time went into clearing it. So few bytes become no more by it.
    deflate = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, 6, zdict=_WORDS)
    return deflate.compress(stored_json(value)) + deflate.flush() + behind


def _taken_apart(breakers: dict[str, Any]) -> bytes:
    """The hashes of its windows, in whose place stands how many they are. Where ``window`` is the end of ``calls``, as
    long as nothing was changed, once is enough."""
    behind = b""
    calls = breakers.get("calls") or ()
    for name in _WINDOWS:
        hashes = breakers.get(name) or ()
        joined = "".join(hashes)
        if not (set(map(len, hashes)) <= {DIGITS} and _HEX.fullmatch(joined)):
            continue
        breakers[name] = len(hashes)
        if name == "window":
            breakers["apart"] = list(hashes) != list(calls[len(calls) - len(hashes) :])
        if name != "window" or breakers["apart"]:
            behind += bytes.fromhex(joined)
    return behind


def _put_together(breakers: dict[str, Any], behind: bytes) -> None:
    for name in _WINDOWS:
        if isinstance(number := breakers.get(name), int):
            if name == "window" and not breakers["apart"]:
                breakers[name] = breakers["calls"][len(breakers["calls"]) - number :]
                continue
            text, behind = behind[: number * DIGITS // 2].hex(), behind[number * DIGITS // 2 :]
            breakers[name] = [text[at : at + DIGITS] for at in range(0, len(text), DIGITS)]


def _unpacked(item: Mapping[str, Any]) -> dict[str, Any]:
    """A packed head's fields as they were dumped."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS, zdict=_WORDS)
    value: dict[str, Any] = json.loads(inflate.decompress(item[PACKED], MAX_CONTENT_BYTES))
    created_at, session_id = item["created_key"].split("#", 1)
    user = keys.user_of_list(item["user_key"])
    _put_together(value["turn"].get("breakers") or {}, inflate.unused_data)
    value |= {"tenant_id": user[0], "user_id": user[1], "session_id": session_id, "created_at": created_at}
    value |= {name: item[name] for name in ("updated_at", "status", "last_seq", "revision")}
    value["handoff"] = json.loads(item["handoff"]) if "handoff" in item else None
    value["turn"] |= {"number": item["turn"], "cancel_requested": item.get("cancel_requested", False)}
    value["turn"]["cancel_actor"] = item.get("cancel_actor")
    value.setdefault("lease", {}).update(
        owner=item.get("lease_owner"), fencing_token=item["fencing_token"], expires_at=item["lease_expires_at"]
    )
    return value


def revised(before: Head | None, after: Head, *, packs: bool) -> Head:
    """The head as it is stored next, where its revision says how often what is packed was written.

    Args:
        packs: one that is not packed becomes so. Only for who knows all of it as it is stored: it is written whole.
    """
    stored = before.revision if before is not None else 0
    same = before is not None and packed_fields(before) == packed_fields(after)
    revision = stored if (stored and same) or not (stored or packs) else stored + 1
    return after if after.revision == revision else replace(after, revision=revision)


def flat_item(head: Head) -> Item:
    """The same with each field an attribute of its own: what goes through a queue, and what earlier releases wrote."""
    values: dict[str, Any] = {
        field.name: getattr(head, field.name) for field in fields(Head) if field.name != "revision"
    }
    for part, names in _ATTRIBUTES.items():
        state = values.pop(part)
        values |= {attribute: getattr(state, name) for name, attribute in names}
    item: Item = {name: value for name, value in values.items() if value is not None}
    for name in _JSON_FIELDS & item.keys():
        item[name] = json_text(to_jsonable_python(item[name]))
    item.update(_index_attributes(head))
    return item


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


@lru_cache(maxsize=1_000)  # of each lease that a runner has, and it is asked for with each write
def lease_due(expires_at_millis: int) -> str:
    return iso(datetime.fromtimestamp(expires_at_millis / 1000, UTC))


def head_of(item: Mapping[str, Any]) -> Head:
    """The head that an item holds.

    Raises:
        WrittenByNewer: it has values that this version does not know.
        ValueError: it is no head of this version or an earlier one.
    """
    try:
        return _HEAD.validate_python(_unpacked(item) if PACKED in item else _unflattened(item), extra="ignore")
    except ValidationError as error:
        if any(problem["type"] == "missing" for problem in error.errors()):
            raise  # No release leaves out what another one needs.
        # Names of fields only: values may be a user's.
        strange = ", ".join(sorted({str(part) for problem in error.errors() for part in problem["loc"][:1]}))
        told = f"The session is one of a newer release ({strange}), which is being deployed: try again in a moment."
        raise WrittenByNewer(told, retry_after_seconds=5) from error
    except (zlib.error, LookupError, TypeError, AttributeError, RecursionError) as error:
        # Whatever somebody made of it: who reads many heads passes over this one, and no other.
        raise ValueError(f"no head that can be read: {type(error).__name__}") from error


def _unflattened(item: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: json.loads(value) if name in _JSON_FIELDS else value for name, value in item.items()}
    head: dict[str, Any] = {field.name: values[field.name] for field in fields(Head) if field.name in values}
    for part, names in _ATTRIBUTES.items():
        head[part] = {name: values[attribute] for name, attribute in names if attribute in values}
    return head


def open_call(item: Mapping[str, Any]) -> Item | None:
    """The ledger's record of the call that a head has in flight, which only the head tells; ``None`` where there is
    none, or it has a record of its own."""
    if "pending" not in item or "pending_detail" not in item:
        return None
    call = json.loads(item["pending"])
    key = {"pk": item["pk"], "sk": keys.call_sk(call["call"])} if "pk" in item else {}
    return {**key, **json.loads(item["pending_detail"]), **call, "state": "pending"}


def flattened(item: Item) -> Item:
    """A head's item with each field an attribute of its own, as far as it can be read; else as it is."""
    try:
        rest = {name: value for name, value in item.items() if name != PACKED}
        return item if PACKED not in item else {**rest, **flat_item(head_of(item))}
    except ValueError:
        return item


# ---- the rest ----

#: The attribute of an entry's item that holds the ledger's record of the call that brought it.
LEDGER = "ledger"
_ENTRY = late(lambda: TypeAdapter(Entry))
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
