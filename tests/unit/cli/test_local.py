"""The local kit's settings, its environments, and what it keeps: the parts that need nothing to run."""

from __future__ import annotations

import json
import os
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.cli.conftest import Cli
from tests.unit.cli.fake_api import FakeApi
from turnkeeper.settings import Settings
from turnkeeper_local.cli.output import Output
from turnkeeper_local.cli.passed_over import tell_what_is_passed_over
from turnkeeper_local.kit import Home, KitSettings, serve
from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.processes import clean_environment
from turnkeeper_local.kit.settings import VARIABLES
from turnkeeper_local.kit.state import kept, prepare

CHOICES = {
    "TURNKEEPER_PORT": st.integers(0, 65_000).map(str),
    "TURNKEEPER_TURN_SECONDS": st.integers(1, 870).map(str),
    "TURNKEEPER_LEASE_SECONDS": st.integers(1, 43_200).map(str),
    "TURNKEEPER_WORKER_CONCURRENCY": st.integers(1, 1000).map(str),
    "TURNKEEPER_WORKER_PROCESSES": st.integers(1, 64).map(str),
    "TURNKEEPER_AUTO_PLACEMENT": st.sampled_from(["latency", "economy"]),
    "TURNKEEPER_FETCH_CONTENTS": st.sampled_from(["true", "false"]),
    "TURNKEEPER_AGENTS": st.sampled_from(["/tmp", "/tmp:/"]),
    "TURNKEEPER_GATEWAY_WAIT_SECONDS": st.integers(1, 300).map(str),
    "TURNKEEPER_LOG_LEVEL": st.sampled_from(["DEBUG", "INFO"]),
    "TURNKEEPER_MODEL_URL": st.just("http://127.0.0.1:1"),
    "ANTHROPIC_API_KEY": st.just("sk-secret"),
}
ENVIRONMENTS = st.fixed_dictionaries({}, optional=CHOICES)


@given(ENVIRONMENTS)
def test_a_shell_without_variables_keeps_what_the_last_one_had(environment: dict[str, str]) -> None:
    settings = KitSettings.from_environment(environment)
    remembered = settings.variables()
    assert "sk-secret" not in json.dumps(remembered)
    again = KitSettings.from_environment({}, remembered=remembered)
    assert again.variables() == remembered
    assert again.uses_standin == settings.uses_standin
    assert (again.first_port, again.turn_seconds, again.agents) == (
        settings.first_port,
        settings.turn_seconds,
        settings.agents,
    )


@given(ENVIRONMENTS, st.data())
def test_a_variable_that_is_set_to_nothing_goes_back_to_its_default(
    environment: dict[str, str], data: st.DataObject
) -> None:
    remembered = KitSettings.from_environment(environment).variables()
    emptied = data.draw(st.sets(st.sampled_from(sorted(CHOICES))))
    again = KitSettings.from_environment(dict.fromkeys(emptied, ""), remembered=remembered)
    assert again.variables() == {name: value for name, value in remembered.items() if name not in emptied}


@given(ENVIRONMENTS, ENVIRONMENTS)
def test_what_the_environment_says_comes_before_what_is_remembered(old: dict[str, str], new: dict[str, str]) -> None:
    remembered = KitSettings.from_environment(old).variables()
    told = KitSettings.from_environment(new, remembered=remembered).variables()
    alone = KitSettings.from_environment(new).variables()
    assert {name: told.get(name) for name in new} == {name: alone.get(name) for name in new}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TURNKEEPER_LOG_LEVEL", "verbose"),
        ("TURNKEEPER_AUTO_PLACEMENT", "cheap"),
        ("TURNKEEPER_MODEL_URL", "api.example.com"),
        ("ANTHROPIC_BASE_URL", "localhost:8000"),
        ("TURNKEEPER_PORT", "9" * 5_000),
        ("TURNKEEPER_LEASE_SECONDS", "\u00b2"),
        ("TURNKEEPER_TURN_SECONDS", "nan"),
        ("TURNKEEPER_STREAM_SECONDS", "1e400"),
        ("TURNKEEPER_FETCH_CONTENTS", "yes"),
        ("TURNKEEPER_OTLP_ENDPOINT", "collector:4318"),
    ],
)
def test_a_variable_that_makes_no_sense_is_refused_by_name(variable: str, value: str) -> None:
    with pytest.raises(KitError, match=f"^{variable} must be "):
        KitSettings.from_environment({variable: value})


