"""read_files on a local folder, and on S3."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.unit.tools.conftest import Call, context
from turnkeeper.core.tools import Tool, ToolDenied, ToolError
from turnkeeper.tools import read_files
from turnkeeper.tools.files.paths import parts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "a.txt").write_text("Grüße\n")
    (root / "sub" / "b.md").write_text("# b\n")
    (root / "sub" / "empty").write_text("")
    (root / "%2e%2e").mkdir()
    (root / "binary").write_bytes(b"\x7fELF\x00\x01")
    (tmp_path / "secret.txt").write_text("hunter2")
    (tmp_path / "rootless").mkdir()
    (tmp_path / "rootless" / "x.txt").write_text("hunter2")
    (root / "out").symlink_to(tmp_path)
    (root / "leak").symlink_to(tmp_path / "secret.txt")
    (root / "inside").symlink_to("a.txt")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    return root


ESCAPES = [
    "../secret.txt",
    "..",
    "sub/../../secret.txt",
    "./../secret.txt",
    "sub/..",
    "sub/../a.txt",
    "/etc/passwd",
    "//etc/passwd",
    "/",
    "../rootless/x.txt",
    "..\\secret.txt",
    "sub\\..\\..\\secret.txt",
    "C:\\x",
    "%2e%2e/secret.txt",
    "%2E%2E%2Fsecret.txt",
    "..%2fsecret.txt",
    "%252e%252e%252fsecret.txt",
    "%25252e%25252e/x",
    "..%5csecret.txt",
    "%2fetc%2fpasswd",
    "a.txt\0",
    "a.txt\0.md",
    "a%00.txt",
    "a.txt\n",
    "\x1b",
    "~/x",
    "~root/x",
    "~",
    "file:///etc/passwd",
    "s3://other/x",
    "http://x/",
    "\uff0e\uff0e/secret.txt",
    "..\uff0fsecret.txt",
    "\u2025/x",
    "%c0%ae%c0%ae/secret.txt/..",
    "x" * 2000,
    "a\u202etxt",
    "\ud800",
]


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leads_out(path: str, root: Path, call: Call) -> None:
    for arguments in ({"path": path}, {"path": path, "list": True}):
        with pytest.raises(ToolDenied):
            call(read_files(root), **arguments)


@pytest.mark.parametrize(
    "path", ["leak", "out/secret.txt", "out", "out/root/a.txt", "inside", "loop", "sub/../leak", "leak/x"]
)
def test_no_link_is_followed(path: str, root: Path, call: Call) -> None:
    for arguments in ({"path": path}, {"path": path, "list": True}):
        with pytest.raises(ToolDenied):
            call(read_files(root), **arguments)


@given(st.text(alphabet="./\\~%2ef\0 a", max_size=12))
def test_whatever_is_left_of_a_path_is_below(path: str) -> None:
    try:
        names = parts(path)
    except ToolDenied:
        return
    assert all(name not in ("", ".", "..") and "/" not in name for name in names)


def test_a_file(root: Path, call: Call) -> None:
    tool = read_files(root=root)
    expected = {"path": "a.txt", "size_bytes": 8, "text": "Grüße\n", "truncated": False}
    for path in ("a.txt", "./a.txt", ".//a.txt"):
        assert call(tool, path=path) == expected
    assert call(tool, path="sub/b.md")["text"] == "# b\n"
    assert call(tool, path="sub/empty")["text"] == ""
    assert (tool.effect, tool.name, tool.untrusted) == ("read", "read_files", True)


def test_a_folder(root: Path, call: Call) -> None:
    listed = call(read_files(str(root)), path=".", list=True)
    assert listed == call(read_files(root), path=".") == call(read_files(root), path="")
    assert listed["path"] == "." and not listed["truncated"]
    assert {entry["name"]: entry["type"] for entry in listed["entries"]} == {
        "%2e%2e": "folder",
        "a.txt": "file",
        "binary": "file",
        "inside": "link",
        "leak": "link",
        "loop": "link",
        "out": "link",
        "pipe": "other",
        "sub": "folder",
    }
    assert {"name": "empty", "type": "file", "size_bytes": 0} in call(read_files(root), path="sub/", list=True)[
        "entries"
    ]


def test_what_is_not_there(root: Path, call: Call) -> None:
    for arguments in ({"path": "none"}, {"path": "none/x"}, {"path": "a.txt", "list": True}, {"path": "n" * 300}):
        with pytest.raises(ToolError) as error:
            call(read_files(root), **arguments)
        assert not isinstance(error.value, ToolDenied) and str(root) not in str(error.value)
    with pytest.raises(ToolError):
        call(read_files(root), path="a.txt/x")
    with pytest.raises(ToolError) as error:
        call(read_files(root / "nowhere"), path=".")
    assert str(root) not in str(error.value)


def test_special_files_never_block(root: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(root)
        listening.bind("socket")
        for path in ("pipe", "socket"):
            with pytest.raises(ToolDenied, match="device, pipe or socket"):
                call(read_files(root), path=path)
    with pytest.raises(ToolDenied):
        call(read_files("/dev"), path="zero")
    assert time.monotonic() - started < 2


def test_binary_says_so(root: Path, call: Call) -> None:
    (root / "noise").write_bytes(bytes(range(128, 256)) * 20)
    (root / "wide").write_text("text", encoding="utf-16")
    for path in ("binary", "noise", "wide"):
        with pytest.raises(ToolError, match="binary"):
            call(read_files(root), path=path)
    (root / "nearly").write_bytes(b"almost all of this is text \xff really")
    assert "\ufffd" in call(read_files(root), path="nearly")["text"]


def test_size_is_cut_and_can_be_gone_on_with(root: Path, call: Call) -> None:
    whole = "äöü€𝄞x" * 300
    (root / "long").write_text(whole)
    tool = read_files(root, max_bytes=100)
    text, offset = "", 0
    for _ in range(200):
        answer = call(tool, path="long", offset=offset)
        assert len(answer["text"].encode()) <= 100
        text += answer["text"]
        if not answer["truncated"]:
            break
        offset = answer["next_offset"]
    assert text == whole
    assert call(tool, path="long", offset=10**9)["text"] == ""
    (root / "sparse").touch()
    os.truncate(root / "sparse", 10**12)
    with pytest.raises(ToolError, match="binary"):
        call(tool, path="sparse")
    for wrong in (-1, "5", 1.5):
        with pytest.raises(ValidationError):
            call(tool, path="long", offset=wrong)


def test_a_big_folder_is_cut(root: Path, call: Call) -> None:
    for number in range(1100):
        (root / "sub" / "deep" / f"{number:04}").touch()
    listed = call(read_files(root), path="sub/deep")
    assert listed["truncated"] and len(listed["entries"]) == 1000
    assert len(call(read_files(root, max_bytes=500), path="sub/deep")["entries"]) < 15


def test_a_swapped_link_is_never_followed(root: Path) -> None:
    """Somebody swaps a folder for a link over and over while it is read."""
    tool, stop = read_files(root), threading.Event()
    outside = root.parent / "rootless"
    (root / "swap").mkdir()
    (root / "swap" / "x.txt").write_text("fine")

    def swap() -> None:
        while not stop.is_set():
            (root / "swap").rename(root / "kept")
            (root / "swap").symlink_to(outside)
            (root / "swap").unlink()
            (root / "kept").rename(root / "swap")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(1500):
            with contextlib.suppress(ToolError):
                assert tool.body(context(), {"path": "swap/x.txt"})["text"] == "fine"
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize(
    "wrong",
    [
        {"root": ""},
        {"root": "s3://"},
        {"root": "http://x/"},
        {"root": "s3://b/../x"},
        {"root": "a\0b"},
        {"root": ".", "max_bytes": 0},
    ],
)
def test_what_cannot_be_is_refused_when_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_files(**wrong)


def test_wrong_arguments(root: Path, call: Call) -> None:
    for wrong in (
        {},
        {"path": 5},
        {"path": "a.txt", "root": "/"},
        {"path": ["a.txt"]},
        {"path": "a.txt", "list": "yes"},
    ):
        with pytest.raises(ValidationError):
            call(read_files(root), **wrong)


# --- S3


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import boto3
    from moto import mock_aws

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        client = boto3.client("s3")
        client.create_bucket(Bucket="files")
        for key, data in {
            "docs/a.txt": "Grüße\n".encode(),
            "docs/sub/b.md": b"# b",
            "docs/empty": b"",
            "docs/bin": b"\0\1",
            "docs/": b"",
            "docsecret/x": b"hunter2",
            "secret": b"hunter2",
            "docs/../secret": b"hunter2",
            "docs/big": b"x" * 5000,
        }.items():
            client.put_object(Bucket="files", Key=key, Body=data)
        yield client


@pytest.fixture
def s3_tool(bucket: Any) -> Tool:
    return read_files(root="s3://files/docs", max_bytes=1000)


def test_s3_reads_and_lists(s3_tool: Tool, call: Call) -> None:
    assert call(s3_tool, path="a.txt") == {"path": "a.txt", "size_bytes": 8, "text": "Grüße\n", "truncated": False}
    assert call(s3_tool, path="sub/b.md")["text"] == "# b"
    assert call(s3_tool, path="empty") == {"path": "empty", "size_bytes": 0, "text": "", "truncated": False}
    names = [entry["name"] for entry in call(s3_tool, path=".", list=True)["entries"]]
    assert {"a.txt", "bin", "big", "empty", "sub"} <= set(names) and "x" not in names
    assert call(s3_tool, path="sub")["entries"] == [{"name": "b.md", "type": "file", "size_bytes": 3}]
    with pytest.raises(ToolError, match="binary"):
        call(s3_tool, path="bin")
    with pytest.raises(ToolError, match="no 'none'"):
        call(s3_tool, path="none")


def test_s3_is_cut(s3_tool: Tool, call: Call) -> None:
    answer = call(s3_tool, path="big")
    assert (len(answer["text"]), answer["truncated"], answer["next_offset"], answer["size_bytes"]) == (
        1000,
        True,
        1000,
        5000,
    )
    assert call(s3_tool, path="big", offset=4900)["text"] == "x" * 100
    assert call(s3_tool, path="big", offset=9999)["text"] == ""


@pytest.mark.parametrize("path", ESCAPES)
def test_s3_no_path_leads_out(path: str, s3_tool: Tool, call: Call) -> None:
    for arguments in ({"path": path}, {"path": path, "list": True}):
        with pytest.raises(ToolDenied):
            call(s3_tool, **arguments)


def test_s3_a_neighbour_with_the_same_beginning_is_out_of_reach(s3_tool: Tool, call: Call) -> None:
    for path in ("ecret/x", "docsecret/x"):
        with pytest.raises(ToolError):
            call(s3_tool, path=path)


def test_s3_failures_are_words(bucket: Any, call: Call) -> None:
    with pytest.raises(ToolError, match="cannot be read"):
        call(read_files(root="s3://no-such-bucket/x"), path="a")
    assert call(read_files(root="s3://files"), path="secret")["text"] == "hunter2"  # a whole bucket, if one says so
