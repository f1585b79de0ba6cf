"""`turnkeeper check` and `turnkeeper agents`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Cli
from tests.unit.preflight.test_findings import SOUND, D, L, project


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TURNKEEPER_PROJECT", str(tmp_path))
    for name in ("TURNKEEPER_AGENTS", "TURNKEEPER_STACK"):
        monkeypatch.delenv(name, raising=False)
    return project(tmp_path, SOUND)


def test_a_sound_project(cli: Cli, root: Path) -> None:
    result = cli("check", "--json")
    assert result.exit_code == 0 and result.document["ok"]
    assert set(result.document["import_ms"]) == {"desk", "lab"}
    assert "0 errors" in cli("check").stdout


def test_errors_fail_warnings_only_where_it_is_wanted(cli: Cli, root: Path) -> None:
    (root / "agents" / "odd").mkdir()
    (root / "agents" / "odd" / "x.py").touch()
    assert cli("check").exit_code == 0
    strict = cli("check", "--strict")
    assert strict.exit_code == 1 and "agents/odd" in strict.stdout
    (root / D).write_text("import nobody_has_this\n")
    result = cli("check", "--json")
    assert result.exit_code == 1 and not result.document["ok"]
    [error] = [one for one in result.document["findings"] if one["severity"] == "error"]
    assert (error["code"], error["file"], error["line"], error["agent"]) == ("agent_broken", D, 1, "desk")
    assert f"{D}:1" in cli("check").stdout


def test_names_of_bedrock_are_looked_at_where_a_stage_calls_it(cli: Cli, root: Path) -> None:
    (root / L).write_text(SOUND[L].replace("house-model", "claude-3-opus-20240229"))
    assert cli("check").exit_code == 0
    project(root, {"stages/prod.toml": 'model_provider = "bedrock"\n'})
    refused = cli("check")
    assert refused.exit_code == 1 and "Bedrock has no claude-3-opus-20240229" in refused.stdout
    project(root, {"stages/prod.toml": "model_provider ="})
    assert "stages/prod.toml cannot be read" in cli("check").stderr


def test_agents_and_one_of_them(cli: Cli, root: Path) -> None:
    document = cli("agents", "--json").document
    assert [agent["name"] for agent in document["agents"]] == ["desk", "lab"] and document["broken"] == {}
    assert "claude-sonnet-5-5" in cli("agents").stdout
    shown = cli("agents", "desk").stdout
    assert "shop:write" in shown and "anyone else" in shown and "once" in shown
    deployed = cli("agents", "--stack", "Prod")
    assert deployed.exit_code == 0 and "as they stand in" in deployed.stderr
    missing = cli("agents", "dekc")
    assert missing.exit_code == 1 and "there are: desk, lab" in missing.stderr


def test_a_broken_one_is_told_among_them(cli: Cli, root: Path) -> None:
    (root / D).write_text("1 / 0\n")
    result = cli("agents", "--json")
    assert "ZeroDivisionError" in result.document["broken"]["desk"] and f"{D}:1" in result.document["broken"]["desk"]
    assert "ZeroDivisionError" in cli("agents", "desk").stderr
