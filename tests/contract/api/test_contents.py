"""What an input names by address is fetched once, when it comes in, by HTTP and on the queue, and kept."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from fargate_worker.reading import Reader, Rejected
from tests.support.http import Caller, Response
from tests.support.kit import WHO, MemoryKit
from turnkeeper.core.contents import Download
from turnkeeper.core.errors import NotFetched
from turnkeeper.core.session import Entry
from turnkeeper.ports import Message
from turnkeeper.runtime.intake import NewSession

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4
URL, PDF_URL, GONE = "https://example.com/a.png", "https://example.com/b.pdf", "https://example.com/gone"
SAY = {"type": "text", "text": "[[say seen]]"}


def image(url: str = URL) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": url}}


def document(url: str = PDF_URL) -> dict[str, Any]:
    return {"type": "document", "source": {"type": "url", "url": url}}


@pytest.fixture(autouse=True)
def web(kit: MemoryKit) -> list[str]:
    """Pages for every test; what was asked for."""
    kit.web.pages = {
        URL: Download("image/png", PNG),
        PDF_URL: Download("application/pdf", b"%PDF-1.7 ..."),
        GONE: NotFetched("The server answers 404.", retryable=False),
    }
    return kit.web.asked


def begin(ann: Caller, *blocks: dict[str, Any], **more: Any) -> Response:
    return ann.post("/v1/sessions", {"agent": "plain", "input": [SAY, *blocks]}, **more)


def said(kit: MemoryKit, session_id: str) -> list[Entry]:
    return [entry for entry in kit.entries(session_id) if entry.type == "user"]


def sent(kit: MemoryKit) -> list[dict[str, Any]]:
    """All blocks of the latest request to the model."""
    return [block for message in kit.model.requests[-1].messages for block in message["content"]]  # type: ignore[attr-defined]


def test_what_is_behind_an_address_is_what_the_model_is_sent_from_then_on(
    ann: Caller, kit: MemoryKit, web: list[str]
) -> None:
    turn = begin(ann, image(), document(), wait=20).ok()
    assert turn["output_text"] == "seen"
    kit.web.pages.clear()  # tomorrow
    again = ann.post(f"/v1/sessions/{turn['session_id']}/turns", {"input": "[[say still]]"}, wait=20).ok()
    assert again["output_text"] == "still"
    assert sorted(web) == [URL, PDF_URL]
    sources = [block["source"] for block in sent(kit) if "source" in block]
    assert [source["media_type"] for source in sources] == ["image/png", "application/pdf"]
    assert base64.b64decode(sources[0]["data"]) == PNG
    assert all("fetched" not in block for block in sent(kit))


def test_every_way_in_keeps_them(ann: Caller, kit: MemoryKit) -> None:
    session_id = begin(ann, image(), wait=20).ok()["session_id"]
    path = f"/v1/sessions/{session_id}"
    ann.post(f"{path}/turns", {"input": [SAY, document()]}, wait=20).ok()
    fork = ann.post(f"{path}/fork", {"input": [SAY, image()]}, wait=20).ok()["session_id"]
    kept = [block["fetched"]["from"] for entry in said(kit, fork) for block in entry.content if "fetched" in block]
    assert kept == [URL, PDF_URL, URL]
    assert len(kit.web.asked) == 3, "a copy of a conversation is not fetched again"


def test_events_tell_of_a_file_without_its_bytes(ann: Caller) -> None:
    session_id = begin(ann, image(), wait=20).ok()["session_id"]
    event = ann.get(f"/v1/sessions/{session_id}/events").ok()["events"][0]
    block = event["content"][1]
    assert block["source"] == {"type": "base64", "media_type": "image/png"}
    assert (block["fetched"]["from"], block["fetched"]["bytes"]) == (URL, len(PNG))


def test_an_address_that_gives_nothing_refuses_the_input_and_nothing_is_begun(ann: Caller, kit: MemoryKit) -> None:
    problem = begin(ann, image(), document(GONE)).problem(422, "content_unusable")
    assert problem["errors"] == [{"where": "body.input[2].source.url", "why": "example.com: The server answers 404."}]
    assert kit.table.snapshot() == []
    session_id = begin(ann, wait=20).ok()["session_id"]
    before = kit.table.snapshot()
    for call in ("turns", "fork"):
        answer = ann.post(f"/v1/sessions/{session_id}/{call}", {"input": [image(GONE)]}, key=call)
        answer.problem(422, "content_unusable")
    assert kit.table.snapshot() == before


def test_an_address_that_nobody_answers_at_stays(ann: Caller, kit: MemoryKit) -> None:
    kit.web.pages.clear()
    turn = begin(ann, image(), wait=20).ok()
    assert turn["status"] == "idle"
    assert said(kit, turn["session_id"])[0].content == (SAY, image())


def test_nothing_is_fetched_for_a_call_that_is_refused_anyway(ann: Caller, kit: MemoryKit, web: list[str]) -> None:
    ann.post("/v1/sessions", {"agent": "nobody", "input": [image()]}).problem(404, "agent_not_found")
    ann.post("/v1/sessions", {"agent": "unpriced", "input": [image()]}).problem(422, "unpriced_model")
    session_id = begin(ann, wait=20).ok()["session_id"]
    path = f"/v1/sessions/{session_id}"
    ann.but(user="bob").post(f"{path}/turns", {"input": [image()]}).problem(404, "session_not_found")
    ann.post(f"{path}/cancel").ok()
    ann.post(f"{path}/turns", {"input": [image()]}).problem(409, "session_ended")
    assert web == []


def test_a_key_stands_for_what_was_sent_and_not_for_what_was_fetched(
    ann: Caller, kit: MemoryKit, web: list[str]
) -> None:
    first = begin(ann, image(), key="k", wait=20).ok()
    kit.web.pages[URL] = Download("image/gif", b"GIF89a, another picture")
    assert begin(ann, image(), key="k", wait=20).ok()["session_id"] == first["session_id"]
    assert web == [URL]
    begin(ann, image("https://example.com/c.png"), key="k").problem(422, "idempotency_mismatch")
    assert web == [URL]
    kit.web.pages[URL] = NotFetched("The server answers 410.", retryable=False)
    begin(ann, image(), key="other").problem(422, "content_unusable")
    kit.web.pages[URL] = Download("image/png", PNG)
    assert begin(ann, image(), key="other", wait=20).ok()["session_id"] != first["session_id"]


# ---- the queue ----


def message(job_id: str, *blocks: dict[str, Any]) -> Message:
    body = {
        "schema": "turnkeeper.job/v1", "job_id": job_id, "tenant_id": "acme", "user_id": "ann", "agent": "plain",
        "input": [SAY, *blocks],
    }  # fmt: skip
    return Message(message_id="m", receipt="r", body=json.dumps(body), receive_count=1)


def test_a_job_keeps_them_and_a_second_delivery_fetches_nothing(kit: MemoryKit, web: list[str]) -> None:
    reader = Reader(kit.intake, kit.tokens)
    work = reader.read(message("one", image()))
    assert reader.read(message("one", image())) == work
    assert web == [URL]
    assert said(kit, work.session_id)[0].content[1]["source"]["type"] == "base64"


def test_a_job_that_names_what_is_gone_can_never_work(kit: MemoryKit) -> None:
    with pytest.raises(Rejected) as rejected:
        Reader(kit.intake, kit.tokens).read(message("one", image(GONE)))
    assert rejected.value.error_code == "content_unusable"
    assert "body.input[1].source.url: example.com: The server answers 404." in rejected.value.detail
    assert kit.table.snapshot() == []


# ---- switched off ----


def test_without_it_addresses_stay() -> None:
    kit = MemoryKit(runner="none", fetch_contents=False)
    head = kit.intake.create(WHO, NewSession("plain", [image(GONE)], {}))
    assert said(kit, head.session_id)[0].content == (image(GONE),)
    assert kit.web.asked == []
