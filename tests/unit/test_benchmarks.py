"""What benchmarks find is told, kept and drawn as they say it."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import _charts
from benchmarks._results import FOLDER_VARIABLE, Results


def _measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder))
    with Results("step") as step:
        step.wall("turn", 5)
        step.cpu("a step", [2.0, 3.0, 7.0], of="floor", kilobytes=1.5)
        for at, took in ((10, [4.0, 6.0]), (100, [8.0])):
            step.cpu("a step", took, of="turnkeeper", kilobytes=1.5, step=at)
        for part, units in (("units", 26), ("units of head", 4), ("units of user", 22)):
            step.count(f"{part} a step", "write units", units, of="turnkeeper", kilobytes=1.5)
    with Results("cost") as cost:
        for item, usd in (("API", 1), ("table: reads", 2), ("table: items written", 3), ("worker", 4)):
            cost.count("a million turns", "USD", usd, of="`economy`", item=item)


def test_figures_are_kept_with_what_they_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _measured(tmp_path, monkeypatch)
    told = json.loads((tmp_path / "step.json").read_text())
    assert {"date", "commit", "machine", "versions"} < told.keys()
    assert [figure["kind"] for figure in told["figures"]] == [*["count"] * 3, *["cpu"] * 3, "wall"]
    floor = next(figure for figure in told["figures"] if figure.get("of") == "floor")
    assert {"median": 3.0, "least": 2.0, "most": 7.0, "rounds": 3, "kilobytes": 1.5}.items() <= floor.items()
    printed = capsys.readouterr().out
    assert printed.index("counts") < printed.index("CPU time") < printed.index("wall time")
    assert "a step: floor, kilobytes 1.5" in printed


def test_what_failed_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    with pytest.raises(ZeroDivisionError), Results("step") as results:
        results.count("share", "%", 1 / 0)
    assert list(tmp_path.iterdir()) == []


def test_tables_and_charts_are_made_of_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _measured(tmp_path, monkeypatch)
    parts = _charts.documentation(tmp_path)
    assert "| ms of CPU a step, results of 1.5 KB | step 10 | step 100 |" in parts["step-cpu"]
    assert "| floor | 3 (2 to 7) | 3 (2 to 7) |" in parts["step-cpu"]
    assert "| turnkeeper | 5 (4 to 6) | 8 |" in parts["step-cpu"]
    assert "| head | 4 |" in parts["step-units"]
    assert "| table | 5 |" in parts["price"]
    assert parts["price"].index("| worker | 4 |") < parts["price"].index("| all else | 1 |")
    assert parts["capacity"] == "Not measured."
    drawn = _charts.charts(tmp_path)
    assert drawn.keys() == {"step-cpu", "step-units", "price"}
    assert drawn == _charts.charts(tmp_path), "the same figures are drawn alike"
    for svg in drawn.values():
        assert "http" not in svg.replace("http://www.w3.org/", "")
        assert ET.fromstring(svg).tag == "{http://www.w3.org/2000/svg}svg"
