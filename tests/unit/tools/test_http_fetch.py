"""http_fetch against real servers on 127.0.0.1."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import PageServer, page, redirect, serving
from tests.unit.tools.conftest import Call, fetcher
from turnkeeper.core.tools import ToolDenied, ToolError, content_of
from turnkeeper.tools import http_fetch


def test_a_page(server: PageServer, call: Call) -> None:
    server.pages["/a"] = page("Grüße".encode(), content_type="text/html; charset=utf-8")
    answer = call(fetcher(server), url=f"http://127.0.0.1:{server.port}/a?b=c#d")
    assert answer == {
        "status": 200,
        "url": f"http://127.0.0.1:{server.port}/a?b=c",
        "content_type": "text/html",
        "text": "Grüße",
        "truncated": False,
    }
    assert json.loads(content_of(answer)[0]["text"]) == answer
    method, path, headers = server.seen[0]
    assert (method, path, headers["Host"]) == ("GET", "/a?b=c", f"127.0.0.1:{server.port}")


def test_status_is_told_not_raised(server: PageServer, call: Call) -> None:
    answer = call(fetcher(server), url=f"http://127.0.0.1:{server.port}/none")
    assert (answer["status"], answer["text"]) == (404, "not here")


def test_effects_schema_and_names() -> None:
    assert http_fetch(domains=[]).effect == "read"
    assert http_fetch(domains=["a.org"], methods=["get", "HEAD"]).effect == "read"
    assert http_fetch(domains=["a.org"], methods=["GET", "POST"]).effect == "once"
    tool = http_fetch(domains=["a.org"], name="look", scopes={"web"}, description="Look.", timeout_seconds=3)
    assert (tool.name, tool.scopes, tool.description, tool.timeout_seconds) == ("look", {"web"}, "Look.", 3)
    assert "a.org" in http_fetch(domains=["A.org."]).description
    schema = tool.schema()
    assert schema["required"] == ["url"] and schema["additionalProperties"] is False and tool.untrusted


@pytest.mark.parametrize(
    "wrong",
    [
        {"domains": ["*.example.com"]},
        {"domains": ["https://example.com"]},
        {"domains": ["example.com:443"]},
        {"domains": ["example.com/x"]},
        {"domains": ["127.1"]},
        {"domains": ["0x7f000001"]},
        {"domains": [""]},
        {"domains": ["*"]},
        {"domains": ["a.org"], "methods": ["CONNECT"]},
        {"domains": ["a.org"], "methods": ["TRACE"]},
        {"domains": ["a.org"], "ports": [0]},
        {"domains": ["a.org"], "ports": ["80"]},
        {"domains": ["a.org"], "ports": [True]},
        {"domains": ["a.org"], "max_bytes": 0},
        {"domains": ["a.org"], "timeout_seconds": 0},
        {"domains": ["a.org"], "timeout_seconds": float("nan")},
        {"domains": ["a.org"], "allow_private": ["10.0.0.1/8"]},
        {"domains": ["a.org"], "name": "no spaces"},
    ],
)
def test_what_cannot_be_is_refused_when_made(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        http_fetch(**wrong)


def test_one_string_is_not_a_list() -> None:
    for wrong in ({"domains": "example.com"}, {"domains": ["a.org"], "methods": "GET"}):
        with pytest.raises(TypeError):
            http_fetch(**wrong)


@pytest.mark.parametrize(
    "host",
    [
        "evil-example.com",
        "example.com.evil.org",
        "sub.example.com",
        "examplecom",
        "example.co",
        "xample.com",
        "example.com.",
        "EXAMPLE.COM.evil.org",
        "localhost",
        "127.0.0.1",
        "[::1]",
        "169.254.169.254",
        "metadata.google.internal",
        "ex\u0430mple.com",
        "2130706433",
        "example.com%00",
        "www.example.com",
    ],
)
def test_only_the_listed_host_is_reached(host: str, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any, **keywords: Any) -> Any:
        raise AssertionError("looked up or connected")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    monkeypatch.setattr(socket.socket, "connect", never)
    if host == "example.com.":
        host = "example.org."
    with pytest.raises(ToolDenied):
        call(http_fetch(domains=["example.com"], ports=[80]), url=f"http://{host}/")


def test_a_refusal_says_what_is_allowed(call: Call) -> None:
    tool = http_fetch(domains=["api.example.com"], methods=["GET", "POST"], ports=[443])
    for arguments, words in (
        ({"url": "https://other.example.com/"}, "api.example.com"),
        ({"url": "https://api.example.com:22/"}, "443"),
        ({"url": "http://api.example.com/"}, "443"),
        ({"url": "https://api.example.com/", "method": "DELETE"}, "GET, POST"),
        ({"url": "ftp://api.example.com/"}, "http and https"),
        ({"url": "https://api.example.com/", "headers": {"Authorization": "x"}}, "accept"),
        ({"url": "https://api.example.com/", "headers": {"cookie": "x"}}, "accept"),
        ({"url": "https://api.example.com/", "headers": {"Host": "x"}}, "accept"),
        ({"url": "https://api.example.com/", "headers": {"accept": "a\r\nHost: b"}}, "printable"),
        ({"url": "https://api.example.com/", "headers": {"acc\r\nept": "b"}}, "accept"),
        ({"url": "https://api.example.com/", "body": "x"}, "POST"),
    ):
        with pytest.raises(ToolDenied, match=words):
            call(tool, **arguments)
    with pytest.raises(ToolDenied) as denied:
        call(tool, url="https://me:hunter2@api.example.com/")
    assert "hunter2" not in str(denied.value)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["::1"],
        ["fd00:ec2::254"],
        ["::ffff:127.0.0.1"],
        ["0.0.0.0"],
        ["fe80::1%lo"],
        ["64:ff9b::7f00:1"],
        ["8.8.8.8", "127.0.0.1"],
        ["127.0.0.1", "8.8.8.8"],
        ["100.64.0.1"],
    ],
)
def test_a_name_that_leads_inside_is_refused(
    addresses: list[str], names: dict[str, Any], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(socket.socket, "connect", never)
    names["example.com"] = addresses
    with pytest.raises(ToolDenied, match="public"):
        call(http_fetch(domains=["example.com"]), url="http://example.com/")


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "169.254.169.254", "[::ffff:169.254.169.254]", "0.0.0.0"])
def test_a_listed_private_address_needs_to_be_opened_too(host: str, call: Call) -> None:
    with pytest.raises(ToolDenied, match="public"):
        call(http_fetch(domains=[host]), url=f"http://{host}/")


def test_rebinding_finds_the_checked_address(server: PageServer, names: dict[str, Any], call: Call) -> None:
    """The name's second answer would be another server: it is never asked for."""
    with serving(PageServer({"/": page(b"the inside")})) as _inside:
        answers = iter([["127.0.0.1"], ["127.0.0.2"], ["169.254.169.254"]])
        names["rebind.example.com"] = lambda: next(answers)
        server.pages["/"] = page(b"the outside")
        tool = fetcher(server, domains=["rebind.example.com"])
        answer = call(tool, url=f"http://rebind.example.com:{server.port}/")
        assert answer["text"] == "the outside"
        assert names["asked"] == ["rebind.example.com"]
        assert server.seen[0][2]["Host"] == f"rebind.example.com:{server.port}"
        with pytest.raises(ToolDenied):
            call(tool, url=f"http://rebind.example.com:{server.port}/")


