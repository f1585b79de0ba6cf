"""Text as it forms, from a kit that streams."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_api import AT, FakeApi

SAID = {"seq": 2, "type": "assistant", "at": AT, "content": [{"type": "text", "text": "Hello."}], "model": "m"}
ENDED = {"status": "idle", "last_seq": 3, "more": False}
STATUS = {"seq": 3, "type": "status", "at": AT, "status": "idle", "stop": {"reason": "end_turn", "detail": {}}}


def event(document: dict[str, Any]) -> str:
    return f"id: {document['seq']}\nevent: {document['type']}\ndata: {json.dumps(document)}\n\n"


def delta(**document: Any) -> str:
    return f"event: delta\ndata: {json.dumps({'seq': 2, **document})}\n\n"


def words(text: str) -> str:
    return delta(type="text", index=0, text=text)


def end(**more: Any) -> str:
    return f"event: end\ndata: {json.dumps({**ENDED, **more})}\n\n"


class Streamer:
    """Answers one stream after the other; those that are left break off."""

    def __init__(self) -> None:
        self.streams: list[str | int] = []
        self.asked: list[str] = []
        streamer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                streamer.asked.append(self.path)
                said = streamer.streams.pop(0) if streamer.streams else 503
                self.send_response(200 if isinstance(said, str) else said)
                self.end_headers()
                self.wfile.write(said.encode() if isinstance(said, str) else b"")

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)


@pytest.fixture
def streamer(api: FakeApi, state_folder: Path) -> Iterator[Streamer]:
    streamer = Streamer()
    threading.Thread(target=lambda: streamer.server.serve_forever(poll_interval=0.01), daemon=True).start()
    file = state_folder / "local.json"
    url = f"http://127.0.0.1:{streamer.server.server_port}"
    file.write_text(json.dumps({**json.loads(file.read_text()), "stream_url": url}))
    yield streamer
    streamer.server.shutdown()
    streamer.server.server_close()


def test_text_is_shown_once_as_it_forms(cli: Cli, streamer: Streamer) -> None:
    streamer.streams = [
        "retry: 500\n\n" + words("Hel") + ": still here\n\n" + words("lo.") + event(SAID) + event(STATUS) + end()
    ]
    shown = cli("run", "support", "hi")
    assert shown.exit_code == 0
    assert shown.stdout.count("Hello.") == 1
    assert "● Hello.\n" in shown.stdout
    assert streamer.asked == ["/v1/sessions/ses_new/stream?after=1"]


def test_what_is_taken_back_is_said_to_be_and_said_anew(cli: Cli, streamer: Streamer) -> None:
    progress = delta(type="tool_progress", tool_use_id="t", tool="count", text="3 of 10", fraction=0.3)
    waits = delta(type="waiting", **{"for": "money"})
    streamer.streams = [progress + waits + words("Good") + delta(type="reset", reason="attempt") + event(SAID) + end()]
    shown = cli("run", "support", "hi").stdout
    lines = [line.strip() for line in shown.splitlines()]
    said = ["… count 30%  3 of 10", "… waits for money in flight", "● Good", "↶ this was not kept", "● Hello."]
    assert lines[: len(said)] == said


def test_a_stream_whose_time_is_up_is_gone_on_with(cli: Cli, streamer: Streamer) -> None:
    streamer.streams = [words("Hello.") + event(SAID) + end(status="running"), event(STATUS) + end()]
    assert cli("chat", "support", input="hi\n").stdout.count("Hello.") == 1
    assert [path.partition("?")[2] for path in streamer.asked] == ["after=0", "after=2"]


@pytest.mark.parametrize("broken", [404, 503, words("Hel"), "event: delta\ndata: {no json\n\n"])
def test_where_it_does_not_stream_events_are_asked_for(cli: Cli, streamer: Streamer, broken: str | int) -> None:
    streamer.streams = [broken]
    shown = cli("run", "support", "hi")
    assert (shown.exit_code, "Hello." in shown.stdout) == (0, True)


def test_programs_are_given_events_only(cli: Cli, streamer: Streamer) -> None:
    assert cli("run", "support", "hi", "--json").document["output_text"] == "Hello."
    assert streamer.asked == []
