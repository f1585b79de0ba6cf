"""Commands that go through the API."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.kit import MemoryKit
from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_api import FakeApi, Request, assistant, problem, results, status, user

CALL = ("toolu_1", "get_invoice", {"invoice_id": "INV-1001"})
A_TURN = (
    user("Is it paid?"),
    assistant("", CALL),
    results(("toolu_1", "get_invoice", "ok", '{"status":"paid"}')),
    assistant("It is."),
    status("idle", "end_turn"),
)


def test_a_kit_that_is_down_is_said_to_be_down(cli: Cli, state_folder: Path) -> None:
    result = cli("sessions")
    assert result.exit_code == 1
    assert "no local kit is up" in result.stderr
    assert "turnkeeper up" in result.stderr
    assert "make" not in result.stderr


@pytest.mark.parametrize(
    "command", [("run", "support", "h\udcfc"), ("show", "ses_\udcfc"), ("submit", "support", "\udcfc")]
)
def test_an_argument_that_is_not_utf8_is_wrong_usage(cli: Cli, kit: MemoryKit, command: tuple[str, ...]) -> None:
    result = cli(*command, "--json")
    assert (result.exit_code, result.document["error"]["code"]) == (2, "usage")


def test_as_json_an_error_is_a_document(cli: Cli, state_folder: Path) -> None:
    result = cli("sessions", "--json")
    assert result.exit_code == 1
    assert result.document["error"]["code"] == "kit_down"
    assert result.stderr == ""


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["run"], ["run", "support", "hi", "--wait", "x"], ["show", "a", "b"]]
)
def test_wrong_usage_is_exit_code_2(cli: Cli, state_folder: Path, arguments: list[str]) -> None:
    assert cli(*arguments).exit_code == 2


def test_run_answers_with_the_turn(cli: Cli, api: FakeApi) -> None:
    result = cli("run", "support", "hi", "--json")
    assert result.exit_code == 0
    assert (result.document["status"], result.document["output_text"]) == ("idle", "Hello.")
    (request,) = api.asked("POST", "sessions")
    assert request.body == {"agent": "support", "input": "hi"}
    assert request.headers["prefer"] == "wait=25"
    assert request.headers["idempotency-key"]
    assert (request.headers["x-tenant-id"], request.headers["x-user-id"]) == ("local", "dev")
    assert "x-user-role" not in request.headers


def test_run_says_who_is_asking(cli: Cli, api: FakeApi) -> None:
    cli("run", "support", "hi", "--json", "--tenant", "acme", "--user", "u1", "--role", "user")
    (request,) = api.asked("POST", "sessions")
    headers = [request.headers[name] for name in ("x-tenant-id", "x-user-id", "x-user-role")]
    assert headers == ["acme", "u1", "user"]


def test_run_shows_people_what_happens(cli: Cli, api: FakeApi) -> None:
    result = cli("run", "support", "hi")
    assert result.exit_code == 0
    assert "● Hello." in result.stdout
    assert "1,000 in (900 cached) · 20 out · $0.0012 · 1.5 s" in result.stdout
    assert "■ idle" in result.stdout
    assert "ses_new" in result.stderr


def test_run_reads_standard_input(cli: Cli, api: FakeApi) -> None:
    cli("run", "support", "-", "--json", input="long\ntext")
    assert api.asked("POST", "sessions")[0].body["input"] == "long\ntext"


def test_run_goes_on_in_a_session(cli: Cli, api: FakeApi) -> None:
    api.session("ses_1", *A_TURN)
    result = cli("run", "support", "more", "--session", "ses_1")
    assert "Again." in result.stdout
    assert "It is." not in result.stdout


def test_run_waits_with_the_token_until_the_turn_rests(cli: Cli, api: FakeApi) -> None:
    def slow(request: Request) -> tuple[int, dict[str, Any]] | None:
        if request.path.endswith("/sessions"):
            turn = api.session("ses_1", *A_TURN, status="queued", continuation_token="token-ses_1")
            return 202, dict(turn)
        return None

    api.override = slow
    result = cli("run", "support", "hi", "--json", "--wait", "60")
    assert result.document["status"] == "idle"
    assert api.asked("POST", "continue")[0].body == {"continuation_token": "token-ses_1"}


def test_a_turn_that_still_runs_is_no_failure(cli: Cli, api: FakeApi) -> None:
    api.session("ses_new", user("hi"), status="running", continuation_token="token-ses_new")
    api.override = lambda request: (202, api.sessions["ses_new"]) if request.method == "POST" else None
    result = cli("run", "support", "hi", "--wait", "0")
    assert result.exit_code == 0
    assert "turnkeeper watch ses_new" in result.stderr
    assert cli("run", "support", "hi", "--wait", "0", "--json").document["status"] == "running"


def test_a_turn_that_stopped_is_exit_code_1(cli: Cli, api: FakeApi) -> None:
    stop = {"reason": "iteration_limit", "detail": {"hint": "Raise max_iterations to resume."}}
    stopped = api.session("ses_new", user("hi"), status="stopped", stop=stop, continuation_token="token-ses_new")
    api.override = lambda request: (200, stopped) if request.method == "POST" else None
    result = cli("run", "support", "hi")
    assert result.exit_code == 1
    assert "iteration_limit" in result.stdout
    assert "turnkeeper resume ses_new" in result.stderr
    # Not every stop is a limit that will allow it later.
    assert "turnkeeper explain ses_new" in result.stderr


def test_a_cap_is_told_with_what_to_do(cli: Cli, api: FakeApi) -> None:
    refusal = problem(402, "cost_cap_exceeded", "The task cap does not admit it.", scope="task", limit_usd="0.000100")
    api.override = lambda request: refusal if request.method == "POST" else None
    result = cli("run", "support", "hi")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "tenant set" in result.stderr
    error = cli("run", "support", "hi", "--json").document["error"]
    assert (error["code"], error["status"], error["scope"]) == ("cost_cap_exceeded", 402, "task")


def test_what_is_busy_is_asked_again_with_the_same_key(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("turnkeeper_local.cli.api.time", SimpleNamespace(sleep=slept.append, monotonic=time.monotonic))
    left = [problem(503, "unavailable", "busy")]
    api.override = lambda request: left.pop() if left else None
    assert cli("run", "support", "hi", "--json").exit_code == 0
    first, second = api.asked("POST", "sessions")
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert slept == [1.0]


def test_show_holds_the_whole_session(cli: Cli, api: FakeApi) -> None:
    api.session("ses_1", *A_TURN)
    document = cli("show", "ses_1", "--json").document
    assert [event["seq"] for event in document["events"]] == [1, 2, 3, 4, 5]
    assert document["session"]["session_id"] == "ses_1"
    shown = cli("show", "ses_1").stdout
    for text in ("› Is it paid?", '⚙ get_invoice(invoice_id="INV-1001")', "✓ get_invoice 12 ms", "● It is.", "1 ok"):
        assert text in shown


def test_files_are_shown_by_where_they_came_from(cli: Cli, api: FakeApi) -> None:
    fetched = {"from": "https://example.com/a.png\x1b[2J", "sha256": "0" * 64, "bytes": 3_000_000}
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png"}, "fetched": fetched}
    own = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0=" * 999}}
    api.session("ses_1", {**user("Look."), "content": [{"type": "text", "text": "Look."}, picture, own]})
    shown = cli("show", "ses_1").stdout
    assert "[image from https://example.com/a.png\ufffd[2J, 3,000,000 bytes]" in shown
    assert "[document]" in shown
    assert "JVBERi0=" not in shown


def test_nothing_of_a_transcript_reaches_the_terminal_as_a_command(cli: Cli, api: FakeApi) -> None:
    evil = "\x1b]0;owned\x07[bold red]x[/] \x9b31m \u202e"
    api.session(
        "ses_1",
        user(evil),
        assistant(evil, ("toolu_1", evil, {evil: evil})),
        results(("toolu_1", evil, "error", evil)),
        status("stopped", "provider_error", error=evil),
        agent=evil,
    )
    for command in (["show", "ses_1"], ["watch", "ses_1"], ["sessions"]):
        shown = cli(*command).stdout
        assert not {"\x1b", "\x07", "\x9b", "\u202e"} & set(shown), command
        assert "[bold red]x[/]" in shown


def test_an_unknown_session_is_exit_code_1(cli: Cli, api: FakeApi) -> None:
    for command in ("show", "watch", "cancel", "resume"):
        result = cli(command, "ses_none", "--json")
        assert result.exit_code == 1
        assert result.document["error"]["code"] == "session_not_found"
        # It may well be there, of somebody else or not yet.
        assert "asked for as tenant acme" in cli(command, "ses_none", "--tenant", "acme").stderr


def test_watch_is_one_event_a_line(cli: Cli, api: FakeApi) -> None:
    api.session("ses_1", *A_TURN)
    result = cli("watch", "ses_1", "--json")
    assert [event["seq"] for event in result.lines] == [1, 2, 3, 4, 5]
    assert [event["seq"] for event in cli("watch", "ses_1", "--after", "3", "--json").lines] == [4, 5]


def test_watch_waits_for_what_is_running(cli: Cli, api: FakeApi) -> None:
    api.session("ses_1", A_TURN[0], status="running")

    def growing(request: Request) -> None:
        events = api.events["ses_1"]
        if len(events) < len(A_TURN) and request.path.endswith("/events") and request.query["after"] != "0":
            events.append({"seq": len(events) + 1, "at": "", **A_TURN[len(events)]})
        elif len(events) == len(A_TURN):
            api.sessions["ses_1"]["status"] = "idle"

    api.override = growing
    assert [event["seq"] for event in cli("watch", "ses_1", "--json").lines] == [1, 2, 3, 4, 5]


def test_sessions_are_listed_by_status(cli: Cli, api: FakeApi) -> None:
    api.session("ses_1", *A_TURN)
    api.session("ses_2", status="failed")
    assert len(cli("sessions", "--json").document["sessions"]) == 2
    assert [one["session_id"] for one in cli("sessions", "--status", "failed", "--json").document["sessions"]] == [
        "ses_2"
    ]
    shown = cli("sessions").stdout
    assert "ses_1" in shown
    assert "$0.0012" in shown
    assert cli("sessions", "--status", "queued").stdout.strip() == "no sessions"


def test_cancel_and_erase(cli: Cli, api: FakeApi) -> None:
    api.session("ses_1", *A_TURN)
    assert cli("cancel", "ses_1", "--json").document["status"] == "cancelled"
    assert cli("erase", "ses_1", "--json").document == {"session_id": "ses_1", "erased": True}
    assert api.sessions["ses_1"]["status"] == "erased"


def test_resume_goes_on_with_the_sessions_token(cli: Cli, api: FakeApi) -> None:
    api.session("ses_1", *A_TURN, status="stopped", continuation_token="token-ses_1")
    assert cli("resume", "ses_1", "--json").document["status"] == "idle"
    result = cli("resume", "ses_1", "--json")
    assert result.exit_code == 1
    assert result.document["error"]["code"] == "session_ended"


def test_spend_tells_scope_by_scope(cli: Cli, api: FakeApi) -> None:
    document = cli("spend", "--tenant", "acme", "--user", "u1", "--session", "ses_1", "--json").document
    assert (document["tenant_id"], document["user_id"], document["session_id"]) == ("acme", "u1", "ses_1")
    shown = cli("spend", "--tenant", "acme", "--user", "u1").stdout
    for text in ("tenant acme, user u1", "user_daily", "$1.50", "$20.00", "unlimited", "agent_daily support"):
        assert text in shown


def test_chat_takes_a_message_a_line(cli: Cli, api: FakeApi) -> None:
    result = cli("chat", "support", "--json", input="one\n\ntwo\n")
    assert result.exit_code == 0
    said = [event["content"][0]["text"] for event in result.lines if event["type"] == "user"]
    assert said == ["one", "two"]
    assert [event["seq"] for event in result.lines] == [1, 2, 3, 4, 5, 6]


def test_chat_goes_on_with_a_session_of_its_agent(cli: Cli, api: FakeApi) -> None:
    api.session("ses_1", *A_TURN)
    shown = cli("chat", "support", "--session", "ses_1", input="more\n").stdout
    assert "It is." in shown
    assert "Again." in shown
    assert cli("chat", "analyst", "--session", "ses_1").exit_code == 1


def test_status_says_what_local_json_says(cli: Cli, api: FakeApi, state_folder: Path) -> None:
    result = cli("status", "--json")
    assert result.exit_code == 0
    assert result.document["api_url"] == api.url
    (state_folder / "local.json").unlink()
    down = cli("status", "--json")
    assert (down.exit_code, down.document) == (1, {"up": False})


def test_a_deployed_kit_needs_to_be_told_the_tenant(cli: Cli, state_folder: Path) -> None:
    result = cli("sessions", "--stack", "Prod", "--json")
    assert result.exit_code == 2
    assert "--tenant" in result.document["error"]["detail"]