def test_a_redirect_is_resolved_and_checked_again(server: PageServer, names: dict[str, Any], call: Call) -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])
    names["rebind.example.com"] = lambda: next(answers)
    server.pages["/"] = redirect("/next")
    with pytest.raises(ToolDenied, match="public"):
        call(fetcher(server, domains=["rebind.example.com"]), url=f"http://rebind.example.com:{server.port}/")


def test_redirects_are_followed_within_what_is_allowed(server: PageServer, call: Call) -> None:
    server.pages["/1"] = redirect("2", 301)
    server.pages["/2"] = redirect(f"http://localhost:{server.port}/3", 307)
    server.pages["/3"] = page(b"there")
    answer = call(fetcher(server), url=f"http://127.0.0.1:{server.port}/1", headers={"Accept": "text/x"})
    assert (answer["text"], answer["url"]) == ("there", f"http://localhost:{server.port}/3")
    assert [path for _, path, _ in server.seen] == ["/1", "/2", "/3"]


@pytest.mark.parametrize(
    "to",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]/",
        "http://evil.org/",
        "//evil.org/",
        "file:///etc/passwd",
        "http://127.0.0.1:1/",
        "ftp://127.0.0.1/",
        "http://user:pw@127.0.0.1/",
        "http://2130706433/",
        "\\\\evil.org",
        "gopher://127.0.0.1:6379/_x",
        "http://127.0.0.1.evil.org/",
        "https://evil.org/",
        "javascript:alert(1)",
    ],
)
def test_a_redirect_out_is_refused(to: str, server: PageServer, call: Call) -> None:
    server.pages["/"] = redirect(to)
    with pytest.raises(ToolDenied):
        call(fetcher(server), url=f"http://127.0.0.1:{server.port}/")


