"""Events: the transcript by long poll and as server-sent events."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from functions.api.documents.sessions import SessionForUsers
from tests.support.http import Caller
from tests.support.kit import MemoryKit
from turnkeeper.runtime.catalog import Catalog

SCRIPT = '[[tool add {"a": 1, "b": 2} & tool fail {"why": "no"} & tool write_note {"text": "x"}]] [[say hello]]'


def create(ann: Caller, text: str = SCRIPT, agent: str = "helper", **more: Any) -> Any:
    return ann.post("/v1/sessions", {"agent": agent, "input": text}, **more)


def events(ann: Caller, session_id: str, query: str = "") -> Any:
    return ann.get(f"/v1/sessions/{session_id}/events{query}").ok()


def frames(text: str) -> list[dict[str, str]]:
    """The frames of an event stream; comments under an empty name."""
    found = []
    for block in text.strip("\n").split("\n\n"):
        lines = [line.partition(":") for line in block.split("\n")]
        found.append({name: value.removeprefix(" ") for name, _, value in lines})
    return found


def test_events_have_what_the_contract_says(ann: Caller) -> None:
    turn = create(ann).ok()
    page = events(ann, turn["session_id"])
    assert (page["last_seq"], page["status"], page["more"]) == (5, "idle", False)
    assert [event["seq"] for event in page["events"]] == [1, 2, 3, 4, 5]
    assert all(event["at"].endswith("Z") for event in page["events"])
    user, asked, results, said, status = page["events"]
    assert (user["type"], user["content"]) == ("user", [{"type": "text", "text": SCRIPT}])
    for event in (asked, said):
        assert event["type"] == "assistant"
        assert event.keys() >= {"content", "usage", "cost_usd", "model", "stop_reason", "duration_ms"}
    assert (asked["stop_reason"], said["stop_reason"]) == ("tool_use", "end_turn")
    assert (status["type"], status["status"], status["stop"]["reason"]) == ("status", "idle", "end_turn")
    assert results["type"] == "tool_results"
    assert [(each["tool"], each["outcome"], each["is_error"]) for each in results["results"]] == [
        ("add", "ok", False),
        ("fail", "error", True),
        ("write_note", "denied", True),
    ]
    assert [each["tool_use_id"] for each in results["results"]] == [block["id"] for block in asked["content"]]
    assert results["results"][0]["content"] == [{"type": "text", "text": "3"}]
    assert results["results"][0]["duration_ms"] >= 0
    total = sum(Decimal(event.get("cost_usd", "0")) for event in page["events"])
    assert total == Decimal(turn["cost_usd"])


@pytest.fixture
def guarded(kit: MemoryKit) -> str:
    """An agent that shows end users what is for them."""
    agents = kit.catalog.agents
    guarded = replace(agents["helper"], name="guarded", view="user")
    kit.__dict__["catalog"] = Catalog({**agents, "guarded": guarded})
    return "guarded"


def test_an_end_user_s_view_has_words_and_outcomes_and_nothing_else(ann: Caller) -> None:
    turn = create(ann).ok()
    page = events(ann, turn["session_id"], "?view=user")
    assert (page["last_seq"], page["status"], page["lease_expires_at"]) == (5, "idle", None)
    user, asked, results, said, status = page["events"]
    assert set(user) == set(said) == {"seq", "type", "at", "content"}
    assert [set(block) for block in asked["content"]] == [{"type", "id", "name"}] * 3
    assert [each["outcome"] for each in results["results"]] == ["ok", "error", "denied"]
    assert set(results["results"][0]) == {"tool_use_id", "tool", "is_error", "outcome"}
    assert (status["status"], status["stop"]) == ("idle", {"reason": "end_turn", "detail": {}})
    stream = ann.get(f"/v1/sessions/{turn['session_id']}/events?view=user", accept="text/event-stream")
    assert [json.loads(each["data"]) for each in frames(stream.body) if "id" in each] == page["events"]


def test_an_agent_may_show_roles_that_are_not_admin_only_that(ann: Caller, guarded: str) -> None:
    session_id = create(ann, agent=guarded).ok()["session_id"]
    theirs = events(ann, session_id)
    assert theirs == events(ann, session_id, "?view=user")
    ann.get(f"/v1/sessions/{session_id}/events?view=full").problem(403, "forbidden")
    admin = ann.but(role="admin")
    assert events(admin, session_id) == events(admin, session_id, "?view=full") != theirs
    assert events(admin, session_id, "?view=user") == theirs


def test_no_answer_tells_an_end_user_more(ann: Caller, guarded: str) -> None:
    """Whatever is called: turns, sessions, lists, and what changes a session."""
    begun = create(ann, agent=guarded)
    session_id = begun.ok()["session_id"]
    path = f"/v1/sessions/{session_id}"
    answers = [
        begun,
        ann.post(f"{path}/turns", {"input": "[[sleep 0.3]] [[say more]]"}, wait=0),
        ann.post("/v1/continue", {"continuation_token": ann.get(path).ok()["continuation_token"]}),
        ann.get(path),
        ann.get(f"{path}?view=user"),
        ann.get("/v1/sessions"),
        ann.get("/v1/sessions?scored_below=1"),
        ann.post(f"{path}/rewind", {}),
        ann.post(f"{path}/fork", {"input": "[[say else]]"}),
        ann.post(f"{path}/cancel"),
    ]
    may = set(SessionForUsers.model_fields)
    for answer in answers:
        document = answer.ok(200, 202)
        for told in document.get("sessions", [document]):
            assert {"session_id", "agent", "status", "stop"} <= set(told) <= may
            assert SessionForUsers.model_validate(told)
    assert answers[0].ok()["output_text"]
    for more in ("?view=full", "/explain"):
        ann.get(path + more).problem(403, "forbidden")
    admin = ann.but(role="admin")
    assert set(admin.get(path).ok()) > may - {"created_at"}
    assert set(admin.get(f"{path}?view=user").ok()) <= may
    admin.get(f"{path}/explain").ok()


def test_of_an_agent_that_is_gone_users_see_what_is_for_them(ann: Caller, kit: MemoryKit) -> None:
    session_id = create(ann).ok()["session_id"]
    kit.__dict__["catalog"] = Catalog({})
    assert events(ann, session_id) == events(ann, session_id, "?view=user")


def test_a_view_that_there_is_not(ann: Caller) -> None:
    session_id = create(ann).ok()["session_id"]
    ann.get(f"/v1/sessions/{session_id}/events?view=all").problem(400, "invalid_request")


def test_only_what_comes_after(ann: Caller) -> None:
    session_id = create(ann).ok()["session_id"]
    assert [event["seq"] for event in events(ann, session_id, "?after=3")["events"]] == [4, 5]
    page = events(ann, session_id, "?after=5&wait=5")
    assert (page["events"], page["last_seq"]) == ([], 5)
    assert events(ann, session_id, "?after=500")["last_seq"] == 5


def test_a_poll_waits_for_the_next_event(ann: Caller, kit: MemoryKit) -> None:
    session_id = create(ann, "[[sleep 0.6]] [[say late]]", wait=0).ok(202)["session_id"]
    started = kit.clock.monotonic()
    page = events(ann, session_id, "?after=1&wait=10")
    assert 0.3 < kit.clock.monotonic() - started < 5
    assert page["events"][0]["content"] == [{"type": "text", "text": "late"}]


def test_a_poll_ends_without_one(ann: Caller, kit: MemoryKit) -> None:
    session_id = create(ann, "[[sleep 2]] [[say late]]", wait=0).ok(202)["session_id"]
    page = events(ann, session_id, "?after=1&wait=1")
    assert (page["events"], page["status"], page["last_seq"]) == ([], "running", 1)


def test_whoever_is_told_that_it_rests_was_told_everything(ann: Caller) -> None:
    script = " ".join(f'[[tool add {{"a": {n}, "b": 1}}]]' for n in range(8)) + " [[say end]]"
    session_id = create(ann, script, wait=0).json()["session_id"]
    told: list[Any] = []
    while True:
        page = events(ann, session_id, f"?after={told[-1]['seq'] if told else 0}&wait=5")
        told += page["events"]
        if page["status"] == "idle":
            break
    assert [event["seq"] for event in told] == list(range(1, 20))
    assert told[-1]["type"] == "status"


# ---- as a stream ----


def test_a_stream_has_the_same_events(ann: Caller) -> None:
    session_id = create(ann).ok()["session_id"]
    answer = ann.get(f"/v1/sessions/{session_id}/events", accept="text/event-stream")
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    retry, *told, end = frames(answer.body)
    assert int(retry["retry"]) > 0
    assert [json.loads(frame["data"]) for frame in told] == events(ann, session_id)["events"]
    assert [(frame["id"], frame["event"]) for frame in told] == [
        ("1", "user"),
        ("2", "assistant"),
        ("3", "tool_results"),
        ("4", "assistant"),
        ("5", "status"),
    ]
    assert end["event"] == "end"
    assert "id" not in end
    assert json.loads(end["data"]) == {"status": "idle", "last_seq": 5, "more": False}


def test_a_stream_goes_on_behind_the_last_event_id(ann: Caller) -> None:
    session_id = create(ann).ok()["session_id"]
    path = f"/v1/sessions/{session_id}/events?after=1"
    answer = ann.get(path, accept="text/event-stream", last_event_id="3")
    assert [frame["id"] for frame in frames(answer.body) if "id" in frame] == ["4", "5"]
    answer = ann.get(path, accept="text/event-stream", last_event_id="nonsense")
    assert [frame["id"] for frame in frames(answer.body) if "id" in frame] == ["2", "3", "4", "5"]


def test_a_stream_with_nothing_new_tells_how_the_session_stands(ann: Caller) -> None:
    session_id = create(ann).ok()["session_id"]
    answer = ann.get(f"/v1/sessions/{session_id}/events?after=5", accept="text/event-stream")
    _, *comments, end = frames(answer.body)
    assert [list(comment) for comment in comments] in ([], [[""]])
    assert (end["event"], json.loads(end["data"])["last_seq"]) == ("end", 5)


@pytest.mark.parametrize("text", ["a\nb\r\nc", "data: x\n\nid: 9\n\n", "x\u2028\u2029\x85y", "ü🎉"])
def test_no_text_breaks_a_stream(ann: Caller, text: str) -> None:
    session_id = create(ann, text, "plain").ok()["session_id"]
    answer = ann.get(f"/v1/sessions/{session_id}/events", accept="text/event-stream")
    [user] = [frame for frame in frames(answer.body) if frame.get("id") == "1"]
    assert json.loads(user["data"])["content"][0]["text"] == text
    assert answer.body.splitlines() == answer.body.split("\n")[:-1], "nor for clients that know more line breaks"


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream", True),
        ("text/event-stream; charset=utf-8", True),
        ("application/json, text/event-stream", True),
        ("text/event-stream, */*;q=0.1", True),
        ("text/event-stream;q=0.5, */*", False),
        ("text/event-stream;q=0.5, application/json;q=0.4, */*", True),
        ("text/event-stream;q=0", False),
        ("text/event-streams", False),
        ('application/json;x="text/event-stream, text/event-stream"', False),
        ("text/*", False),
        ("*/*", False),
        ("", False),
        (";q=,,", False),
    ],
)
def test_a_stream_is_for_who_wants_it_no_less_than_json(ann: Caller, accept: str, streams: bool) -> None:
    session_id = create(ann).ok()["session_id"]
    read = ann.get(f"/v1/sessions/{session_id}/events?wait=0", accept=accept)
    begun = ann.post("/v1/sessions", {"agent": "plain", "input": "[[say hi]]"}, accept=accept)
    kind = "text/event-stream" if streams else "application/json"
    assert read.headers["content-type"] == kind
    assert begun.headers["content-type"] in (kind, "application/json")  # one of the doors answers in one piece


@pytest.mark.parametrize("last", ["6", "999999999", "99999999999999999999", "-1", "5, 5", "\u0663"])
@pytest.mark.parametrize("path", ["events", "stream"])
def test_behind_the_end_is_what_comes_next(ann: Caller, path: str, last: str) -> None:
    """What is no number is no place, and then the query says where to begin."""
    session_id = create(ann).ok()["session_id"]
    target = f"/v1/sessions/{session_id}/{path}?after=4"
    answer = ann.get(target, accept="text/event-stream", last_event_id=last)
    *told, end = [frame for frame in frames(answer.body) if "event" in frame]
    assert [frame["id"] for frame in told] == ([] if last.isascii() and last.isdigit() and len(last) < 10 else ["5"])
    assert json.loads(end["data"]) == {"status": "idle", "last_seq": 5, "more": False}


@pytest.mark.parametrize("path", ["events", "stream"])
def test_who_waits_from_behind_the_end_is_told_what_comes(ann: Caller, path: str) -> None:
    session_id = create(ann).ok()["session_id"]
    ann.post(f"/v1/sessions/{session_id}/turns", {"input": "[[sleep 0.4]] [[say late]]"}, wait=0)
    later = ann.get(f"/v1/sessions/{session_id}/{path}?after=900&wait=3", accept="text/event-stream")
    assert "late" in later.body


# ---- large transcripts ----


def test_what_does_not_fit_comes_with_the_next_page(ann: Caller) -> None:
    texts = ["".join(chr(0x4E00 + (n * k) % 9_000) for n in range(250_000)) for k in (1, 3, 7)]
    session_id = create(ann, texts[0], "plain").ok()["session_id"]
    for text in texts[1:]:
        ann.post(f"/v1/sessions/{session_id}/turns", {"input": text})
    seen: list[Any] = []
    pages = 0
    more = True
    while more:
        page = events(ann, session_id, f"?after={seen[-1]['seq'] if seen else 0}")
        assert page["last_seq"] == page["events"][-1]["seq"]
        seen += page["events"]
        pages, more = pages + 1, page["more"]
    assert pages > 1
    assert [event["seq"] for event in seen] == list(range(1, page["last_seq"] + 1))
    assert [event["content"][0]["text"] for event in seen if event["type"] == "user"] == texts


def test_an_event_that_could_never_fit_is_cut(ann: Caller) -> None:
    text = "".join(chr(0x4E00 + n % 9_000) for n in range(1_200_000))
    body = json.dumps({"agent": "plain", "input": text}, ensure_ascii=False)
    session_id = ann.call("POST", "/v1/sessions", text=body).json()["session_id"]
    answer = ann.get(f"/v1/sessions/{session_id}/events")
    assert len(json.dumps({"body": answer.body})) < 6_000_000
    shown = answer.ok()["events"][0]["content"][0]["text"]
    assert shown.startswith(text[:1_000])
    assert shown.endswith("characters left out]")
