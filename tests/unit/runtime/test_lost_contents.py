"""Objects of a session are gone from the bucket: what is left can be read, the session goes on, and it is told once."""

from __future__ import annotations

import base64
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.observe.alerting import Alerting
from functions.observe.records import Changed
from tests.support.kit import MODEL, MemoryKit
from tests.support.scripted import check_session, play, reply, say, scripted_kit, use
from turnkeeper import Agent, tool
from turnkeeper.core.session import Head
from turnkeeper.core.transcript import CONTENT_LOST
from turnkeeper.runtime.store import keys
from turnkeeper.table import Key, Put

#: Does not compress to what an item may hold.
LARGE = base64.b85encode(random.Random(1).randbytes(64_000)).decode()


@tool
def look(at: str = "") -> str:
    """Look."""
    return f"seen {LARGE}"


def played() -> tuple[MemoryKit, Head]:
    """Each message of this session is an object of its own: input, call, results, answer."""
    agent = Agent(name="looker", model=MODEL, system="Look.", tools=[look])
    answers = [
        reply(use("look", at=LARGE), use("look", at="here")),
        reply(say(f"It is {LARGE}")),
        reply(say("again")),
        reply(say("and again")),
    ]
    kit = scripted_kit(*answers, agents=[agent])
    return kit, play(kit, "looker", f"What is {LARGE}?")


def objects(kit: MemoryKit) -> list[str]:
    """The keys of the session's objects, in the order of its items."""
    return [item["blob"] for item in kit.table.snapshot() if "blob" in item and item["sk"].startswith("ENTRY#")]


def test_each_message_of_the_session_is_an_object() -> None:
    kit, head = played()
    assert len(objects(kit)) == 4
    check_session(kit, head)


@settings(max_examples=8)
@given(st.sets(st.integers(0, 3), min_size=1))
def test_whatever_is_gone_the_rest_is_read_and_the_session_goes_on(gone: set[int]) -> None:
    kit, head = played()
    for key in [objects(kit)[number] for number in sorted(gone)]:
        del kit.blobs.contents[key]

    told = [str(entry.content) for entry in kit.sessions.entries(head.tenant_id, head.session_id)]
    assert sum(CONTENT_LOST in text for text in told) == len(gone)
    assert sum(LARGE[:100] in text for text in told) == 4 - len(gone)

    for number in (1, 2):
        head = kit.run(kit.intake.post(head, f"go on {number}"))
        assert (head.status, head.stop.reason if head.stop else None) == ("idle", "end_turn")
    assert kit.model.refused == []  # type: ignore[attr-defined]
    records = [record for record in kit.sessions.audit("acme", head.session_id) if record["kind"] == "content_lost"]
    assert [record["detail"]["count"] for record in records] == [len(gone)]


def test_a_plan_and_results_that_are_gone_are_left_out() -> None:
    kit, head = played()
    missing = {"blob": "claims/none", "blob_sha256": "", "blob_bytes": 1}
    for sk, more in (("PLAN", {}), ("RESULT#toolu_9", {"tool_use_id": "toolu_9"})):
        key = Key(keys.session_pk(head.tenant_id, head.session_id), sk)
        kit.table.write([Put(key, {**missing, **more})])
    transcript = kit.sessions.load(head.tenant_id, head.session_id)
    assert (transcript.plan, transcript.early_results) == (None, {})
    assert set(transcript.lost) == {"PLAN", "RESULT#toolu_9"}
    assert kit.sessions.plan(head.tenant_id, head.session_id) is None


@pytest.mark.parametrize("kind", ["content_lost", "grant"])
def test_on_call_hears_of_a_loss(kind: str) -> None:
    kit = MemoryKit(runner="none")
    change = Changed("acme", "ses_1", "AUDIT#000000004", old=None, new={"kind": kind, "detail": {"items": ["ENTRY#1"]}})
    Alerting(kit.alerts, kit.blobs).see(change)
    assert [alert.kind for alert in kit.alerts.alerts] == (["content_lost"] if kind == "content_lost" else [])
