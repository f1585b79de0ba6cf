"""http_fetch against real servers on 127.0.0.1."""

from __future__ import annotations

import gzip
import ipaddress
import json
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pages import Handler, PageRequest, PageServer, page, redirect, serving
from tests.unit.tools.conftest import Call
from turnkeeper.core.tools import Tool, ToolDenied, ToolError, content_of
from turnkeeper.tools import http_fetch
from turnkeeper.tools.web import body


def fetcher(server: PageServer, **keywords: Any) -> Tool:
    defaults: dict[str, Any] = {
        "domains": ["127.0.0.1", "localhost"],
        "ports": [server.port],
        "allow_private": ["127.0.0.1/32"],
        "timeout_seconds": 5,
    }
    return http_fetch(**{**defaults, **keywords})


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


def test_size_is_cut(server: PageServer, call: Call) -> None:
    server.pages["/"] = page(b"x" * 1001)
    server.pages["/fits"] = page(b"x" * 1000)
    server.pages["/umlauts"] = page("ä".encode("latin-1") * 800, content_type="text/plain; charset=ISO-8859-1")
    tool = fetcher(server, max_bytes=1000)
    answer = call(tool, url=f"http://127.0.0.1:{server.port}/")
    assert (answer["text"], answer["truncated"]) == ("x" * 1000, True)
    answer = call(tool, url=f"http://127.0.0.1:{server.port}/fits")
    assert (answer["text"], answer["truncated"]) == ("x" * 1000, False)
    answer = call(tool, url=f"http://127.0.0.1:{server.port}/umlauts")
    assert (answer["text"], answer["truncated"]) == ("ä" * 500, True)


def _bomb(wrap: int) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, wrap)
    return b"".join(squeeze.compress(bytes(1_000_000).replace(b"\0", b"A")) for _ in range(60)) + squeeze.flush()


@pytest.mark.parametrize(("encoding", "wrap"), [("gzip", 31), ("x-gzip", 31), ("deflate", 15), ("deflate", -15)])
def test_a_decompression_bomb_is_cut(encoding: str, wrap: int, server: PageServer, call: Call) -> None:
    import tracemalloc

    server.pages["/"] = page(_bomb(wrap), Content_Encoding=encoding)
    tracemalloc.start()
    answer = call(fetcher(server, max_bytes=10_000), url=f"http://127.0.0.1:{server.port}/")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answer["text"], answer["truncated"]) == ("A" * 10_000, True)
    assert peak < 8_000_000


def test_bombs_in_many_members_and_of_nothing(server: PageServer, call: Call) -> None:
    server.pages["/"] = page(gzip.compress(b"ab") * 3 + gzip.compress(b""), Content_Encoding="gzip")
    assert call(fetcher(server), url=f"http://127.0.0.1:{server.port}/")["text"] == "ababab"
    server.pages["/"] = page(gzip.compress(b"") * 100_000, Content_Encoding="gzip")
    with pytest.raises(ToolError):
        call(fetcher(server, max_bytes=1000), url=f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "utf-7"])
