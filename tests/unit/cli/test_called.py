"""What is said to type next can be typed as it stands."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from tests.support.command_line import tree
from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_api import FakeApi, problem, user
from turnkeeper.core.limits import Placement
from turnkeeper.core.session import Status
from turnkeeper_local.cli import called, options
from turnkeeper_local.cli.main import app

_COMMANDS: Any = tree(app)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The program in an environment that is not on the PATH."""
    program = tmp_path / "with space" / ".venv" / "bin" / "turnkeeper"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    monkeypatch.setenv("PATH", "/nowhere")
    return program


def test_the_program_is_named_so_that_a_shell_finds_it(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(installed.parents[2])
    assert called.program() == ".venv/bin/turnkeeper"
    monkeypatch.chdir("/")
    assert shlex.split(called.program()) == [os.path.relpath(installed)]
    monkeypatch.setenv("PATH", str(installed.parent))
    assert called.program() == "turnkeeper"
    monkeypatch.setattr(sys, "argv", ["/usr/lib/python3/turnkeeper_local/cli/main.py"])
    assert called.program() == "turnkeeper"


def test_another_program_of_that_name_on_the_path_is_not_meant(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = installed.parents[3] / "other" / "turnkeeper"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    assert called.program() != "turnkeeper"


def test_hints_hold_the_options_that_were_given(
    cli: Cli, api: FakeApi, installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(installed.parents[2])
    api.session("ses_new", user("hi"), status="running", continuation_token="token-ses_new")
    api.override = lambda request: (202, api.sessions["ses_new"]) if request.method == "POST" else None
    who = ["--tenant", "acme", "--user", "o'brien", "--role", "user"]
    hint = cli("run", "support", "hi", "--wait", "0", *who).stderr
    [line] = re.findall(r"`([^`]*)`", hint)
    assert shlex.split(line) == [".venv/bin/turnkeeper", "watch", "ses_new", *who]
    assert "`.venv/bin/turnkeeper watch ses_new` follows it" in cli("run", "support", "hi", "--wait", "0").stderr


def test_hints_leave_out_what_a_command_does_not_take(cli: Cli, api: FakeApi) -> None:
    api.override = lambda request: problem(402, "cost_cap_exceeded", "no") if request.method == "POST" else None
    hint = cli("run", "support", "hi", "--tenant", "acme", "--user", "u1", "--json").document["error"]["hint"]
    assert "`turnkeeper spend --tenant acme --user u1`" in hint
    assert "`turnkeeper tenant set acme --cap SCOPE=USD`" in hint


def _naming(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """What names a kit, a caller, a tenant or a session, at every command."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _naming(inner, *path, name)
    for each in getattr(command, "params", ()):
        if each.name in {"stack", "tenant", "user", "role"} or "--session" in each.opts:
            yield path, each


@pytest.mark.parametrize("said", ["", "  "])
def test_what_is_said_and_empty_is_wrong_usage_and_means_nobody_else(said: str) -> None:
    """As `--tenant "$TENANT"` in a shell that has none."""
    naming = list(_naming(_COMMANDS))
    assert {("tenant", "pause"), ("gateway", "token"), ("run",), ("erase",)} <= {path for path, _ in naming}
    for path, each in naming:
        with pytest.raises(typer.BadParameter, match="names nothing"):
            each.process_value(typer.Context(_COMMANDS, info_name=" ".join(path)), said)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (["sessions", "--limit", "0"], "Invalid value for '--limit'"),
        (["sessions", "--nothing"], "No such option: --nothing"),
        (["spend", "report", "--by", "moon"], "'moon' is not one of"),
        (["sessions", "--status", "asleep"], "'asleep' is not one of 'idle'"),
        (["run", "support", "hi", "--placement", "moon"], "'moon' is not one of 'auto'"),
        (["run", "support"], "Missing argument 'INPUT'"),
        (["show", "a", "b"], "unexpected extra argument"),
        (["nothing"], "No such command 'nothing'"),
        (["tenant", "pause", ""], "names nothing"),
    ],
)
def test_what_cannot_be_read_is_told_to_programs_too(cli: Cli, said: list[str], why: str) -> None:
    result = cli(*said, "--json")
    assert (result.exit_code, result.document["error"]["code"], result.stderr) == (2, "usage", "")
    assert why in result.document["error"]["detail"]
    told = cli(*said)
    assert (told.exit_code, told.stdout) == (2, "")
    assert "Usage: " in told.stderr


def test_words_that_an_option_takes_are_those_of_the_api() -> None:
    assert (options.Placement, options.Status) == (Placement, Status)


def test_help_and_version_are_what_they_are_with_json_too(cli: Cli) -> None:
    for said in (["--version"], ["show", "--help", "--json"], ["show", "--json", "-h"]):
        result = cli(*said)
        assert (result.exit_code, result.stderr) == (0, ""), result.stdout
        assert result.stdout == cli(*(word for word in said if word != "--json")).stdout


def test_a_stack_that_was_named_is_named_again() -> None:
    called.begin(_COMMANDS)
    called.remember("stack")("Prod")
    assert called.as_called("`turnkeeper tenant unpause T`") == "`turnkeeper tenant unpause T --stack Prod`"
    assert called.as_called("`turnkeeper show X --stack Prod`") == "`turnkeeper show X --stack Prod`"
    assert called.as_called("`turnkeeper up` or `make up`") == "`turnkeeper up` or `make up`"
    called.begin(_COMMANDS)
    assert called.as_called("`turnkeeper show X`") == "`turnkeeper show X`"


@given(st.text(max_size=60))
def test_other_texts_are_as_they_were(text: str) -> None:
    called.begin(_COMMANDS)
    assert called.as_called(text) == text


def test_every_command_that_a_text_names_is_one() -> None:
    """Also those that only a rare error names."""
    folder = Path(called.__file__).parent
    named = {
        found
        for file in folder.rglob("*.py")
        for found in re.findall(r"`turnkeeper ([a-z][^`{]*)", file.read_text())
        if "..." not in found
    }
    assert named
    for words in map(str.split, sorted(named)):
        assert words[0] in _COMMANDS.commands, words
        inner = getattr(_COMMANDS.commands[words[0]], "commands", None)
        assert inner is None or len(words) == 1 or words[1] in inner, words