@given(st.dictionaries(st.text(string.ascii_uppercase + "_", min_size=1, max_size=12), st.text("ab", max_size=3)))
def test_parts_of_the_kit_see_nothing_of_the_shell_but_what_describes_the_machine(shell: dict[str, str]) -> None:
    allowed = {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "LD_LIBRARY_PATH"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "http_proxy", "https_proxy", "no_proxy"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**shell, "CRM_TOKEN": "s3cret", "PATH": os.environ["PATH"]}.items():
            patch.setenv(name, value)
        seen = clean_environment({"GIVEN": "yes"})
    assert seen["GIVEN"] == "yes"
    assert seen["PATH"] == os.environ["PATH"]
    assert {name for name in seen if not name.startswith("LC_")} <= allowed | {"GIVEN"}
    assert "127.0.0.1" in seen["NO_PROXY"]


def test_addresses_of_the_emulator_follow_its_port_and_what_users_said_stays(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.state.mkdir()
    url = "http://127.0.0.1:870/000000000000/queue"
    (home.state / "sqs.json").write_text(json.dumps({"url": url, "other": "http://127.0.0.1:8701/"}))
    (home.state / "dynamodb.json").write_text(json.dumps({"said": url}))
    (home.state / "lambda.json").write_text(
        json.dumps({"__ministack_format__": 2, "payload": {"functions": {}, "dynamodb_stream_positions": {"e": 7}}})
    )
    prepare(home, "http://127.0.0.1:870", "http://127.0.0.1:9000")
    assert json.loads((home.state / "sqs.json").read_text()) == {
        "url": "http://127.0.0.1:9000/000000000000/queue",
        "other": "http://127.0.0.1:8701/",
    }
    assert json.loads((home.state / "dynamodb.json").read_text()) == {"said": url}
    assert json.loads((home.state / "lambda.json").read_text())["payload"] == {"functions": {}}
    assert kept(home)
    assert home.state.stat().st_mode & 0o777 == 0o700


def test_a_piped_status_cuts_no_address(cli: Cli, api: FakeApi, state_folder: Path) -> None:
    document = json.loads((state_folder / "local.json").read_text())
    document["queue_url"] = "http://127.0.0.1:1/" + "q" * 400
    document["worker_pid"] = os.getpid()
    (state_folder / "local.json").write_text(json.dumps(document))
    told = dict(line.split(maxsplit=1) for line in cli("status").stdout.splitlines())
    assert told["queue_url"] == document["queue_url"]
    assert told["aws_endpoint_url"] == document["aws_endpoint_url"]


def test_down_says_what_there_is_and_takes_nothing(cli: Cli, state_folder: Path) -> None:
    assert cli("down", "--json").document == {"ended": False, "kept": False}
    assert cli("down", "--forget", "--yes").exit_code == 0


@pytest.mark.parametrize("taken", [set(VARIABLES), serve.taken()], ids=["up", "serve"])
def test_a_setting_counts_here_or_is_named(
    taken: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("TURNKEEPER_")]:
        monkeypatch.delenv(name)
    settings = {f"TURNKEEPER_{name.upper()}" for name in Settings.model_fields}
    for name in (*settings, "TURNKEEPER_HOME", "TURNKEEPER_OF_SOMEBODY_ELSE"):
        monkeypatch.setenv(name, "1")
    with Output(False) as out:
        tell_what_is_passed_over(out, taken)
    assert set(re.findall(r"TURNKEEPER_\w+", capsys.readouterr().err)) == settings - taken - {
        "TURNKEEPER_MODEL_PROVIDER"
    }