def test_an_encoding_that_was_not_asked_for(encoding: str, server: PageServer, call: Call) -> None:
    server.pages["/"] = page(b"x", Content_Encoding=encoding)
    with pytest.raises(ToolError, match="gzip"):
        call(fetcher(server), url=f"http://127.0.0.1:{server.port}/")
    server.pages["/"] = page(b"this is not gzip", Content_Encoding="gzip")
    with pytest.raises(ToolError, match="encoding"):
        call(fetcher(server), url=f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize(
    ("content_type", "ok"),
    [
        ("text/plain", True),
        ("TEXT/HTML;charset=x", True),
        ("application/json", True),
        ("application/xml", True),
        ("application/ld+json", True),
        ("image/svg+xml", False),
        ("application/atom+xml", True),
        ("image/png", False),
        ("application/octet-stream", False),
        ("application/pdf", False),
        ("video/mp4", False),
        ("multipart/mixed", False),
    ],
)
def test_content_types(content_type: str, ok: bool, server: PageServer, call: Call) -> None:
    server.pages["/"] = page(b"<x/>", content_type=content_type)
    tool = fetcher(server, methods=["GET", "HEAD"])
    if ok:
        assert call(tool, url=f"http://127.0.0.1:{server.port}/")["text"] == "<x/>"
    else:
        with pytest.raises(ToolDenied, match=r"Allowed: text/\*"):
            call(tool, url=f"http://127.0.0.1:{server.port}/")
    assert call(tool, url=f"http://127.0.0.1:{server.port}/", method="HEAD")["status"] == 200


def test_a_missing_content_type(server: PageServer, call: Call) -> None:
    server.pages["/"] = page("täxt".encode(), content_type=None)
    assert call(fetcher(server), url=f"http://127.0.0.1:{server.port}/")["content_type"] == "text/plain"
    with pytest.raises(ToolDenied):
        call(fetcher(server, content_types=["application/json"]), url=f"http://127.0.0.1:{server.port}/")
    server.pages["/"] = page(b"\x89PNG\r\n\x00\x01", content_type=None)
    with pytest.raises(ToolDenied):
        call(fetcher(server), url=f"http://127.0.0.1:{server.port}/")


@pytest.mark.parametrize(
    "charset",
    ["utf-7", "idna", "punycode", "unicode_escape", "zlib", "nonsense", "utf16le", "iso-8859-12", "utf-8", '"UTF-8"'],
)
def test_odd_charsets_are_read_as_utf8(charset: str, server: PageServer, call: Call) -> None:
    server.pages["/"] = page("ä+AG8-".encode(), content_type=f"text/plain; charset={charset}")
    assert call(fetcher(server), url=f"http://127.0.0.1:{server.port}/")["text"] == "ä+AG8-"


@given(st.from_regex(body._CHARSETS, fullmatch=True))
def test_every_charset_that_is_read_has_a_decoder(charset: str) -> None:
    assert isinstance(body.text_of(b"abcd", charset), str)


def test_control_characters_do_not_reach_the_model(server: PageServer, call: Call) -> None:
    server.pages["/"] = page(b"a\x1b[31m\x00\x07b\n\xff")
    assert call(fetcher(server), url=f"http://127.0.0.1:{server.port}/")["text"] == "a\ufffd[31m\ufffd\ufffdb\n\ufffd"


def _dripping(request: PageRequest, first: bytes, every: float) -> None:
    request.wfile.write(first)
    for _ in range(200):
        request.wfile.write(b"x")
        request.wfile.flush()
        time.sleep(every)


@pytest.mark.parametrize(
    "first",
    [b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 9999\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-", b"HTT"],
)
def test_a_drip_is_given_up_in_all(first: bytes, server: PageServer, call: Call) -> None:
    server.pages["/"] = lambda request: _dripping(request, first, 0.1)
    started = time.monotonic()
    with pytest.raises(ToolError, match=r"longer than|not answer in HTTP"):
        call(fetcher(server, timeout_seconds=0.4), url=f"http://127.0.0.1:{server.port}/")
    assert time.monotonic() - started < 2


def test_a_drip_over_redirects_counts_together(server: PageServer, call: Call) -> None:
    def slow(request: PageRequest) -> None:
        time.sleep(0.15)
        redirect("/")(request)

    server.pages["/"] = slow
    started = time.monotonic()
    with pytest.raises(ToolError, match="longer than"):
        call(fetcher(server, timeout_seconds=0.4), url=f"http://127.0.0.1:{server.port}/")
    assert time.monotonic() - started < 2


def test_the_calls_own_deadline_counts(server: PageServer, call: Call) -> None:
    server.pages["/"] = lambda request: time.sleep(3)
    started = time.monotonic()
    with pytest.raises(ToolError, match="longer than"):
        call(fetcher(server, timeout_seconds=30), url=f"http://127.0.0.1:{server.port}/", seconds=0.5)
    assert time.monotonic() - started < 2
    with pytest.raises(ToolError, match="No time"):
        call(fetcher(server), url=f"http://127.0.0.1:{server.port}/", seconds=-1)


def test_a_resolver_that_hangs_is_left_behind(names: dict[str, Any], call: Call) -> None:
    def hang() -> list[str]:
        time.sleep(3)
        return ["8.8.8.8"]

    names["slow.example.com"] = hang
    started = time.monotonic()
    with pytest.raises(ToolError, match="longer than"):
        call(http_fetch(domains=["slow.example.com"], timeout_seconds=0.5), url="http://slow.example.com/")
    assert time.monotonic() - started < 2


def _raw(answer: bytes) -> Handler:
    def write(request: PageRequest) -> None:
        request.wfile.write(answer)

    return write


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Type: text/plain\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 300_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
    ],
)
def test_broken_answers_are_errors_in_words(answer: bytes, server: PageServer, call: Call) -> None:
    server.pages["/"] = _raw(answer)
    with pytest.raises(ToolError, match=r"HTTP|protocols|longer"):
        call(fetcher(server, max_bytes=1000, timeout_seconds=3), url=f"http://127.0.0.1:{server.port}/")


