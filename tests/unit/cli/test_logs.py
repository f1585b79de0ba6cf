"""`turnkeeper logs`: what is made of the lines that parts write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, get_origin, get_type_hints

import pytest

from tests.unit.cli.conftest import Cli
from turnkeeper_local.cli.commands.dev import logs
from turnkeeper_local.cli.logs import PARTS, Entry, FileSource, GroupSource, parse

AT = 1_790_000_000.0
RAN = {
    "level": "INFO", "location": "run:56", "message": "the turn was run", "timestamp": "2026-11-25 22:54:37,924+0000",
    "service": "turn", "tenant_id": "t", "session_id": "ses_1", "status": "idle",
}  # fmt: skip
TRACE = 'Traceback (most recent call last):\n  File "agents/x/agent.py", line 3, in <module>\nKeyError: 1'


def test_a_json_line_is_read() -> None:
    entry = parse("turn", json.dumps(RAN), AT)
    assert entry is not None
    assert (entry.part, entry.level, entry.session_id, entry.message) == ("turn", "INFO", "ses_1", "the turn was run")
    assert entry.document()["at"] == "2026-11-25T22:54:37.924+00:00"
    assert entry.more == {"status": "idle"}


@pytest.mark.parametrize(
    "line",
    [
        "START RequestId: 4f1b26b7 Version: 1",
        "REPORT RequestId: 4f1b26b7 Duration: 6 ms",
        json.dumps({"_aws": {"CloudWatchMetrics": []}, "service": "observe"}),
        json.dumps({"type": "platform.start", "record": {}}),
        "",
    ],
)
def test_what_says_nothing_to_people_is_left_out(line: str) -> None:
    assert parse("observe", line, AT) is None


def test_a_traceback_comes_with_its_error() -> None:
    entry = parse("worker", json.dumps({"level": "ERROR", "message": "agent x", "exception": TRACE}), AT)
    assert entry is not None
    assert entry.trace == TRACE
    assert entry.at == AT, "one that does not say when is of when it was read"


def test_a_timeout_of_lambda_is_an_error() -> None:
    line = json.dumps({"type": "platform.runtimeDone", "record": {"status": "timeout"}})
    entry = parse("turn", line, AT)
    assert entry is not None
    assert entry.level == "ERROR"


def test_lines_that_go_on_belong_to_what_they_go_on_with(tmp_path: Path) -> None:
    file = tmp_path / "worker.log"
    source = FileSource("worker", file)
    assert list(source.read()) == []
    file.write_text(f"{json.dumps(RAN)}\n2026-11-25 22:54:38 ERROR [root] it broke\n{TRACE}\nhalf a li")
    first, second = source.read()
    assert first.message == "the turn was run"
    assert (second.level, second.message) == ("ERROR", "it broke")
    assert second.trace.strip() == TRACE
    assert list(source.read()) == []
    with file.open("a") as more:
        more.write("ne\n")
    assert [entry.message for entry in source.read()] == ["half a line"]


class Pages:
    """CloudWatch, as far as it is asked."""

    def __init__(self) -> None:
        self.events: list[dict[str, object]] = []

    def get_paginator(self, _: str) -> Pages:
        return self

    def paginate(self, *, logGroupName: str, startTime: int) -> list[dict[str, object]]:
        assert startTime >= 0, "CloudWatch takes no other"
        return [{"events": [event for event in self.events if int(str(event["timestamp"])) >= startTime]}]


@pytest.mark.parametrize("with_ids", [True, False])
def test_events_of_a_group_are_told_once_and_alike_ones_each(with_ids: bool) -> None:
    client = Pages()
    source = GroupSource("turn", client, "group", AT)

    def log(message: str, seconds: float) -> None:
        event: dict[str, object] = {"timestamp": int((AT + seconds) * 1000), "message": message, "logStreamName": "s"}
        client.events.append(event | ({"eventId": str(len(client.events))} if with_ids else {}))

    def read() -> list[str]:
        return [entry.message for entry in source.read()]

    log("one", 1)
    log("same", 2)
    assert read() == ["one", "same"]
    log("same", 2)
    log("late", 1.5)
    assert read() == ["same", "late"]
    log("last", 60)
    assert read() == ["last"]
    assert read() == []


def test_what_is_asked_for_since_before_there_was_time() -> None:
    assert list(GroupSource("turn", Pages(), "group", -1e12).read()) == []


def test_a_line_that_is_only_text_names_a_session_in_it() -> None:
    assert Entry(AT, "emulator", "ERROR", "no lease for ses_9").names("ses_9")
    assert not Entry(AT, "emulator", "ERROR", "no lease").names("ses_9")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"session_id": "ses_9"}, True),
        ({"trace_id": "ses_9"}, True),
        ({"report": {"sessions": ["ses_1", "ses_9"]}}, True),
        ({"session_id": "ses_99"}, False),
        ({"session_id": "ses_1", "note": "the same as in ses_9"}, False),
    ],
)
def test_a_structured_line_is_about_what_its_fields_say(fields: dict[str, object], named: bool) -> None:
    entry = parse("turn", json.dumps({"message": "done", **fields}), AT)
    assert entry is not None
    assert entry.names("ses_9") == named


def test_the_log_files_of_a_kit_that_is_down_are_shown(cli: Cli, state_folder: Path) -> None:
    (state_folder / "logs").mkdir()
    (state_folder / "logs" / "worker.log").write_text(
        json.dumps({**RAN, "service": "worker", "level": "ERROR", "exception": TRACE}) + "\n"
    )
    told = cli("logs", "--since", "90000d")
    assert "ses_1 the turn was run" in told.stdout
    assert 'File "agents/x/agent.py", line 3' in told.stdout
    assert cli("logs", "--since", "90000d", "--session", "ses_2").stdout == ""
    assert cli("logs", "--since", "90000d", "--session", "ses_1", "--trace", "ab12").stdout == ""
    assert cli("logs", "--since", "90000d", "--json").lines[0]["part"] == "worker"


def test_a_part_that_does_not_exist_is_refused_by_name(cli: Cli, state_folder: Path) -> None:
    told = cli("logs", "wroker")
    assert told.exit_code == 2
    assert "wroker" in told.stderr
    assert "worker" in told.stderr


def test_an_age_that_is_none_is_refused(cli: Cli, state_folder: Path) -> None:
    told = cli("logs", "--since", "yesterday")
    assert told.exit_code == 2
    assert "5m" in told.stderr


def test_the_help_names_every_part() -> None:
    [parts, *_] = [told for told in get_type_hints(logs, include_extras=True).values() if get_origin(told) is Annotated]
    [argument] = parts.__metadata__
    assert argument.help == f"{', '.join(PARTS)}."
