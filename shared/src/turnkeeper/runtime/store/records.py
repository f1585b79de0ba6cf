"""Reading sessions: the one query that a resume needs, and what reports and the sweep look at."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.ledger import iso
from turnkeeper.core.lost_runners import OpenCall
from turnkeeper.core.session import Entry, Head, Looked, Plan, Spec, Transcript
from turnkeeper.core.transcript import unanswered
from turnkeeper.runtime.store import codec, contents, due, keys
from turnkeeper.runtime.store.lists import Lists
from turnkeeper.table import Blobs, Item, Table
from turnkeeper.telemetry.once_a_day import OnceADay

T = TypeVar("T")

logger = logging.getLogger(__name__)
logger.addFilter(OnceADay())

#: Entries that are looked at for open calls: behind these there is hardly one that is no message.
_LATEST = 12


def open_calls(head: Item | None, records: Collection[Item], since: int = 0) -> list[Item]:
    """Records of calls that a session's head tells of alone, beside those of its ledger."""
    record = codec.open_call(codec.flattened(head)) if head is not None else None
    if record is None or record["call"] < since or any(each["call"] == record["call"] for each in records):
        return []
    return [record]


def ledger_of(items: Collection[Mapping[str, Any]]) -> list[Item]:
    """The records of calls among items of sessions and tokens, in their order: items of their own, or in the item of
    the entry that the call brought."""
    own = [dict(item) for item in items if item["sk"].startswith("CALL#")]
    beside = [
        {"pk": item["pk"], "sk": keys.call_sk(item[codec.LEDGER]["call"]), **item[codec.LEDGER]}
        for item in items
        if codec.LEDGER in item
    ]
    return sorted([*own, *beside], key=lambda record: (record["pk"], record["sk"]))


def stored_ledger(table: Table, pk: str, *, since: int = 0, after: int = 0) -> list[Item]:
    """All records of a ledger from a number on, and from an entry on; not what only a head tells."""
    own = table.query_all(pk, first=keys.call_sk(since), last="CALL#~")
    return ledger_of([*own, *table.query_all(pk, first=keys.entry_sk(after), last="ENTRY#~")])


