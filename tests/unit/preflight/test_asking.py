"""Agents are looked at in a process of its own, with nothing around it that they will not find where they run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.unit.preflight.test_findings import SOUND, D, L, project
from turnkeeper.preflight import Finding as Told
from turnkeeper_local.kit import Home, KitError, KitSettings, up
from turnkeeper_project import Project, asking
from turnkeeper_project.asking import Finding, NotAsked, ask
from turnkeeper_project.costs import dear, import_costs

UNPRICED = SOUND[L].replace("house-model", "nobodys")


def test_both_sides_mean_the_same_by_a_finding() -> None:
    assert [field.name for field in dataclasses.fields(Told)] == [field.name for field in dataclasses.fields(Finding)]


def test_what_an_agent_prints_is_not_the_answer(tmp_path: Path) -> None:
    noisy = "import os\nprint('{}')\nos.system('echo [1]')\n" + SOUND[L]
    answer = ask(project(tmp_path, {**SOUND, L: noisy}))
    assert answer.findings == () and [agent["name"] for agent in answer.agents] == ["desk", "lab"]


def test_an_agent_finds_no_key_of_this_shell_and_no_module_of_this_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRM_KEY", "secret")
    monkeypatch.chdir(project(tmp_path / "elsewhere", {"found_by_luck.py": ""}))
    by_key = "import os\nos.environ['CRM_KEY']\n" + SOUND[D]
    root = project(tmp_path / "here", {**SOUND, D: by_key, L: "import found_by_luck\n" + SOUND[L]})
    desk, lab = ask(root).errors()
    assert (desk.place, lab.place) == (f"{D}:2", f"{L}:1")
    assert "KeyError" in desk.text and "found_by_luck" in lab.text and "Traceback" in (lab.detail or "")


def test_an_import_that_ends_the_process_or_never_ends_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = project(tmp_path / "ended", {**SOUND, L: "import os, sys\nprint('why', file=sys.stderr)\nos._exit(7)\n"})
    with pytest.raises(NotAsked, match=r"ended with 7\nwhy"):
        ask(ended)
    waits = project(tmp_path / "waits", {**SOUND, L: "import time\ntime.sleep(600)\n"})
    monkeypatch.setattr(asking, "LOOKING_SECONDS", 3)
    with pytest.raises(NotAsked, match="waits for something"):
        ask(waits)


def test_what_is_one_agents_may_be_put_up_with_and_nothing_else(tmp_path: Path) -> None:
    root = project(tmp_path, {**SOUND, D: "def (", L: UNPRICED})
    answer = ask(root)
    assert len(answer.errors()) == 2 and answer.errors(allow_broken=True) == []
    assert "HOW" in (answer.refused(how="HOW") or "") and answer.refused(allow_broken=True, how="") is None
    assert {one.agent for one in answer.warnings(allow_broken=True)} >= {"desk", "lab"}
    (root / "policy.toml").write_text("x = ")
    refused = ask(root).refused(allow_broken=True, how="HOW") or ""
    assert "policy.toml:1: is no TOML" in refused and "HOW" not in refused


@pytest.mark.parametrize("wrong", [{D: "def ("}, {"policy.toml": "default_plan = 1"}, {L: UNPRICED}])
def test_up_refuses_before_it_touches_anything(
    wrong: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is up stays up: nothing is ended, nothing forgotten, nothing started."""
    monkeypatch.setattr("turnkeeper_local.kit.kit._up", lambda *_: pytest.fail("something was brought up"))
    monkeypatch.setattr("turnkeeper_local.kit.kit._down", lambda *_: pytest.fail("something was taken down"))
    home = Home(tmp_path / "home")
    home.make()
    home.local_json.write_text("{}")
    home.kit_json.write_text("{}")
    root = project(tmp_path / "here", {**SOUND, **wrong})
    settings = KitSettings(first_port=0, project=root, allow_broken=False)
    monkeypatch.setattr("turnkeeper_local.kit.kit._running", lambda *_: None)
    with pytest.raises(KitError, match=rf"stays as it was:\n{next(iter(wrong))}"):
        up(settings, home=home)
    assert home.local_json.exists() and home.kit_json.exists()


def test_what_is_odd_is_told_and_brought_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    brought, told = [], []
    monkeypatch.setattr("turnkeeper_local.kit.kit._up", lambda *_: brought.append(1))
    root = project(tmp_path / "here", {**SOUND, L: UNPRICED, "agents/odd/x.py": ""})
    settings = KitSettings(first_port=0, project=root, allow_broken=True)
    up(settings, home=Home(tmp_path / "home"), progress=told.append)
    assert brought and any("agents/odd" in one for one in told) and any("nobodys" in one for one in told)


def test_what_an_import_costs(tmp_path: Path) -> None:
    slow = "import time\ntime.sleep(0.35)\n" + SOUND[L]
    root = project(tmp_path, {**SOUND, L: slow, "agents/broken/agent.py": "1 / 0"})
    costs = import_costs(Project(root))
    assert set(costs) == {root / D, root / L} and costs[root / L] >= 350
    # How long the other takes is the machine's business.
    [finding] = [one for one in dear(costs, root) if one.agent == "lab"]
    assert (finding.file, finding.severity) == (L, "warning")
