"""shell with real processes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.unit.tools.conftest import Call, context
from turnkeeper.core.tools import Tool, ToolDenied, ToolError
from turnkeeper.tools import shell
from turnkeeper.tools.command import arguments as command_arguments
from turnkeeper.tools.command import process

ANY = [r"[^\x00]*", r"(?s:.*)"]


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("one\ntwo\n")
    (folder / "sub" / "b.txt").write_text("three\n")
    (tmp_path / "secret.txt").write_text("hunter2\n")
    (folder / "out").symlink_to(tmp_path)
    (folder / "file").symlink_to(tmp_path / "secret.txt")
    (folder / "in").symlink_to(folder / "a.txt")
    return folder


def tool(work: Path, **keywords: Any) -> Tool:
    commands = {"ls": [r"-[la]+", r"[\w./]+"], "cat": ANY, "grep": ANY, "env": [], "wc": [r"-l", r"[\w.-]+"]}
    return shell(**{"commands": commands, "cwd": work, **keywords})


def test_a_command(work: Path, call: Call) -> None:
    answer = call(tool(work), command="wc", args=["-l", "a.txt"])
    assert answer == {"exit_code": 0, "stdout": "2 a.txt\n", "stderr": "", "truncated": False}
    assert call(tool(work), command="grep", args=["nothing", "a.txt"])["exit_code"] == 1
    assert "No such file" in call(tool(work), command="cat", args=["none"])["stderr"]
    assert call(tool(work), command="cat", args=["in"])["stdout"] == "one\ntwo\n"
    assert call(tool(work), command="cat")["stdout"] == ""  # stdin is empty


def test_the_contracts_example(work: Path, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = shell(
        commands={"ls": [r"-l", r"[\w./-]+"], "wc": [r"-l", r"[\w.-]+"]},
        cwd="work",
        timeout_seconds=5,
        max_bytes=64_000,
    )
    assert made.effect == "once" and made.name == "shell"
    assert call(made, command="ls", args=["-l"])["exit_code"] == 0
    with pytest.raises(ToolDenied):
        call(made, command="ls", args=["/etc"])


@pytest.mark.parametrize(
    "command",
    [
        "rm",
        "sh",
        "/bin/ls",
        "./ls",
        "../ls",
        "LS",
        "ls ",
        " ls",
        "ls\n",
        "ls\0",
        "",
        "ls;id",
        "ls -l",
        "$(ls)",
        "`ls`",
        "l*",
        "bin/ls",
        "\uff4cs",
    ],
)
def test_only_listed_commands(command: str, work: Path, call: Call) -> None:
    with pytest.raises(ToolDenied, match="Allowed: cat, env, grep, ls, wc"):
        call(tool(work), command=command)


@pytest.mark.parametrize(
    "arguments",
    [
        {"command": "ls -l"},
        {"command": ["ls"]},
        {"args": []},
        {"command": "ls", "args": "-l"},
        {"command": "ls", "args": [1]},
        {"command": "ls", "args": [["-l"]]},
        {"command": "ls", "shell": True},
        {"command": "ls", "env": {"A": "b"}},
        {"command": "ls", "cwd": "/"},
        {"command": "ls", "args": None},
        {"command": "ls", "stdin": "x"},
    ],
)
def test_only_a_vector(arguments: dict[str, Any], work: Path, call: Call) -> None:
    with pytest.raises((ValidationError, ToolDenied)):
        call(tool(work), **arguments)


@pytest.mark.parametrize(
    "argument",
    [
        "-x",
        "-l;id",
        "--all",
        "a b",
        "$(id)",
        "`id`",
        "a|b",
        "a;b",
        "a&b",
        ">x",
        "-l\n",
        "\n-l",
        "a.txt\n",
        "a\0b",
        "a.txt\r",
        "*",
        "~",
        "~root",
        "\t",
        "",
        "-l -a",
        "a'b",
        'a"b',
        "{a,b}",
        "!!",
        "a\u2028b",
        "\ud800",
        "a=b",
    ],
)
def test_every_argument_fits_a_pattern_whole(argument: str, work: Path, call: Call) -> None:
    with pytest.raises(ToolDenied, match="Allowed"):
        call(tool(work), command="ls", args=[argument])
    with pytest.raises(ToolDenied):
        call(tool(work), command="env", args=[argument])


@pytest.mark.parametrize(
    "argument",
    [
        "..",
        "../",
        "../secret.txt",
        "./../secret.txt",
        "sub/../../secret.txt",
        "/etc/passwd",
        "//etc/passwd",
        "/",
        "out",
        "out/",
        "out/secret.txt",
        "file",
        "./file",
        "sub/../file",
        "sub/../out/secret.txt",
        "/proc/self/environ",
        "/dev/mem",
        "-f/etc/passwd",
        "-f../secret.txt",
        "-ffile",
        "-rffile",
        "-fout/secret.txt",
        "--file=/etc/passwd",
        "--file=../secret.txt",
        "--file=file",
        "--file=out/secret.txt",
        "-f=/etc/passwd",
        "if=/etc/passwd",
        "of=../x",
        "host:../x",
        "@/etc/passwd",
        "@../secret.txt",
        "@file",
        "a,../secret.txt",
        "file:///etc/passwd",
        "w /etc/passwd",
        'print > "/etc/x"',
        "~/x",
        "~",
        "-C..",
        "-I..",
        "--dir=..",
        "a=..",
        "in/../../secret.txt",
        "none/../../secret.txt",
        "\u202e/etc/passwd",
        "r ../secret.txt",
        "{/etc/passwd}",
        "</etc/passwd",
        "|/bin/id",
        "(/etc/passwd)",
        "-" + "x" * 250,
    ],
)
def test_no_argument_leads_out(argument: str, work: Path, call: Call) -> None:
    """Whatever the patterns say."""
    for command in ("cat", "grep"):
        with pytest.raises(ToolDenied):
            call(tool(work), command=command, args=[argument])


#: Ways to write a path as an argument.
FORMS = ("{}", "./{}", "sub/../{}", "{}/.", "--file={}", "-f{}", "-rf{}", "-f={}", "@{}", "x:{}", "a,{}", "r {}")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("by", ["absolute", "relative", "another link", "a link to the folder", "a link in the middle"])
def test_no_link_leads_out_though_a_pattern_names_its_folder(by: str, form: str, work: Path, call: Call) -> None:
    link, secret = work / "sub" / "link.txt", work.parent / "secret.txt"
    target = {
        "absolute": secret,
        "relative": Path("../../secret.txt"),
        "another link": Path("../file"),
        "a link to the folder": work.parent,
        "a link in the middle": Path("../out/secret.txt"),
    }[by]
    link.symlink_to(target)
    listed = shell({"cat": [r"([-\w=@:, ./]*)sub/[a-z]+\.txt(/\.)?"]}, work)
    with pytest.raises(ToolDenied, match="Allowed are paths inside it"):
        call(listed, command="cat", args=[form.format("sub/link.txt")])


@pytest.mark.parametrize("argument", ["\n", "a\n", "a\0b", "\x1b[0m", "a\u2029b", "x" * 5000])
def test_no_pattern_lets_line_ends_in(argument: str, work: Path, call: Call) -> None:
    with pytest.raises(ToolDenied, match="printable"):
        call(tool(work), command="cat", args=[argument])
    with pytest.raises(ToolDenied, match="64"):
        call(tool(work), command="cat", args=["a"] * 100)


@pytest.mark.parametrize(
    "argument",
    [
        "a.txt",
        "sub/b.txt",
        "./a.txt",
        "sub/../a.txt",
        "in",
        ".",
        "-n",
        "--",
        "-",
        "--color=never",
        "--include=sub/b.txt",
        "-A2",
    ],
)
def test_what_stays_inside_is_let_in(argument: str, work: Path) -> None:
    command_arguments.Commands.of({"grep": ANY}).admit("grep", [argument], work)


def test_arguments_are_never_read_by_a_shell(work: Path, call: Call) -> None:
    said = call(
        shell({"printf": ANY}, work), command="printf", args=["%s|", "$HOME", "a b", "*", "`id`", "$(id)", ";id"]
    )
    assert said["stdout"] == "$HOME|a b|*|`id`|$(id)|;id|"


def test_the_environment_is_empty(work: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "ANTHROPIC_API_KEY", "PYTHONPATH", "LD_PRELOAD_X", "BASH_ENV"):
        monkeypatch.setenv(name, "hunter2")
    monkeypatch.setenv("PATH", f"{work}:/nowhere")
    said = call(tool(work), command="env")
    assert sorted(said["stdout"].split()) == sorted(["PATH=/usr/bin:/bin", "LANG=C.UTF-8", f"HOME={work}"])
    assert "hunter2" not in json.dumps(said)


def test_the_search_path_is_fixed(work: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (work, work / "sub"):
        (folder / "cat").write_text("#!/bin/sh\necho wrong\n")
        (folder / "cat").chmod(0o755)
    monkeypatch.setenv("PATH", f"{work}:{work / 'sub'}")
    assert call(tool(work), command="cat", args=["a.txt"])["stdout"] == "one\ntwo\n"
    with pytest.raises(ToolError, match="not installed"):
        call(shell({"no-such-command": []}, work), command="no-such-command")


def test_output_is_cut(work: Path, call: Call) -> None:
    started = time.monotonic()
    said = call(shell({"yes": []}, work, max_bytes=1000), command="yes")
    assert said["truncated"] and len(said["stdout"]) == 1000
    assert time.monotonic() - started < 3
    (work / "exact").write_text("x" * 1000)
    assert call(tool(work, max_bytes=1000), command="cat", args=["exact"])["truncated"] is False
    (work / "binary").write_bytes(bytes(range(256)) * 10)
    said = call(tool(work, max_bytes=1000), command="cat", args=["binary"])
    assert len((said["stdout"] + said["stderr"]).encode()) <= 1000


def test_stdout_and_stderr_share_the_limit(work: Path, call: Call) -> None:
    program = "import sys; sys.stderr.write('e'*600); sys.stderr.flush(); sys.stdout.write('o'*600)"
    said = call(python(work, max_bytes=1000), command=PYTHON, args=["-c", program])
    assert len(said["stdout"]) + len(said["stderr"]) == 1000 and said["truncated"]


def test_time_is_cut_and_children_die(work: Path, call: Call) -> None:
    started = time.monotonic()
    with pytest.raises(ToolError, match="longer than"):
        call(shell({"sleep": [r"\d+"]}, work, timeout_seconds=0.7), command="sleep", args=["60"])
    assert time.monotonic() - started < 3
    script = work / "s.sh"
    script.write_text("sleep 71 & sleep 72 & echo started; sleep 73\n")
    with pytest.raises(ToolError, match="started"):
        call(shell({"sh": [r"s\.sh"]}, work, timeout_seconds=0.7), command="sh", args=["s.sh"])
    assert not _running("sleep 7[123]")


def test_what_it_leaves_behind_dies_too(work: Path, call: Call) -> None:
    (work / "s.sh").write_text("sleep 74 & echo gone\n")
    started = time.monotonic()
    said = call(shell({"sh": [r"s\.sh"]}, work, timeout_seconds=20), command="sh", args=["s.sh"])
    assert (said["stdout"], said["exit_code"]) == ("gone\n", 0)
    assert time.monotonic() - started < 5
    assert not _running("sleep 74")


def test_closing_its_output_does_not_end_the_clock(work: Path, call: Call) -> None:
    (work / "s.sh").write_text("exec >&- 2>&-; sleep 75\n")
    started = time.monotonic()
    with pytest.raises(ToolError, match="longer than"):
        call(shell({"sh": [r"s\.sh"]}, work, timeout_seconds=0.7), command="sh", args=["s.sh"])
    assert time.monotonic() - started < 3
    assert not _running("sleep 75")


def _running(pattern: str) -> bool:
    time.sleep(0.1)
    return subprocess.run(["pgrep", "-f", f"^{pattern}"], stdout=subprocess.DEVNULL, check=False).returncode == 0


PYTHON = next(
    (name for name in ("python3", "python3.11", "python3.12", "python3.13") if Path("/usr/bin", name).exists()), ""
)


def python(work: Path, **keywords: Any) -> Tool:
    if not PYTHON:
        pytest.skip("no system Python")
    # The program text is full of what the path check refuses; this is about what is taken from the process.
    return shell({PYTHON: ANY}, work, **keywords)


@pytest.fixture
def anything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_arguments, "_stays_inside", lambda *_: True)


@pytest.mark.usefixtures("anything")
def test_memory_is_limited(work: Path, call: Call) -> None:
    said = call(
        python(work, memory_bytes=256 << 20), command=PYTHON, args=["-c", "x = bytearray(1 << 30); print(len(x))"]
    )
    assert said["exit_code"] != 0 and "MemoryError" in said["stderr"]


@pytest.mark.usefixtures("anything")
def test_files_are_limited(work: Path, call: Call) -> None:
    said = call(python(work, file_bytes=100_000), command=PYTHON, args=["-c", "open('big','wb').write(bytes(1<<20))"])
    assert said["exit_code"] != 0
    assert (work / "big").stat().st_size <= 100_000


@pytest.mark.usefixtures("anything")
def test_processor_time_and_descriptors_are_limited(work: Path, call: Call) -> None:
    program = "import resource as r; print(*[r.getrlimit(x) for x in (r.RLIMIT_CPU, r.RLIMIT_NOFILE, r.RLIMIT_CORE)])"
    said = call(python(work, timeout_seconds=3), command=PYTHON, args=["-c", program])
    assert said["stdout"] in ("(4, 4) (64, 64) (0, 0)\n", "(3, 3) (64, 64) (0, 0)\n")


@pytest.mark.usefixtures("anything")
def test_no_descriptor_of_ours_is_open(work: Path, call: Call) -> None:
    with (work / "a.txt").open() as held:
        os.set_inheritable(held.fileno(), True)
        said = call(python(work), command=PYTHON, args=["-c", "import os; print(sorted(os.listdir('/proc/self/fd')))"])
    assert said["stdout"] == "['0', '1', '2', '3']\n"


@pytest.mark.usefixtures("anything")
def test_no_network_where_the_platform_can_forbid_it(work: Path, call: Call) -> None:
    if subprocess.run(["unshare", "-Urn", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this platform gives no network namespace")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        program = (
            f"import socket; socket.create_connection(('127.0.0.1', {listening.getsockname()[1]}), 2); print('in')"
        )
        said = call(python(work), command=PYTHON, args=["-c", program])
    assert said["exit_code"] == 1 and "in" not in said["stdout"].split()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become somebody else")
def test_the_launcher_without_being_root(work: Path) -> None:
    """The same through a user namespace, as on a worker that does not run as root."""
    if (
        not PYTHON
        or subprocess.run(["unshare", "-Urn", "true"], user=65534, check=False, capture_output=True).returncode
    ):
        pytest.skip("no system Python, or no user namespaces for everybody")
    for folder in [work, *list(work.parents)[:4]]:
        folder.chmod(0o755)
    launcher = work / "launcher.py"
    launcher.write_text(Path(process.__file__).with_name("launcher.py").read_text())
    script = work / "s.sh"
    script.write_text("id -u; cat /proc/net/dev | grep -c :; ulimit -n; grep NoNewPrivs /proc/self/status; env | sort")
    limits = process.Limits(1000, 1 << 29, 1 << 20).as_json(3)
    done = subprocess.run(
        [f"/usr/bin/{PYTHON}", "-I", "-S", launcher, limits, "/bin/sh", "sh", script],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        check=False,
        text=True,
        cwd=work,
        env={"A": "b"},
    )
    assert done.stderr == ""
    said = done.stdout.split()
    assert said[:5] == ["65534", "1", "64", "NoNewPrivs:", "1"]
    assert "A=b" not in said


def test_relative_folders_are_the_sessions_own(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = shell({"touch": [r"\w+"], "ls": [], "pwd": []}, "work")
    call(made, command="touch", args=["mine"], session="s1")
    assert call(made, command="ls", session="s1")["stdout"] == "mine\n"
    assert call(made, command="ls", session="s2")["stdout"] == ""
    assert made.body(context(session="s1", tenant="other"), {"command": "ls"})["stdout"] == ""
    where = Path(call(made, command="pwd", session="../../x")["stdout"].strip())
    assert where.is_relative_to(tmp_path) and where.name == "work"
    assert (next(tmp_path.iterdir()).stat().st_mode & 0o777) == 0o700


def test_a_work_folder_that_somebody_else_made_is_not_used(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tmp" / f"turnkeeper-work-{os.geteuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ToolError, match="not available"):
        call(shell({"ls": []}, "work"), command="ls")


def test_an_absolute_folder_is_made(call: Call, tmp_path: Path) -> None:
    assert call(shell({"ls": []}, tmp_path / "new" / "deep"), command="ls")["exit_code"] == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"commands": {"/bin/ls": []}, "cwd": "w"},
        {"commands": {"a/b": []}, "cwd": "w"},
        {"commands": {"-ls": []}, "cwd": "w"},
        {"commands": {"": []}, "cwd": "w"},
        {"commands": {"ls": ["("]}, "cwd": "w"},
        {"commands": {"ls": "-l"}, "cwd": "w"},
        {"commands": {"ls": []}, "cwd": "../w"},
        {"commands": {"ls": []}, "cwd": ""},
        {"commands": {"ls": []}, "cwd": "w", "max_bytes": 0},
        {"commands": {"ls": []}, "cwd": "w", "timeout_seconds": -1},
    ],
)
def test_what_cannot_be_is_refused_when_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        shell(**wrong)


def test_many_threads_at_once(work: Path) -> None:
    """Forking out of a threaded process must not hang: the launcher is exec'd at once."""
    made = tool(work, timeout_seconds=30)
    answers: list[Any] = []

    def run() -> None:
        for _ in range(3):
            answers.append(made.body(context(), {"command": "cat", "args": ["a.txt"]})["stdout"])

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == ["one\ntwo\n"] * 24


