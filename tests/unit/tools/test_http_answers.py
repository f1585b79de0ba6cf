"""What http_fetch does with answers: sizes, encodings, charsets, drips, and what is broken."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.pages import Handler, PageRequest, PageServer, page, redirect
from tests.unit.tools.conftest import Call, fetcher
from turnkeeper.core.tools import ToolDenied, ToolError
from turnkeeper.tools import http_fetch
from turnkeeper.tools.web import body


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
