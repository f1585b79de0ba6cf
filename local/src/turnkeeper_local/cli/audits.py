"""Audit chains, as commands read and check them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnkeeper.bootstrap import Kit
from turnkeeper.core.audit import Problem, verify
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.store.tenants import audit_records
from turnkeeper.table import Item
from turnkeeper_local.cli.tokens import TOKEN_ID, call_record

Document = dict[str, Any]

#: A chain that grows while it is read is read again, this often.
_READS = 5


@dataclass(frozen=True)
class Chain:
    """An audit chain as it was found. ``session_id`` is None for the tenant's own."""

    session_id: str | None
    records: Sequence[Mapping[str, Any]]
    problems: Sequence[Problem]

    def document(self) -> Document:
        found = [{**problem.model_dump(), "text": str(problem)} for problem in self.problems]
        return {"session_id": self.session_id, "records": len(self.records), "problems": found}


class AuditOffice:
    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def records(self, tenant_id: str, session_id: str | None) -> list[Document]:
        """The records of a session's chain, or of the tenant's own; of a token, its ledger, which is what is kept of
        each of its calls."""
        if session_id is not None and session_id.startswith(TOKEN_ID):
            token = self._kit.gateway_tokens.find(session_id, tenant_id)
            calls = self._kit.purses.calls(tenant_id, token.id)
            return [call_record(seq, token, call) for seq, call in enumerate(calls, start=1)]
        if session_id is not None:
            self._kit.sessions.head(tenant_id, session_id)
        return audit_records(self._kit.sessions.audit(tenant_id, session_id))

    def verify(self, tenant_id: str, session_id: str | None) -> Chain:
        """Check one chain against its head.

        Raises:
            SessionNotFound: there is neither a head nor a record of it.
        """
        for attempt in range(1, _READS + 1):
            before = self._chain_head(tenant_id, session_id)
            items: list[Item] = self._kit.sessions.audit(tenant_id, session_id)
            head = self._chain_head(tenant_id, session_id)
            if head == before or attempt == _READS:
                break
        records = audit_records(items)
        if isinstance(head, Problem):
            if session_id is not None and head.kind == "missing" and not records:
                raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
            # Without a head, what is left can still be checked up to its own end.
            last = records[-1] if records else {}
            count, digest = last.get("seq"), last.get("hash")
            known = (count, digest) if isinstance(count, int) and isinstance(digest, str) else (0, "")
            found = verify(records, *known, tenant_id=tenant_id, session_id=session_id)
            return Chain(session_id, records, [head, *found])
        problems = verify(records, *head, tenant_id=tenant_id, session_id=session_id)
        return Chain(session_id, records, problems)

    def verify_all(self, tenant_id: str) -> Iterator[Chain]:
        """The tenant's own chain, then those of all its sessions, newest first. One that cannot be read stops none of
        the others."""
        yield self.verify(tenant_id, None)
        for session_id in self._kit.sessions.lists.ids(tenant_id):
            yield self.verify(tenant_id, session_id)

    def _chain_head(self, tenant_id: str, session_id: str | None) -> tuple[int, str] | Problem:
        """What the head says of the chain, or what is wrong with the head: it is evidence here, and may be anything."""
        key = keys.tenant_key(tenant_id) if session_id is None else keys.head_key(tenant_id, session_id)
        item = self._kit.table.get(key)
        if item is None and session_id is None and not self._kit.sessions.audit(tenant_id, None):
            return 0, ""
        if item is None:
            return Problem(kind="missing", first=None, last=None, why="the head of the chain is gone")
        item = codec.flattened(item)
        count, digest = item.get("audit_seq"), item.get("audit_hash")
        if isinstance(count, bool) or not isinstance(count, int) or not isinstance(digest, str):
            return Problem(kind="head", first=None, last=None, why="does not say where the chain ends")
        if (item.get("tenant_id"), item.get("session_id")) != (tenant_id, session_id):
            return Problem(kind="head", first=None, last=None, why="says that it is another tenant's or session's")
        if session_id is not None:
            try:
                codec.head_of(item)
            except ValueError:
                return Problem(kind="head", first=None, last=None, why="cannot be read")
        return count, digest
