"""What stands between worker and program: whatever the program begins, it ends with its runner."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from turnkeeper.sdk.leash import Leash, Workspace, forget_what_is_nobodys, launcher_in

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

#: Begins a process in a session of its own, whose parent then is gone, and goes on.
PROGRAM = """#!/bin/sh
setsid sh -c 'echo $$ > {folder}/far; sleep 60' &
echo $$ > {folder}/near
env > {folder}/environment
echo "$@"
read line
exit 7
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    program = tmp_path / "program"
    program.write_text(PROGRAM.format(folder=tmp_path))
    program.chmod(0o755)
    return tmp_path


@pytest.fixture
def leash(place: Path) -> Iterator[Leash]:
    leash = Leash(place / "leash")
    yield leash
    leash.cut()


def start(place: Path, leash: Leash, cwd: Path | None = None, **more: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "TURNKEEPER_LEASH": str(leash.path),
        "TURNKEEPER_PROGRAM": str(place / "program"),
        "TURNKEEPER_USER": "",
        "TURNKEEPER_FOLDERS": "",
        "AWS_SECRET_ACCESS_KEY": "",
        "TOLD": "yes",
        **more,
    }
    return subprocess.Popen(
        [launcher_in(place), "--flag", "two words"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=cwd,
    )


def pids(place: Path) -> list[int]:
    until = time.monotonic() + 20
    files = [place / "near", place / "far", place / "environment"]
    while not all(file.exists() and file.read_text().strip() for file in files):
        assert time.monotonic() < until
        time.sleep(0.02)
    return [int(file.read_text()) for file in files[:2]]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def all_gone(found: list[int]) -> bool:
    until = time.monotonic() + 20
    while not all(map(gone, found)):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def test_it_hands_on_arguments_streams_and_the_exit_code_and_no_blank_variables(place: Path, leash: Leash) -> None:
    process = start(place, leash)
    found = pids(place)
    output, _ = process.communicate("a line\n", timeout=30)
    assert (output, process.returncode) == ("--flag two words\n", 7)
    environment = (place / "environment").read_text()
    assert "TOLD=yes" in environment
    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert "TURNKEEPER_" not in environment
    assert all_gone(found), "what it left behind is ended too"


def test_it_says_as_a_shell_does_that_a_signal_ended_the_program(place: Path, leash: Leash) -> None:
    (place / "program").write_text("#!/bin/sh\nkill -9 $$\n")
    process = start(place, leash)
    process.communicate(timeout=30)
    assert process.returncode == 128 + 9


@pytest.mark.parametrize("code", [0, 3])
def test_who_holds_the_leash_sees_that_the_program_has_ended(place: Path, leash: Leash, code: int) -> None:
    (place / "program").write_text(f"#!/bin/sh\nread line\nexit {code}\n")
    process = start(place, leash)
    assert not leash.over
    process.communicate("a line\n", timeout=30)
    assert (leash.over, process.returncode) == (True, code)
    assert not leash.path.with_name(f"{leash.path.name}.over").read_bytes()


def test_all_of_it_ends_when_the_leash_is_cut(place: Path, leash: Leash) -> None:
    process = start(place, leash)
    found = pids(place)
    leash.cut()
    assert all_gone(found)
    process.communicate(timeout=30)


def test_a_command_that_holds_the_leash_too_ends_all_the_same(place: Path, leash: Leash) -> None:
    """Those of the worker's own user may open what the launcher waits for."""
    held = f"exec 7<>{leash.path}\nsetsid sh -c 'exec 7<>{leash.path}; echo $$ > {place}/far; sleep 60' &\n"
    program = PROGRAM.format(folder=place).splitlines(keepends=True)
    (place / "program").write_text("".join([program[0], held, *program[2:]]))
    process = start(place, leash)
    found = pids(place)
    leash.cut()
    assert all_gone(found)
    process.communicate(timeout=30)


def test_a_runner_that_is_late_leaves_the_next_one_s_folder_alone(tmp_path: Path) -> None:
    late, workspace = Workspace(tmp_path, "acme", "one"), Workspace(tmp_path, "acme", "one")
    old = late.make()
    new = workspace.make()
    (workspace.work / "file").write_text("of the next one")
    old.cut()
    late.forget()
    assert (workspace.work / "file").exists()
    assert new.path.exists()
    new.cut()
    workspace.forget()
    assert not workspace.work.exists()


def test_commands_cannot_end_what_ends_them(place: Path, leash: Leash) -> None:
    """They may be of the launcher's own user, and of the worker's, which is this process here."""
    tries = f"""
import os, resource, signal, sys
launcher, worker = os.getppid(), {os.getpid()}
def by_pidfd():
    signal.pidfd_send_signal(os.open(f"/proc/{{launcher}}", os.O_RDONLY), 9)
tries = dict(
    end=lambda: os.kill(launcher, 9), stop=lambda: os.kill(launcher, signal.SIGSTOP),
    worker=lambda: os.kill(worker, 0), everybody=lambda: os.kill(-1, 0),
    group=lambda: os.killpg(os.getpgid(launcher), 9), workers_group=lambda: os.killpg(os.getpgid(worker), 0),
    pidfd=lambda: os.pidfd_open(launcher), limit=lambda: resource.prlimit(launcher, resource.RLIMIT_CPU, (0, 0)),
    by_pidfd=by_pidfd,
)
for name, attempt in tries.items():
    try:
        attempt()
        print(name, "worked")
    except PermissionError:
        print(name, "refused")
os.kill(os.getpid(), 0); print("itself worked")
os.kill(0, signal.SIGUSR1)
"""
    (place / "program").write_text(f"#!{sys.executable} -u\n{tries}")
    process = start(place, leash)
    output, _ = process.communicate(timeout=30)
    assert output.splitlines()[-1] == "itself worked"
    assert {line.split()[-1] for line in output.splitlines()[:-1]} == {"refused"}, output
    assert process.returncode == 128 + signal.SIGUSR1, "it ended itself, and the launcher has told"


def test_all_of_it_ends_when_the_launcher_is_told_to(place: Path, leash: Leash) -> None:
    process = start(place, leash)
    found = pids(place)
    process.send_signal(signal.SIGTERM)
    assert all_gone(found)
    process.communicate(timeout=30)


def test_all_of_it_ends_when_the_worker_is_killed(place: Path) -> None:
    code = (
        "import sys, pathlib; sys.path[:0] = sys.argv[2:]\n"
        "from tests.unit.sdk.test_launcher import *\n"
        "place = pathlib.Path(sys.argv[1]); leash = Leash(place / 'leash'); start(place, leash).wait()"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, place, *filter(None, sys.path)])
    found = pids(place)
    worker.kill()
    worker.wait()
    assert all_gone(found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_it_becomes_the_user_that_is_named_who_owns_the_folders(place: Path, leash: Leash) -> None:
    (place / "program").write_text("#!/bin/sh\nid -u; id -g; id -G; echo mine > $HOME/file; cat secret 2>&1\n")
    (place / "secret").write_text("a secret")
    (place / "secret").chmod(0o600)
    home = place / "home"
    home.mkdir(mode=0o700)
    for each in (place, *place.parents):
        each.chmod(each.stat().st_mode | 0o011)
    more = {
        "TURNKEEPER_USER": "64123:64124",
        "TURNKEEPER_FOLDERS": str(home),
        "HOME": str(home),
        "CLAUDE_CONFIG_DIR": str(home / "none"),
    }
    process = start(place, leash, cwd=place, **more)
    output, _ = process.communicate(timeout=30)
    assert output.splitlines()[:3] == ["64123", "64124", "64124"]
    assert "a secret" not in output
    assert (home / "file").stat().st_uid == 64123


def test_folders_of_the_dead_are_forgotten_and_those_in_use_are_not(tmp_path: Path) -> None:
    mine, dead = Workspace(tmp_path, "acme", "one"), Workspace(tmp_path, "acme", "two")
    leash = mine.make()
    dead.make().cut()
    for workspace in (mine, dead):
        (workspace.work / "file").write_text("said")
    forget_what_is_nobodys(tmp_path)
    assert (mine.work / "file").exists()
    assert not dead.work.exists()
    leash.cut()
    mine.make().cut()
    assert not (mine.work / "file").exists(), "the next run begins with nothing"


#: What commands leave behind: deeper than Python looks, not to be written to, and called as what holds a folder.
LEFT_BEHIND = """
import os, sys
from pathlib import Path
from turnkeeper.sdk.leash import Workspace, forget_what_is_nobodys
if os.geteuid() == 0:
    os.setuid(65534)
for forget in (Workspace.forget, Workspace.make, lambda _: forget_what_is_nobodys(workspace.root)):
    workspace = Workspace(Path(sys.argv[1]), "acme", "one")
    workspace.make().cut()
    cache = workspace.home / "cache" / "module"
    cache.mkdir(parents=True)
    (cache / "file").write_text("said")
    (cache / "link").symlink_to(sys.argv[2])
    os.mkfifo(workspace.home.parent / "leash-fifo")
    (workspace.home.parent / "leash-file").write_text("")
    os.chdir(workspace.work)
    for _ in range(1_200):
        os.mkdir("d" * 20)
        os.chdir("d" * 20)
    os.chdir("/")
    cache.chmod(0o500)
    cache.parent.chmod(0o000)
    forget(workspace)
    assert not (workspace.home / "cache").exists(), forget
    assert not list(workspace.work.iterdir() if workspace.work.exists() else ()), forget
    workspace.forget()
"""


def test_nothing_that_commands_leave_behind_is_there_for_the_next(tmp_path: Path) -> None:
    mine, root = tmp_path / "mine", tmp_path / "root"
    mine.mkdir()
    (mine / "file").write_text("kept")
    root.mkdir()
    for each in (root, *root.parents):
        each.chmod(each.stat().st_mode | (0o777 if each == root else 0o011))
    program = [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}{LEFT_BEHIND}", str(root), str(mine)]
    try:
        subprocess.run(program, check=True)
    finally:
        # Deeper than pytest can take away: what stays would fail each run after this one.
        subprocess.run(["rm", "-rf", str(root)], check=True)
    assert (mine / "file").read_text() == "kept", "no link is followed"


def test_the_folders_of_sessions_never_meet(tmp_path: Path) -> None:
    names = [("a", "b/c"), ("a/b", "c"), ("..", ".."), ("a", "b")]
    works = {Workspace(tmp_path, *name).work for name in names}
    assert len(works) == len(names)
    assert all(work.resolve().is_relative_to(tmp_path.resolve()) for work in works)
