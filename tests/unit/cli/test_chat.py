"""Chat as a person has it, and the errors that a first hour brings."""

from __future__ import annotations

import builtins
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_api import FakeApi, assistant, problem, status, user
from turnkeeper_local.cli import prompting
from turnkeeper_local.cli.place import Place, find

A_TURN = (user("hi"), assistant("Hello."), status("idle", "end_turn"))


class Keyboard:
    """A terminal on which lines are typed; an exception is raised in a line's place."""

    def __init__(self) -> None:
        self.lines: list[str | BaseException] = []

    def type(self, *lines: str | BaseException) -> None:
        self.lines = list(lines)

    def input(self, prompt: str = "") -> str:
        if not self.lines:
            raise EOFError
        line = self.lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        return line


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch, api: FakeApi) -> Iterator[Keyboard]:
    keyboard = Keyboard()
    monkeypatch.setattr(prompting, "is_interactive", lambda: True)
    monkeypatch.setattr(builtins, "input", keyboard.input)
    yield keyboard


def inputs(api: FakeApi) -> list[Any]:
    return [request.body["input"] for request in api.requests if request.method == "POST"]


def test_a_banner_says_who_talks_with_whom_and_how_to_leave(cli: Cli, api: FakeApi, keyboard: Keyboard) -> None:
    shown = cli("chat", "support", "--tenant", "acme", "--user", "u1", "--role", "agent").stderr
    for text in ("support", "stand-in", "claude-sonnet-5-5", "user u1 of tenant acme, role agent", "/exit", "/help"):
        assert text in shown
    assert inputs(api) == []


def test_with_a_key_the_model_answers_by_its_name(
    cli: Cli, api: FakeApi, keyboard: Keyboard, state_folder: Path
) -> None:
    file = state_folder / "local.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_url": "https://api.anthropic.com"}))
    shown = cli("chat", "support").stderr
    assert "answered by claude-sonnet-5-5" in shown
    assert "stand-in" not in shown


def test_an_agent_that_there_is_not_is_said_before_the_first_line(cli: Cli, api: FakeApi, keyboard: Keyboard) -> None:
    result = cli("chat", "suport")
    assert result.exit_code == 1
    assert "analyst" in result.stderr


def test_blank_lines_are_nobodys_and_exit_leaves(cli: Cli, api: FakeApi, keyboard: Keyboard) -> None:
    keyboard.type("", "  ", "one", "/exit", "two")
    result = cli("chat", "support")
    assert (result.exit_code, inputs(api)) == (0, ["one"])
    assert "`turnkeeper chat support --session ses_new`" in result.stderr


def test_words_to_the_chat_are_not_said_to_the_agent(cli: Cli, api: FakeApi, keyboard: Keyboard) -> None:
    keyboard.type("/help", "/session", "/nonsense", "//etc/passwd", "/session")
    result = cli("chat", "support")
    assert inputs(api) == ["/etc/passwd"]
    assert "/nonsense is none of these" in result.stderr
    assert "none before the first message" in result.stderr
    assert "ses_new" in result.stdout


def test_lines_are_remembered_for_the_next_chat_and_for_nobody_else(cli: Cli, keyboard: Keyboard) -> None:
    readline = pytest.importorskip("readline")
    readline.clear_history()
    readline.add_history("an earlier line")
    cli("chat", "support")
    file = prompting.history_file()
    assert "an earlier line" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    readline.clear_history()
    cli("chat", "support")
    assert readline.get_history_item(1) == "an earlier line"


def test_a_problem_is_told_and_the_chat_goes_on(cli: Cli, api: FakeApi, keyboard: Keyboard) -> None:
    left = [problem(402, "cost_cap_exceeded", "The task cap does not admit it.")]
    api.override = lambda request: left.pop() if left and request.method == "POST" else None
    keyboard.type("one", "two")
    result = cli("chat", "support")
    assert result.exit_code == 0
    assert "task cap" in result.stderr
    assert inputs(api) == ["one", "two"]


# ---- another agent's session ----


@pytest.mark.parametrize("option", [("--placement", "background"), ("--webhook", "https://a.example/")])
def test_what_a_session_begins_with_is_not_said_to_one_that_goes_on(
    cli: Cli, api: FakeApi, option: tuple[str, str]
) -> None:
    result = cli("run", "support", "more", "--session", "ses_1", *option, "--json")
    assert (result.exit_code, result.document["error"]["code"], api.requests) == (2, "usage", [])
    assert option[0] in result.document["error"]["detail"]


@pytest.mark.parametrize("command", [["run", "analyst", "more"], ["chat", "analyst"]])
def test_a_session_of_another_agent_is_refused_by_both_names(cli: Cli, api: FakeApi, command: list[str]) -> None:
    api.session("ses_1", *A_TURN)
    result = cli(*command, "--session", "ses_1", "--json", input="more\n")
    assert (result.exit_code, result.document["error"]["code"]) == (1, "wrong_agent")
    assert "'support', not of 'analyst'" in result.document["error"]["detail"]
    assert inputs(api) == []


