"""A process that cannot start says why, to the log and to whoever waits for it, and quotes no secret."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from server.__main__ import main
from server.serving import Announced
from turnkeeper.adapters.known_secrets import KNOWN
from turnkeeper.settings import Settings
from turnkeeper.testing.clock import ManualClock
from turnkeeper.wiring.sql import SqlPlatform
from turnkeeper_local.kit import serve
from turnkeeper_local.kit.home import Home
from turnkeeper_local.kit.settings import VARIABLES, KitSettings

#: The scenario is the stand-in's, and there is one process.
_NOT_HERE = {"TURNKEEPER_SCENARIO", "TURNKEEPER_WORKER_PROCESSES"}
_GOOD = {"TURNKEEPER_SIGNING_KEY": "k" * 32, "TURNKEEPER_IDENTITY": "local", "TURNKEEPER_API_PORT": "0"}
_OTHERS = {str: "other", bool: False, int: 77, float: 77.0, type(None): 77}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"TURNKEEPER_DATABASE_URL": "postgresql://u:QQQ%zz@h/d"}, "PGPASSWORD"),
        ({"TURNKEEPER_DATABASE_URL": "sqlite:///{tmp}/text"}, "not a database"),
        ({"TURNKEEPER_DATABASE_URL": "sqlite:///{tmp}/text/below"}, "cannot be made"),
        ({"TURNKEEPER_DATABASE_URL": "mysql://u:QQQ@h/d"}, "postgresql:// or sqlite:///"),
        ({"TURNKEEPER_SIGNING_KEY": "QQQ"}, "32 characters"),
        ({"TURNKEEPER_SIGNING_KEY": ""}, "TURNKEEPER_SIGNING_KEY_FILE"),
        ({"TURNKEEPER_API_PORT": "QQQ"}, "TURNKEEPER_API_PORT"),
        ({"TURNKEEPER_DATABASE_PASSWORD_FILE": "{tmp}/nothing"}, "nothing"),
    ],
)
def test_it_says_what_is_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong: dict[str, str],
    said: str,
) -> None:
    (tmp_path / "text").write_text("no database, for sure: this is text")
    for name, value in {**_GOOD, "TURNKEEPER_DATABASE_URL": "sqlite:///{tmp}/kit.db", **wrong}.items():
        monkeypatch.setenv(name, value.format(tmp=tmp_path))
    # What it would leave behind in this process.
    for name in ("server.serving.set_up", "functions.process.share"):
        monkeypatch.setattr(name, lambda _: None)
    reader, writer = os.pipe()
    assert main(["front-door", "--announce", str(tmp_path / "local.json"), "--complain", str(writer), "--json"]) == 1
    os.close(writer)
    with os.fdopen(reader) as told:
        detail = json.load(told)["error"]["detail"]
    logged = "".join(capsys.readouterr())
    assert said in detail
    assert detail in logged
    assert "QQQ" not in detail + logged
    assert "Traceback" not in logged
    assert not (tmp_path / "local.json").exists()


def test_a_worker_without_a_key_does_not_begin(tmp_path: Path) -> None:
    """It could hand nothing on, and nobody would see it before it has to."""
    told = {**os.environ, "TURNKEEPER_DATABASE_URL": f"sqlite:///{tmp_path}/kit.db", "TURNKEEPER_WORKER_PROCESSES": "1"}
    told = {name: value for name, value in told.items() if not name.startswith("TURNKEEPER_SIGNING_KEY")}
    command = [sys.executable, "-m", "server", "worker"]
    ended = subprocess.run(command, env=told, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "TURNKEEPER_SIGNING_KEY_FILE" in ended.stderr


@pytest.mark.parametrize("variable", [*sorted(VARIABLES.keys() - _NOT_HERE), *serve.HANDED_ON])
def test_serve_takes_each_setting_that_up_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    home = Home(tmp_path)
    home.make()
    default = other = KitSettings()
    if (name := VARIABLES.get(variable)) is not None:
        other = dataclasses.replace(default, **{name: _OTHERS[type(getattr(default, name))]})
    environments = []
    for settings in (default, other):
        model_url = settings.model_url or "http://127.0.0.1:1"
        environments.append(serve.Serving(home, settings, "sqlite:///a.db")._environment(str(model_url)))
        monkeypatch.setenv(variable, "77")
    changed = {key for key in environments[1] if environments[0].get(key) != environments[1][key]}
    assert len(changed) == 1, changed


@pytest.mark.parametrize("url", ["postgresql://u:p%23ss-QQQ%40@h/d", "postgresql://u@h/d"])
def test_what_a_tool_shows_of_this_process_has_no_secret_of_it(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("PGPASSWORD", "p#ss-QQQ@")
    settings = Settings(database_url=SecretStr(url), signing_key=SecretStr("QQQ-" * 9))
    platform = SqlPlatform(settings, ManualClock)
    platform.opened.close()
    platform.signing_keys()
    shown = json.dumps({"url": url, "libpq": "p#ss-QQQ@", "key": "QQQ-" * 9})
    assert "QQQ" not in KNOWN.hide(shown)


def test_where_it_answers_is_said_again_once_there_is_room(tmp_path: Path) -> None:
    """A disk that was full when a file had to be written again ended the process."""
    folder, away = tmp_path / "home", tmp_path / "away"
    folder.mkdir()
    settings = SimpleNamespace(database_url=SecretStr("sqlite:///kit.db"))
    played: Any = SimpleNamespace(kit=SimpleNamespace(settings=settings), front_door=SimpleNamespace(port=8700))
    played.gateway_url = None
    announced = Announced(folder / "local.json")
    announced.say(played)
    folder.rename(away)
    played.gateway_url = "http://127.0.0.1:8701"
    announced.keep(played)
    away.rename(folder)
    announced.keep(played)
    assert json.loads((folder / "local.json").read_text())["gateway_url"] == played.gateway_url
    assert [file.name for file in folder.iterdir()] == ["local.json"], "no draft is left"
    assert (folder / "local.json").stat().st_mode & 0o077 == 0
