"""`turnkeeper secrets`: given without an echo, kept where only their owner reads them, and told by name only."""

from __future__ import annotations

import json
import stat
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from turnkeeper_local.cli.main import app
from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.values import SECRETS_FILE, SETTINGS_FILE, LocalValues, set_secret, values_digest

AGENT = """
from turnkeeper import Agent
agent = Agent(name="desk", model="claude-sonnet-5-5", system="You help.", secrets=["crm", "db"], settings=["crm_url"])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policy.toml").write_text("")
    (tmp_path / "agents" / "desk").mkdir(parents=True)
    (tmp_path / "agents" / "desk" / "agent.py").write_text(AGENT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TURNKEEPER_PROJECT", str(tmp_path))
    return tmp_path


def run(*arguments: str, given: str = "") -> Result:
    return CliRunner().invoke(app, ["secrets", *arguments], input=given)


def test_one_is_set_and_shown_by_name_only(project: Path) -> None:
    done = run("set", "crm", given="k-one-two\n")
    assert done.exit_code == 0
    assert "k-one-two" not in done.output
    file = project / SECRETS_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert LocalValues.read(project).secrets == {"crm": "k-one-two"}
    listed = run("list", "--json")
    assert listed.exit_code == 0
    assert "k-one-two" not in listed.output
    rows = json.loads(listed.stdout)["values"]
    assert [(row["kind"], row["name"], row["agents"], row["given"]) for row in rows] == [
        ("secret", "crm", ["desk"], True),
        ("secret", "db", ["desk"], False),
        ("setting", "crm_url", ["desk"], False),
    ]


def test_what_is_missing_is_told_by_check_until_it_is_given(project: Path) -> None:
    def missing() -> list[str]:
        document = json.loads(CliRunner().invoke(app, ["check", "--json"]).stdout)
        return sorted(one["code"] for one in document["findings"] if one["code"].endswith("_not_given"))

    assert missing() == ["secret_not_given", "secret_not_given", "setting_not_given"]
    for name in ("crm", "db"):
        assert run("set", name, given="some-value").exit_code == 0
    (project / SETTINGS_FILE).write_text('crm_url = "https://crm.example"')
    assert missing() == []


@pytest.mark.parametrize(
    ("name", "value", "words"), [("CRM", "some-value", "no name"), ("crm", "short", "6 characters")]
)
def test_what_will_not_do(project: Path, name: str, value: str, words: str) -> None:
    done = run("set", name, given=value)
    assert done.exit_code != 0
    assert words in " ".join(done.output.split())
    assert not (project / SECRETS_FILE).exists()


def test_a_secret_file_is_made_private_when_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / SECRETS_FILE
    file.write_text('crm = "k-one-two"')
    file.chmod(0o644)
    assert LocalValues.read(tmp_path).secrets == {"crm": "k-one-two"}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ['crm = "k-one-two', "crm = 5", '[crm]\na = "k-one-two"', '"C RM" = "k-one-two"'])
def test_a_file_that_will_not_do_is_named_and_not_quoted(tmp_path: Path, text: str) -> None:
    (tmp_path / SECRETS_FILE).write_text(text)
    with pytest.raises(KitError, match=SECRETS_FILE) as refused:
        LocalValues.read(tmp_path)
    assert "k-one-two" not in str(refused.value)


@given(values=st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True), st.text(max_size=30), max_size=4))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_written_is_read_again(tmp_path: Path, values: dict[str, str]) -> None:
    (tmp_path / SECRETS_FILE).unlink(missing_ok=True)
    before = values_digest(tmp_path)
    for name, value in values.items():
        set_secret(tmp_path, name, value)
    assert LocalValues.read(tmp_path).secrets == values
    assert (values_digest(tmp_path) != before) == bool(values)
    assert "k-one-two" not in repr(LocalValues({"crm": "k-one-two"}))
    assert [file.name for file in tmp_path.iterdir() if file.name.startswith(".")] == []
    if values:
        assert tomllib.loads((tmp_path / SECRETS_FILE).read_text(encoding="utf-8")) == values
