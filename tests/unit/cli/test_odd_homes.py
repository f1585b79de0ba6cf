"""State folders as the world leaves them: files that were cut, disks that are full, ids that others have by now."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.conftest import Cli
from turnkeeper_local.kit import Home, KitError, down
from turnkeeper_local.kit.home import write_text
from turnkeeper_local.kit.processes import Started, spawn
from turnkeeper_local.kit.record import Record
from turnkeeper_local.kit.state import prepare

Sleeper = Callable[[], Started]

WHOLE: dict[str, Any] = {
    "deployed": {"table_name": "t", "model_secret_id": "s"},
    "emulator": {"endpoint_url": "http://127.0.0.1:9", "first_port": 9, "started_at": 1.0},
}


@pytest.fixture
def home(state_folder: Path) -> Home:
    """Down, with something kept."""
    home = Home(state_folder)
    home.state.mkdir()
    (home.state / "dynamodb.json").write_text('{"payload": {}}')
    home.kit_json.write_text(json.dumps(WHOLE))
    return home


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    started: list[subprocess.Popen[bytes]] = []

    def begin() -> Started:
        process = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        started.append(process)
        return Started.of(process.pid)

    yield begin
    for process in started:
        process.kill()
        process.wait()


WRITTEN = [
    *(b"", b"{", b"[]", b"5", b"null", b'"x"', b"\xff\xfe"),
    *(b'{"settings": 5}', b'{"settings": {"TURNKEEPER_PORT": 8700}}', b'{"processes": []}', b'{"deployed": 5}'),
    *(b'{"processes": {"worker": 5}}', b'{"processes": {"worker": {"pid": "x", "started": "y"}}}'),
    *(b'{"emulator": {}}', b'{"deployed": {"table_name": "t"}}', b'{"serving": {"7": {"pid": 7}}}'),
]


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("command", [("down",), ("up",), ("down", "--forget", "--yes")])
def test_a_record_that_no_kit_has_written_is_told_and_nothing_is_lost(
    cli: Cli, home: Home, written: bytes, command: tuple[str, ...]
) -> None:
    home.kit_json.write_bytes(written)
    refused = cli(*command)
    assert refused.exit_code == 1
    assert "kit.json" in refused.stderr
    assert home.kit_json.read_bytes() == written
    assert (home.state / "dynamodb.json").exists()


@pytest.mark.parametrize("written", [b"{}", None])
def test_a_record_that_is_gone_takes_nothing_with_it(cli: Cli, home: Home, written: bytes | None) -> None:
    home.kit_json.unlink()
    if written is not None:
        home.kit_json.write_bytes(written)
    assert cli("down", "--json").document == {"ended": False, "kept": True}
    assert (home.state / "dynamodb.json").exists()
    assert cli("down", "--forget", "--yes").exit_code == 0
    assert not home.state.exists()


@pytest.mark.parametrize("written", [b"", b"[]", b"{}", b'{"database_url": "x", "worker_pid": "y"}', b"\xff"])
def test_addresses_that_cannot_be_read_are_no_reason_to_stay_up(
    cli: Cli, home: Home, sleeper: Sleeper, written: bytes
) -> None:
    front_door = sleeper()
    home.kit_json.write_text(json.dumps({**WHOLE, "processes": {"front_door": front_door.to_json()}}))
    home.local_json.write_bytes(written)
    assert cli("down", "--json").document["ended"]
    assert not front_door.alive()


def test_an_id_that_is_a_strangers_by_now_is_left_alone(cli: Cli, home: Home, sleeper: Sleeper) -> None:
    """`turnkeeper serve` was killed, and its id given to somebody else."""
    stranger = sleeper()
    home.local_json.write_text(json.dumps({"database_url": "sqlite:///x", "worker_pid": stranger.pid}))
    assert not cli("down", "--json").document["ended"]
    Record.read(home).note(serving={str(stranger.pid): {"pid": stranger.pid, "started": "1"}})
    assert not cli("down", "--json").document["ended"]
    assert stranger.alive()


def test_all_that_serve_here_are_ended_and_none_is_overlooked(cli: Cli, home: Home, sleeper: Sleeper) -> None:
    """The one that began last used to be the only one that was known."""
    first, second, gone = sleeper(), sleeper(), {"pid": 1, "started": "1"}
    noted = {str(each.pid): each.to_json() for each in (first, second)}
    Record.read(home).note(serving={**noted, "1": gone})
    refused = cli("up", "--json")
    assert refused.exit_code == 1
    assert f"{first.pid}, {second.pid}" in refused.document["error"]["detail"]
    assert cli("down", "--json").document["ended"]
    assert not first.alive() and not second.alive()


@pytest.mark.parametrize("written", ["", '{"payload": {"a": ', "[]"])
@pytest.mark.parametrize("name", ["dynamodb.json", "secretsmanager.json", "lambda.json"])
def test_a_state_that_was_cut_is_not_begun_with(home: Home, name: str, written: str) -> None:
    """The emulator passes over it, and writes over it when it ends."""
    (home.state / name).write_text(written)
    with pytest.raises(KitError, match=name):
        prepare(home, None, "http://127.0.0.1:1")
    assert (home.state / name).read_text() == written
    assert down(home) is False


def test_what_the_emulator_could_not_save_is_told(cli: Cli, home: Home, sleeper: Sleeper) -> None:
    emulator = sleeper()
    emulated = {**WHOLE["emulator"], "started_at": time.time() + 60}
    home.kit_json.write_text(
        json.dumps({**WHOLE, "emulator": emulated, "processes": {"ministack": emulator.to_json()}})
    )
    told = cli("down")
    assert told.exit_code == 1
    assert "is lost" in told.stderr and "ministack.log" in told.stderr
    assert not emulator.alive()
    assert cli("down").exit_code == 0, "it was told"


def test_what_there_is_no_room_to_save_stays_up(
    cli: Cli, home: Home, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = sleeper()
    home.kit_json.write_text(json.dumps({**WHOLE, "processes": {"ministack": emulator.to_json()}}))
    usage = shutil.disk_usage(home.path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1_000_000))
    told = cli("down")
    assert told.exit_code == 1
    assert "no room" in told.stderr
    assert emulator.alive()
    assert cli("down", "--forget", "--yes").exit_code == 0
    assert not emulator.alive()


def test_a_process_that_cannot_be_written_down_is_ended(tmp_path: Path) -> None:
    seen: list[Started] = []

    def note(process: Started) -> None:
        seen.append(process)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        spawn(["sleep", "1000"], environment=os.environ, log=tmp_path / "log", folder=tmp_path, on_start=note)
    assert not seen[0].alive()


def test_a_file_that_cannot_be_replaced_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "kit.json").write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "kit.json", "new \udcff")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("kit.json", "old")]
