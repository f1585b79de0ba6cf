"""Standard streams and arguments as the world has them: closed, full, of another encoding, read by nobody."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.kit import MemoryKit
from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_api import FakeApi
from turnkeeper_local.cli.api import connect
from turnkeeper_local.cli.errors import UsageError

#: What the command writes has characters that few encodings hold.
_PROGRAM = """
import sys
import time
from turnkeeper_local.cli import main, output
def answer():
    with output.Output("--json" in sys.argv) as out:
        out.answer({"text": "\\u2713 Z\\u00fcrich"}, lambda console: [console.print("\\u2713 Z\\u00fcrich")] * 2)
main.app = answer
main.main()
"""


def ran(*options: str, to: str = "", encoding: str = "utf-8") -> subprocess.CompletedProcess[bytes]:
    """The command line's own entry, in a process of its own, whose output goes where a shell would have it."""
    command = ["bash", "-o", "pipefail", "-c", f'"$@" {to}', "sh", sys.executable, "-c", _PROGRAM, *options]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(command, capture_output=True, env=environment, check=False, timeout=60)


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("to", [">&-", "<&-", "| (exec <&-; sleep 0.1)"])
def test_a_stream_that_is_closed_is_no_failure(to: str, options: tuple[str, ...]) -> None:
    done = ran(*options, to=to)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_disk_that_is_full_is_told(options: tuple[str, ...]) -> None:
    done = ran(*options, to="> /dev/full")
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr


@pytest.mark.parametrize("columns", ["0", "", "-5", "wide"])
def test_a_width_that_is_none_hides_nothing(monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert ran().stdout.decode() == "\u2713 Z\u00fcrich\n"


def test_what_an_encoding_cannot_hold_is_shown_otherwise_and_escaped_for_programs() -> None:
    assert ran(encoding="iso-8859-1").stdout.decode("iso-8859-1") == "? Z\u00fcrich\n"
    assert ran(encoding="ascii").stdout == b"? Z?rich\n"
    assert json.loads(ran("--json", encoding="ascii").stdout) == {"text": "\u2713 Z\u00fcrich"}


@pytest.mark.parametrize("option", ["--tenant", "--user", "--role"])
@pytest.mark.parametrize("name", ["j\u00fcrgen", "a\nb", "\U0001f600"])
def test_a_name_that_no_header_holds_is_wrong_usage(cli: Cli, api: FakeApi, option: str, name: str) -> None:
    refused = cli("sessions", option, name)
    assert refused.exit_code == 2
    assert option in refused.stderr
    assert api.requests == []


def test_a_token_that_no_header_holds_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNKEEPER_TOKEN", "a-secret-tok\u00ebn")
    place: Any = SimpleNamespace(local=False, api_url="https://api.example", stream_url=None)
    with pytest.raises(UsageError, match="TURNKEEPER_TOKEN") as refused:
        connect(place, tenant=None, user=None, role=None)
    assert "a-secret-tok" not in str(refused.value)


def test_a_name_that_is_too_long_to_be_stored_is_wrong_usage(cli: Cli, kit: MemoryKit) -> None:
    assert cli("tenant", "pause", "a" * 5_000).exit_code == 2
    assert kit.sessions.audit("a" * 100, None) == []


@pytest.mark.parametrize("written", [b"", b"{", b"[]", b"5", b"{}", b'{"region": "r"}', b"\xff\xfe"])
def test_a_state_file_that_no_kit_has_written_is_a_kit_that_is_down(
    cli: Cli, state_folder: Path, written: bytes
) -> None:
    (state_folder / "local.json").write_bytes(written)
    refused = cli("sessions")
    assert refused.exit_code == 1
    assert "local.json" in refused.stderr and "turnkeeper up" in refused.stderr


_WORKING = """
import signal, sys, time
from turnkeeper_local.cli import main, output
def work():
    with output.Output(False) as out:
        try:
            print("working", flush=True)
            time.sleep(60)
        finally:
            time.sleep(0.5)
            out.note("cleaning")
            print("cleaned", flush=True)
main.app = work
if "nohup" in sys.argv:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
main.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_leaves_nothing_half_done(number: signal.Signals) -> None:
    """Twice, as where a terminal is closed; and with nobody there any more to be told of it."""
    command = [sys.executable, "-c", _WORKING]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stderr.close()
        process.send_signal(number)
        time.sleep(0.2)
        process.send_signal(number)
        assert process.stdout.read() == b"cleaned\n"
    assert process.returncode == 128 + number


def test_a_signal_that_is_ignored_stays_so() -> None:
    with subprocess.Popen([sys.executable, "-c", _WORKING, "nohup"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == b"cleaned\n"