def test_redirects_end(server: PageServer, call: Call) -> None:
    server.pages["/"] = redirect("/")
    with pytest.raises(ToolError, match="more than 5"):
        call(fetcher(server), url=f"http://127.0.0.1:{server.port}/")
    assert len(server.seen) == 6


def test_what_is_posted(server: PageServer, call: Call) -> None:
    tool = fetcher(server, methods=["GET", "POST", "DELETE"])
    server.pages["/"] = page(b"ok")
    call(tool, url=f"http://127.0.0.1:{server.port}/", method="post", body="{}", headers={"Content-Type": "a/b"})
    call(tool, url=f"http://127.0.0.1:{server.port}/", method="POST")
    call(tool, url=f"http://127.0.0.1:{server.port}/", method="DELETE")
    assert server.bodies == [b"{}", b"", b""]
    assert server.seen[0][2]["Content-Type"] == "a/b"
    with pytest.raises(ToolDenied, match="at most"):
        call(tool, url=f"http://127.0.0.1:{server.port}/", method="POST", body="x" * 200_000)


@pytest.mark.parametrize(("status", "method", "body"), [(302, "GET", b""), (303, "GET", b""), (307, "POST", b"hi")])
def test_a_post_that_is_redirected(status: int, method: str, body: bytes, server: PageServer, call: Call) -> None:
    server.pages["/"] = redirect("/x", status)
    server.pages["/x"] = page(b"ok")
    call(fetcher(server, methods=["GET", "POST"]), url=f"http://127.0.0.1:{server.port}/", method="POST", body="hi")
    assert (server.seen[1][0], server.bodies[1]) == (method, body)
    if status != 307:
        with pytest.raises(ToolDenied, match="GET"):
            call(fetcher(server, methods=["POST"]), url=f"http://127.0.0.1:{server.port}/", method="POST", body="hi")


def test_nothing_of_ours_goes_along(
    server: PageServer, call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No proxy, no netrc, no cookie that an earlier answer set."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    (tmp_path / "netrc").write_text("default login me password hunter2")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    server.pages["/"] = lambda request: request.answer(b"", status=302, Location="/x", Set_Cookie="a=b; Path=/")
    server.pages["/x"] = page(b"ok")
    tool = fetcher(server)
    for _ in range(2):
        assert call(tool, url=f"http://127.0.0.1:{server.port}/")["text"] == "ok"
    for _, _, headers in server.seen:
        assert {key.lower() for key in headers} == {"host", "user-agent", "accept", "accept-encoding"}


@pytest.mark.parametrize("arguments", [{}, {"url": 5}, {"url": "http://a.org/", "x": 1}, {"url": None}, {"url": ["a"]}])
def test_wrong_arguments(arguments: dict[str, Any], call: Call) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        call(http_fetch(domains=["a.org"]), **arguments)


def test_forms_of_loopback_never_connect(server: PageServer, call: Call) -> None:
    """A server that listens on loopback, a tool without allow_private: no way of writing it gets there."""
    server.pages["/"] = page(b"the inside")
    packed = struct.unpack("!I", ipaddress.IPv4Address("127.0.0.1").packed)[0]
    forms = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0",
        "0.0.0.0",
        str(packed),
        hex(packed),
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "localhost",
        "LOCALHOST.",
        "\u2460\u2461\u2466.0.0.1",
        "127\u30020.0.1",
        "localhost.localdomain",
        "ip6-localhost",
    ]
    listed = [
        "127.0.0.1",
        "::1",
        "::",
        "0.0.0.0",
        "localhost",
        "localhost.localdomain",
        "ip6-localhost",
        "::127.0.0.1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::",
    ]
    tool = http_fetch(domains=listed, ports=[server.port])
    for form in forms:
        with pytest.raises(ToolError):
            call(tool, url=f"http://{form}:{server.port}/")
    assert server.seen == []