def test_nobody_there(server: PageServer, call: Call, names: dict[str, Any]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(ToolError, match="could not be reached"):
            call(fetcher(server, ports=[port]), url=f"http://127.0.0.1:{port}/")
    names["nowhere.example.com"] = []
    with pytest.raises(ToolError, match="could not be found"):
        call(fetcher(server, domains=["nowhere.example.com"]), url=f"http://nowhere.example.com:{server.port}/")


def test_the_second_address_is_tried(server: PageServer, call: Call, names: dict[str, Any]) -> None:
    server.pages["/"] = page(b"ok")
    names["two.example.com"] = ["127.0.0.2", "127.0.0.1"]
    tool = fetcher(server, domains=["two.example.com"], allow_private=["127.0.0.0/24"])
    assert call(tool, url=f"http://two.example.com:{server.port}/")["text"] == "ok"


@pytest.mark.parametrize("arguments", [{}, {"url": 5}, {"url": "http://a.org/", "x": 1}, {"url": None}, {"url": ["a"]}])
def test_wrong_arguments(arguments: dict[str, Any], call: Call) -> None:
    from pydantic import ValidationError

    with pytest.raises(ValidationError):
        call(http_fetch(domains=["a.org"]), **arguments)


# --- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "secure.example.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("secure.example.com")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "pair.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def secure(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PageServer, list[str | None]]]:
    from turnkeeper.tools.web import network

    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(network, "tls", lambda: trusting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    indications: list[str | None] = []
    context.sni_callback = lambda sock, name, _: indications.append(name)
    server = PageServer({"/": page(b"safe")})
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with serving(server) as running:
        yield running, indications


def test_tls_checks_and_names_the_host(
    secure: tuple[PageServer, list[str | None]], names: dict[str, Any], call: Call
) -> None:
    server, indications = secure
    names["secure.example.com"] = names["other.example.com"] = ["127.0.0.1"]
    tool = fetcher(server, domains=["secure.example.com", "other.example.com", "127.0.0.1"])
    assert call(tool, url=f"https://secure.example.com:{server.port}/")["text"] == "safe"
    assert indications == ["secure.example.com"]
    assert server.seen[0][2]["Host"] == f"secure.example.com:{server.port}"
    for other in ("other.example.com", "127.0.0.1"):
        with pytest.raises(ToolError, match="no valid TLS certificate"):
            call(tool, url=f"https://{other}:{server.port}/")
    server.pages["/down"] = redirect(f"http://secure.example.com:{server.port}/")
    with pytest.raises(ToolDenied, match="https to http"):
        call(tool, url=f"https://secure.example.com:{server.port}/down")


def test_a_certificate_of_nobody_we_know(
    secure: tuple[PageServer, list[str | None]], names: dict[str, Any], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    from turnkeeper.tools.web import network

    server, _ = secure
    monkeypatch.setattr(network, "tls", ssl.create_default_context)
    names["secure.example.com"] = ["127.0.0.1"]
    with pytest.raises(ToolError, match="certificate"):
        call(fetcher(server, domains=["secure.example.com"]), url=f"https://secure.example.com:{server.port}/")


def test_a_handshake_that_hangs(call: Call, server: PageServer) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        port = silent.getsockname()[1]
        started = time.monotonic()
        with pytest.raises(ToolError, match="longer than"):
            call(fetcher(server, ports=[port], timeout_seconds=0.5), url=f"https://127.0.0.1:{port}/")
        assert time.monotonic() - started < 2


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