def test_a_session_of_an_agent_by_its_former_name_goes_on(cli: Cli, api: FakeApi) -> None:
    api.session("ses_1", *A_TURN, agent="counter")
    assert cli("run", "analyst", "more", "--session", "ses_1", "--json").exit_code == 0


# ---- why it did not work ----

EMPTY = problem(400, "invalid_request", "The body does not fit.", errors=[{"where": "body.input", "why": "is empty"}])


@pytest.mark.parametrize(
    "command",
    [["run", "support", ""], ["show", "ses_1"], ["spend"], ["sessions"], ["cancel", "ses_1"], ["rewind", "ses_1"]],
    ids=lambda command: command[0],
)
def test_every_command_says_where_and_why_a_request_did_not_fit(cli: Cli, api: FakeApi, command: list[str]) -> None:
    api.override = lambda _: EMPTY
    result = cli(*command)
    assert result.exit_code == 1
    assert "The body does not fit." in result.stderr
    assert "body.input: is empty" in result.stderr


@pytest.mark.parametrize("errors", [None, "odd", [1, "x"], [{}], {"where": "x"}])
def test_reasons_that_are_none_do_no_harm(cli: Cli, api: FakeApi, errors: Any) -> None:
    api.override = lambda _: problem(400, "invalid_request", "No.", errors=errors)
    assert cli("spend").exit_code == 1


def test_what_to_do_depends_on_where_the_session_is(cli: Cli, api: FakeApi) -> None:
    for where, hint in (("idle", "run support INPUT --session ses_1"), ("running", "watch ses_1"), ("failed", "fork")):
        api.session("ses_1", *A_TURN, status=where)
        assert hint in cli("resume", "ses_1").stderr


def test_the_version_is_told(cli: Cli) -> None:
    result = cli("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("turnkeeper 0.")


# ---- AWS settings of the user's ----

SETTINGS = {
    "AWS_PROFILE": "prod",
    "AWS_DEFAULT_PROFILE": "prod",
    "AWS_REGION": "mars-1",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    "AWS_ENDPOINT_URL_SQS": "http://127.0.0.1:9",
    "AWS_CA_BUNDLE": "/nowhere.pem",
    "AWS_SESSION_TOKEN": "old",
    "AWS_USE_FIPS_ENDPOINT": "true",
    "AWS_CONFIG_FILE": "",
    "AWS_DEFAULTS_MODE": "nonsense",
}


@pytest.mark.parametrize("name", SETTINGS)
def test_no_aws_setting_of_the_users_touches_the_local_kit(
    api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    broken = tmp_path / "config"
    broken.write_text("this is [no config\n=")
    for each in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(each)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(broken))
    monkeypatch.setenv(name, SETTINGS[name] or str(broken))
    with monkeypatch.context() as undone:
        undone.setattr(os, "environ", dict(os.environ))
        undone.setattr(boto3, "DEFAULT_SESSION", None)  # another test's reads the environment that was there then
        place = find(None)
        make: Any = place.session.client
        client = make("sqs", endpoint_url=place.endpoint_url)
        plain: Any = boto3.client("dynamodb")
    assert client.meta.endpoint_url == plain.meta.endpoint_url == place.endpoint_url
    assert plain.meta.region_name == "us-east-1"


def test_a_profile_that_there_is_not_is_said_for_a_deployed_kit(
    cli: Cli, state_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "prod")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    result = cli("sessions", "--stack", "Prod", "--tenant", "acme", "--user", "u1")
    assert result.exit_code == 1
    assert "profile (prod) could not be found" in result.stderr
    assert "there is no stack" not in result.stderr


@pytest.mark.parametrize(("code", "told"), [("ExpiredToken", "aws_error"), ("ValidationError", "stack_not_found")])
def test_only_a_stack_that_is_not_there_is_said_not_to_be(
    cli: Cli, state_folder: Path, monkeypatch: pytest.MonkeyPatch, code: str, told: str
) -> None:
    from botocore.exceptions import ClientError

    class Refusing:
        region_name = "eu-west-1"

        def get_credentials(self) -> Any:
            return self

        def client(self, *_: Any, **__: Any) -> Any:
            return self

        def describe_stacks(self, **_: Any) -> Any:
            raise ClientError({"Error": {"Code": code, "Message": "no"}}, "DescribeStacks")

    monkeypatch.setattr(Place, "session", Refusing())
    result = cli("sessions", "--stack", "Prod", "--tenant", "acme", "--user", "u1", "--json")
    assert result.document["error"]["code"] == told


def test_an_interrupt_ends_a_chat_from_a_pipe(cli: Cli, api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went on with the next line, of which there may be no end."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("turnkeeper_local.cli.conversation.Conversation._show", interrupted)
    result = cli("chat", "support", input="one\ntwo\n")
    assert (result.exit_code, inputs(api)) == (130, ["one"])
