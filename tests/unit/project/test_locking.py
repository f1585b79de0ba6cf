"""The lock of a project: what its agents ask for, over exactly what the kit runs with."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.project.conftest import Bench
from tests.unit.project.wheels import make_wheel
from turnkeeper_project import measuring
from turnkeeper_project.locking import LockError, install_lock, lock_problems, write_lock
from turnkeeper_project.measuring import Layer, layer_of
from turnkeeper_project.requirements import read_lock, requirement_files


def pins(bench: Bench) -> dict[str, str]:
    return {pin.name: pin.version for pin in read_lock(bench.project.lock)}


def problems(bench: Bench, *more: Path) -> list[str]:
    return lock_problems(bench.project, more, kit=bench.kit)


def lock(bench: Bench, *upgrade: str, everything: bool = False) -> list[str]:
    return write_lock(bench.project, upgrade=upgrade, upgrade_all=everything, kit=bench.kit).changes


def test_what_agents_ask_for_is_locked_with_what_that_needs_over_the_kits_own(bench: Bench) -> None:
    make_wheel(bench.wheels, "lamp", "1.0", needs=("bulb",))
    make_wheel(bench.wheels, "bulb", "3.0")
    make_wheel(bench.wheels, "kitdep", "1.5")  # newer, and not what the kit was tested with
    bench.wants("first", "lamp>=1")
    assert [text.split(",")[0] for text in problems(bench)] == ["agents/first/requirements.txt:1 wants lamp>=1"]
    assert lock(bench) == ["+ bulb 3.0", "+ lamp 1.0"]
    assert pins(bench) == {"kitdep": "1.0", "lamp": "1.0", "bulb": "3.0"}
    assert problems(bench) == []
    text = bench.project.lock.read_text()
    assert text.count("--hash=sha256:") >= 3
    assert str(bench.wheels) not in text
    assert "://" not in text


def test_what_is_locked_stays_until_a_newer_version_is_asked_for(bench: Bench) -> None:
    for name in ("lamp", "desk"):
        make_wheel(bench.wheels, name, "1.0")
    bench.wants("first", "lamp", "desk")
    lock(bench)
    before = bench.project.lock.read_text()
    for name in ("lamp", "desk", "chair"):
        make_wheel(bench.wheels, name, "2.0")
    assert lock(bench) == []
    assert bench.project.lock.read_text() == before
    bench.wants("second", "chair")
    assert lock(bench) == ["+ chair 2.0"]
    assert lock(bench, "desk") == ["desk 1.0 -> 2.0"]
    assert lock(bench, everything=True) == ["lamp 1.0 -> 2.0"]


def test_a_lock_is_stale_where_an_agent_asks_for_something_else(bench: Bench) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(bench.wheels, "lamp", version)
    bench.wants("first", "lamp<2")
    lock(bench)
    bench.wants("first", "", "# changed our mind", "lamp>=2")
    [text] = problems(bench)
    assert text.startswith("agents/first/requirements.txt:3 wants lamp>=2; requirements.lock holds 1.0")
    assert "`turnkeeper lock`" in text
    lock(bench)
    assert problems(bench) == []


def test_a_lock_is_stale_where_the_kit_is_another(bench: Bench) -> None:
    make_wheel(bench.wheels, "lamp", "1.0")
    bench.wants("first", "lamp")
    lock(bench)
    bench.kit_runs_with("1.1")
    [text] = problems(bench)
    assert "kitdep 1.1 (locked: 1.0)" in text
    assert lock(bench) == ["kitdep 1.0 -> 1.1"]
    assert problems(bench) == []


def test_a_requirement_against_the_kits_is_told_by_its_line_and_leaves_the_lock(bench: Bench) -> None:
    lock(bench)
    before = bench.project.lock.read_text()
    bench.wants("first", "# old", "kitdep<1")
    with pytest.raises(LockError) as refused:
        lock(bench)
    assert "agents/first/requirements.txt:2 wants kitdep<1" in str(refused.value)
    assert "kitdep<2,>=1 and runs with 1.0" in str(refused.value)
    assert bench.project.lock.read_text() == before


def test_a_conflict_further_down_names_the_file_that_brings_it(bench: Bench) -> None:
    make_wheel(bench.wheels, "lamp", "1.0", needs=("kitdep<1",))
    make_wheel(bench.wheels, "desk", "1.0")
    bench.wants("first", "desk")
    bench.wants("second", "lamp")
    with pytest.raises(LockError) as refused:
        lock(bench)
    text = str(refused.value)
    assert text.startswith("agents/second/requirements.txt cannot be resolved with what the kit runs with")
    assert "kitdep" in text


def test_two_agents_that_contradict_each_other_are_both_named(bench: Bench) -> None:
    for version in ("1.0", "2.0"):
        make_wheel(bench.wheels, "lamp", version)
    bench.wants("first", "lamp<2")
    bench.wants("second", "lamp>=2")
    with pytest.raises(LockError, match=r"agents/first/\S+, agents/second/\S+ contradict each other"):
        lock(bench)


def test_a_wheel_that_lambda_cannot_install_is_told_at_once(bench: Bench) -> None:
    make_wheel(bench.wheels, "lamp", "1.0", platform="manylinux_2_28_x86_64")
    bench.wants("first", "lamp")
    with pytest.raises(LockError) as refused:
        lock(bench)
    text = str(refused.value)
    assert "lamp 1.0, which agents/first/requirements.txt:1 asks for, cannot be installed on Lambda" in text
    assert not bench.project.lock.exists()


def test_a_layer_that_is_too_large_is_told_with_its_largest(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "UNZIPPED_LIMIT_BYTES", 300_000)
    make_wheel(bench.wheels, "lamp", "1.0", size=200_000)
    bench.wants("first", "lamp")
    lock(bench)
    layer = layer_of(bench.project.lock)
    assert layer is not None
    assert list(layer.packages) == ["lamp", "turnkeeper's own"]
    assert 201_000 <= layer.total_bytes < 210_000
    make_wheel(bench.wheels, "desk", "1.0", size=150_000)
    bench.wants("second", "desk")
    with pytest.raises(LockError, match=r"would be 0\.4 MB unzipped.*lamp 0\.2 MB, desk 0\.2 MB"):
        lock(bench)
    monkeypatch.setattr(measuring, "UNZIPPED_LIMIT_BYTES", 100_000)
    assert [text for text in problems(bench) if text.startswith("the layer would be 0.2 MB")]


@given(
    total=st.integers(0, 10**10),
    sizes=st.dictionaries(st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True), st.integers(0, 10**9), max_size=5),
)
def test_what_a_lock_says_of_its_layer_is_read_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, total: int, sizes: dict[str, int]
) -> None:
    file = tmp_path_factory.getbasetemp() / "requirements.lock"
    file.write_text(f"# first\n{Layer(total, sizes).header()}lamp==1.0\n")
    assert layer_of(file) == Layer(total, sizes)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lamp @ https://example.com/lamp.whl", "named by an address"),
        ("git+https://example.com/lamp", "is no requirement"),
        ("--index-url https://example.com", "where packages come from"),
        ("-e .", "is no requirement"),
        ("turnkeeper==0.1", "comes by itself"),
        ("lamp>>1", "is no requirement"),
    ],
)
def test_lines_that_no_lock_can_hold_are_refused_by_their_place(bench: Bench, line: str, said: str) -> None:
    bench.wants("first", "# one", line)
    with pytest.raises(LockError) as refused:
        lock(bench)
    assert str(refused.value).startswith("agents/first/requirements.txt:2: ")
    assert said in str(refused.value)
    assert [said in text for text in problems(bench)] == [True]


def test_all_files_count_those_of_shared_modules_and_of_further_folders_too(bench: Bench, tmp_path: Path) -> None:
    bench.wants("first", "-r more.txt", "lamp  # light", "desk ; python_version < '3.0'")
    (bench.project.agents / "first" / "more.txt").write_text("chair\n")
    bench.wants("_shared", "bulb")
    (bench.project.root / "requirements.txt").write_text("rug\n")
    further = tmp_path / "further"
    (further / "second").mkdir(parents=True)
    (further / "second" / "requirements.txt").write_text("plant\n")
    for name in ("lamp", "chair", "bulb", "rug", "plant"):
        make_wheel(bench.wheels, name, "1.0")
    assert len(requirement_files(bench.project, [further])) == 4
    write_lock(bench.project, [further], kit=bench.kit)
    assert pins(bench).keys() == {"kitdep", "lamp", "chair", "bulb", "rug", "plant"}
    assert problems(bench, further) == []


def test_without_anything_asked_for_the_lock_is_the_kits(bench: Bench) -> None:
    assert problems(bench) == []
    lock(bench)
    assert pins(bench) == {"kitdep": "1.0"}


def test_what_is_locked_is_installed_and_what_else_is_there_stays(bench: Bench, tmp_path: Path) -> None:
    import subprocess

    from turnkeeper_project.target import find_uv

    make_wheel(bench.wheels, "lamp", "1.0")
    bench.wants("first", "lamp")
    lock(bench)
    environment = tmp_path / "venv"
    subprocess.run([find_uv(), "venv", "--quiet", "--python", sys.executable, str(environment)], check=True)
    python = environment / "bin" / "python"
    install_lock(bench.project, python)
    done = subprocess.run(
        [python, "-c", "import lamp, kitdep; print(lamp.VERSION)"], check=True, capture_output=True, text=True
    )
    assert done.stdout == "1.0\n"