def test_no_zombie_and_no_descriptor_stays(work: Path, call: Call) -> None:
    made = tool(work, max_bytes=3)
    call(made, command="cat", args=["a.txt"])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        call(made, command="cat", args=["a.txt"])
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert subprocess.run(["pgrep", "-P", str(os.getpid()), "-r", "Z"], check=False, capture_output=True).stdout == b""


def test_further_roots_are_reached_and_nothing_beside_them(work: Path, call: Call, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "plan.txt").write_text("four\n")
    (docs / "out.txt").symlink_to(tmp_path / "secret.txt")
    (work / "docs").symlink_to(docs)
    (tmp_path / "docs2").mkdir()
    (tmp_path / "docs2" / "plan.txt").write_text("hunter2\n")
    reads = tool(work, roots=[docs])
    for path in (str(docs / "plan.txt"), "docs/plan.txt", "../docs/plan.txt"):
        assert call(reads, command="cat", args=[path])["stdout"] == "four\n"
        with pytest.raises(ToolDenied, match="leads out"):
            call(tool(work), command="cat", args=[path])
    for path in (
        str(docs / "out.txt"),
        "docs/out.txt",
        str(tmp_path / "docs2" / "plan.txt"),
        "../secret.txt",
        "/etc/passwd",
    ):
        with pytest.raises(ToolDenied, match=f"or inside {docs}"):
            call(reads, command="cat", args=[path])


@pytest.mark.parametrize("roots", ["docs", ["/"], ["../docs"]])
def test_roots_are_absolute_folders(work: Path, roots: Any) -> None:
    with pytest.raises(ValueError, match="absolute folders"):
        tool(work, roots=roots)