class Records:
    """What can be known of sessions without writing."""

    def __init__(self, table: Table, blobs: Blobs) -> None:
        self._table = table
        self._blobs = blobs
        self.lists = Lists(table)

    def head(self, tenant_id: str, session_id: str) -> Head:
        """Raises SessionNotFound."""
        item = self._table.get(keys.head_key(tenant_id, session_id))
        if item is None:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return codec.head_of(item)

    def load(self, tenant_id: str, session_id: str) -> Transcript:
        """Everything that a resume needs, in one query. What of it is gone from the blob store is left out, or has a
        placeholder in its place, so that the rest can still be used.

        Raises:
            SessionNotFound: no such session of this tenant.
        """
        items = self._table.query_all(keys.session_pk(tenant_id, session_id), first=keys.RESUME_FROM)
        by_key = {item["sk"]: item for item in items}
        if "HEAD" not in by_key:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        lost: list[str] = []

        def kept(item: Item, read: Callable[[Item, Blobs], T]) -> T | None:
            try:
                return read(item, self._blobs)
            except contents.Lost:
                lost.append(item["sk"])
                return None

        spec, plan = by_key.get("SPEC"), by_key.get("PLAN")
        early = {item["tool_use_id"]: kept(item, contents.unpack) for item in items if item["sk"].startswith("RESULT#")}
        entries = [codec.entry_of(item, self._blobs) for item in items if item["sk"].startswith("ENTRY#")]
        lost.extend(keys.entry_key(tenant_id, session_id, entry.seq).sk for entry in entries if entry.lost)
        return Transcript(
            head=codec.head_of(by_key["HEAD"]),
            spec=kept(spec, codec.spec_of) if spec else None,
            entries=tuple(entries),
            plan=kept(plan, codec.plan_of) if plan else None,
            early_results={call_id: result for call_id, result in early.items() if result is not None},
            lost=tuple(lost),
            looked=Looked.of(by_key.get("STREAM")),
        )

    def begun(self, head: Head, entry: Item | None, stream: Item | None) -> Transcript | None:
        """The transcript of a session that a runner has claimed, from what was read of it before the claim. ``None``
        where it has to be loaded: a runner had it before, who may have written meanwhile, or it was begun with more
        than one input."""
        new = head.lease.fencing_token == 1 and head.last_seq == 1 and head.version is not None
        if not new or head.forked_from is not None or head.companion is not None or entry is None:
            return None
        first = codec.entry_of(entry, self._blobs)
        return None if first.lost else Transcript(head=head, entries=(first,), looked=Looked.of(stream))

    def spec(self, tenant_id: str, version: str) -> Spec:
        """What a version of the tenant's says.

        Raises:
            Lost: it is gone.
        """
        item = self._table.get(keys.version_key(tenant_id, version))
        spec = codec.spec_of(item, self._blobs) if item is not None else None
        if spec is None:
            raise contents.Lost("a version that a session names is gone", version=version)
        return spec

    def spec_of(self, transcript: Transcript) -> Spec:
        """What a session's version says, or what is frozen into the session; nothing where that is gone.

        Raises:
            Lost: the version is gone.
        """
        head = transcript.head
        if head.version is not None:
            return self.spec(head.tenant_id, head.version)
        return transcript.spec or Spec(model="", system="", tools=())

    def prompt(self, tenant_id: str, session_id: str, name: str) -> str | None:
        """A system prompt that was made for the session; ``None`` where it is gone, or was erased."""
        item = self._table.get(keys.prompt_key(tenant_id, session_id, name))
        try:
            text = contents.unpack(item, self._blobs) if item is not None else None
        except contents.Lost:
            return None
        return text if isinstance(text, str) else None

    def entries(self, tenant_id: str, session_id: str, *, after: int = 0, limit: int | None = None) -> list[Entry]:
        """Entries behind a seq, in order; at most one page."""
        page = self._table.query(
            keys.session_pk(tenant_id, session_id),
            first=keys.entry_key(tenant_id, session_id, after + 1).sk,
            last="ENTRY#~",
            limit=limit,
        )
        return [codec.entry_of(item, self._blobs) for item in page.items]

    def latest_answer(self, tenant_id: str, session_id: str, *, since: int) -> Entry | None:
        """The last thing that the model said from a seq on."""
        cursor: str | None = None
        while True:
            page = self._table.query(
                keys.session_pk(tenant_id, session_id),
                first=keys.entry_key(tenant_id, session_id, since).sk,
                last="ENTRY#~",
                limit=4,
                descending=True,
                cursor=cursor,
            )
            for item in page.items:
                if item["type"] == "assistant":
                    return codec.entry_of(item, self._blobs)
            if (cursor := page.cursor) is None:
                return None

    def open_calls(self, head: Head) -> tuple[OpenCall, ...]:
        """The calls that no entry answers yet; none where that cannot be read, which is no reason not to go on."""
        pk, first = keys.session_pk(head.tenant_id, head.session_id), max(1, head.last_seq - _LATEST)
        page = self._table.query(pk, first=keys.entry_key(head.tenant_id, head.session_id, first).sk, last="ENTRY#~")
        try:
            entries = [codec.entry_of(item, self._blobs) for item in page.items]
            return tuple(OpenCall(tool_use_id=call["id"], tool=call["name"][:128]) for call in unanswered(entries))
        except Exception:
            logger.exception("session %s: its latest entries cannot be read", head.session_id)
            return ()

    def plan(self, tenant_id: str, session_id: str) -> Plan | None:
        """``None`` where there is none, or its content is gone."""
        item = self._table.get(keys.plan_key(tenant_id, session_id))
        try:
            return codec.plan_of(item, self._blobs) if item is not None else None
        except contents.Lost:
            return None

    def calls(self, tenant_id: str, session_id: str, *, since: int = 0, after: int = 0) -> list[Item]:
        """The session's ledger: one record a reservation, from a number on. ``after``: no entry before this one was
        brought by them."""
        # The head before the records: the call that it has in flight is resolved by then, or has none yet.
        head = self._table.get(keys.head_key(tenant_id, session_id))
        records = stored_ledger(self._table, keys.session_pk(tenant_id, session_id), since=since, after=after)
        return [*records, *open_calls(head, records, since)]

    def audit(self, tenant_id: str, session_id: str | None) -> list[Item]:
        """The stored records of a session's chain, or of the tenant's own."""
        pk = keys.tenant_pk(tenant_id) if session_id is None else keys.session_pk(tenant_id, session_id)
        return self._table.query_all(pk, first="AUDIT#", last="AUDIT#~")

    def under_way(self) -> Iterator[Head]:
        """All that will be due some time: every session of any tenant that a runner has, or that is on its way to one.
        Four queries, and a read of these heads only, however many rest."""
        for shard in range(keys.DUE_SHARDS):
            yield from self.heads(due.by_time(self._table, f"DUE#{shard}"))

    def kept_long_enough(self, now: datetime, shard: int) -> Iterator[Head]:
        """Heads of sessions whose contents have rested for as long as they are kept, longest first."""
        return self.heads(due.by_time(self._table, f"KEPT#{shard}", until=iso(now)))

    @staticmethod
    def heads(items: Iterable[Item]) -> Iterator[Head]:
        """Those that can be read."""
        for item in items:
            try:
                head = codec.head_of(item)
            except ValueError:
                # One that a later version wrote, or that somebody edited: the others still are looked after.
                logger.exception("the head %s cannot be read", item["pk"])
                continue
            yield head
