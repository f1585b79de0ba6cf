"""The program's log in the table: its own contract, and the kit's: once, fenced, erased."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.kit import WHO, MemoryKit
from turnkeeper.core.errors import LeaseLost, Unavailable
from turnkeeper.core.session import Head
from turnkeeper.runtime.intake import NewSession
from turnkeeper.runtime.store import keys
from turnkeeper.sdk.log import SessionLog
from turnkeeper.table import Check, Cond
from turnkeeper.testing.memory_blobs import MemoryBlobs
from turnkeeper.testing.memory_table import MemoryTable

KEY: Any = {"project_key": "-w", "session_id": "s"}


def line(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "user", "uuid": name, **more}


def test_it_does_what_the_sdk_asks_of_a_store() -> None:
    """The suite that the package brings."""
    testing = pytest.importorskip("claude_agent_sdk.testing")
    made = iter(range(1_000))
    asyncio.run(
        testing.run_session_store_conformance(
            lambda: SessionLog(MemoryTable(), MemoryBlobs(), "acme", f"ses_{next(made)}")
        )
    )


def test_what_is_written_is_there_for_the_next_runner_once_and_in_order() -> None:
    table, blobs = MemoryTable(), MemoryBlobs()

    def log() -> SessionLog:
        return SessionLog(table, blobs, "acme", "ses_1", project="program")

    async def write() -> list[Any] | None:
        first, second = log(), log()
        call = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}]}
        await first.append(KEY, [line("a"), line("b", message=call), {"type": "mode"}])
        assert first.calls == {"toolu_1"}
        await first.append({**KEY, "subpath": "subagents/agent-1"}, [line("x")])
        # Another worker, with another folder: what it was told already is not written again.
        elsewhere: Any = {**KEY, "project_key": "-other"}
        assert [each.get("uuid") for each in await second.load(elsewhere) or ()] == ["a", "b", None]
        assert second.calls == {"toolu_1"}
        await second.append(elsewhere, [line("b"), line("c", big="x" * 300_000)])
        assert await second.list_subkeys(elsewhere) == ["subagents/agent-1"]
        return await log().load(KEY)

    found = asyncio.run(write())
    assert found is not None
    assert [each.get("uuid") for each in found] == ["a", "b", None, "c"]
    assert len(found[3]["big"]) == 300_000


def test_an_answer_that_was_lost_writes_nothing_twice() -> None:
    table = MemoryTable()
    log = SessionLog(table, MemoryBlobs(), "acme", "ses_1")
    write = table.write

    def lost(operations: Any) -> None:
        write(operations)
        raise Unavailable("the answer was lost")

    async def go() -> list[Any] | None:
        await log.append(KEY, [line("a")])
        table.write = lost  # type: ignore[method-assign]
        with pytest.raises(Unavailable):
            await log.append(KEY, [line("b"), line("c")])
        table.write = write  # type: ignore[method-assign]
        await log.append(KEY, [line("b"), line("c")])
        return await log.load(KEY)

    found = asyncio.run(go())
    assert found is not None
    assert [each["uuid"] for each in found] == ["a", "b", "c"]


def _session(kit: MemoryKit) -> Head:
    return kit.intake.create(WHO, NewSession(agent="plain", input="[[say hello]]", metadata={}))


def test_who_lost_the_session_writes_nothing() -> None:
    kit = MemoryKit()
    head = _session(kit)
    fence = Check(keys.head_key(head.tenant_id, head.session_id), (Cond("fencing_token", "=", 7),))
    log = SessionLog(kit.table, kit.blobs, head.tenant_id, head.session_id, checks=(fence,))
    with pytest.raises(LeaseLost):
        asyncio.run(log.append(KEY, [line("a")]))
    assert asyncio.run(log.load(KEY)) is None


def test_it_goes_with_the_session_and_no_resume_reads_it() -> None:
    kit = MemoryKit()
    head = _session(kit)
    log = SessionLog(kit.table, kit.blobs, head.tenant_id, head.session_id)
    asyncio.run(log.append(KEY, [line("a", small="said"), line("b", big="y" * 300_000)]))
    kit.sessions.load(head.tenant_id, head.session_id)
    kit.erasure.erase(kit.sessions.head(head.tenant_id, head.session_id), actor="test")
    items = kit.table.query_all(
        keys.session_pk(head.tenant_id, head.session_id), first="ELSEWHERE#", last="ELSEWHERE#~"
    )
    assert items
    assert not any({"data", "blob"} & item.keys() for item in items)
    assert asyncio.run(SessionLog(kit.table, kit.blobs, head.tenant_id, head.session_id).load(KEY)) == []


def test_a_line_that_comes_twice_at_once_is_written_once() -> None:
    log = SessionLog(MemoryTable(), MemoryBlobs(), "acme", "ses_1")

    async def write() -> list[Any] | None:
        await log.append(KEY, [line("a"), {"type": "mode"}, line("a"), {"type": "mode"}, line("b")])
        return await log.load(KEY)

    assert [each.get("uuid") for each in asyncio.run(write()) or ()] == ["a", None, None, "b"]
