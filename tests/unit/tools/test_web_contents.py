"""What inputs name by address, fetched from real servers on 127.0.0.1 through the guard."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.pages import PageRequest, PageServer, page, redirect
from turnkeeper.core.contents import MAX_IMAGE_BYTES, Download, Kind, most_bytes
from turnkeeper.core.errors import NotFetched
from turnkeeper.tools.web import contents
from turnkeeper.tools.web.address import AddressPolicy
from turnkeeper.tools.web.contents import GuardedWeb

PNG = b"\x89PNG\r\n\x1a\n and pixels"
Get = Callable[..., Download]


@pytest.fixture
def get(server: PageServer) -> Get:
    """From this server, which the guard is opened for."""
    web = GuardedWeb(AddressPolicy.of(["127.0.0.1/32"]), frozenset({"http"}))

    def fetch(path: str, kind: Kind = "image", seconds: float = 5.0) -> Download:
        url = path if "://" in path else f"http://127.0.0.1:{server.port}{path}"
        return web.get(url, most=lambda content_type: most_bytes(kind, content_type), timeout_seconds=seconds)

    return fetch


def refused(get: Callable[..., Download], *arguments: Any) -> NotFetched:
    with pytest.raises(NotFetched) as error:
        get(*arguments)
    return error.value


def test_a_content_with_what_the_server_says_of_it(server: PageServer, get: Get) -> None:
    server.pages["/a"] = page(PNG, content_type="Image/PNG; x=y")
    server.pages["/b"] = redirect("/a")
    server.pages["/c"] = page("Grüße".encode("latin-1"), content_type="text/plain; charset=ISO-8859-1")
    server.pages["/d"] = page(gzip.compress(b"%PDF-1.7"), content_type=None, Content_Encoding="gzip")
    assert get("/a") == get("/b?signed=1") == Download("image/png", PNG)
    assert get("/c", "document") == Download("text/plain", "Grüße".encode("latin-1"), "iso-8859-1")
    assert get("/d", "document") == Download("", b"%PDF-1.7")
    assert {"Authorization", "Cookie"}.isdisjoint(server.seen[0][2])


@pytest.mark.parametrize(
    ("status", "later"),
    [(204, 0), (304, 0), (401, 0), (403, 0), (404, 0), (410, 0), (408, 1), (425, 1), (429, 1), (500, 1), (503, 1)],
)
def test_an_answer_without_a_content_says_whether_it_may_work_later(
    server: PageServer, get: Get, status: int, later: int
) -> None:
    server.pages["/a"] = page(b"", status=status, content_type="image/png")
    error = refused(get, "/a")
    assert (error.retryable, str(status) in error.detail) == (bool(later), True)


def test_more_than_is_taken_and_other_kinds_are_refused(server: PageServer, get: Get) -> None:
    server.pages["/large"] = page(PNG.ljust(MAX_IMAGE_BYTES + 1), content_type="image/png")
    server.pages["/bomb"] = page(
        gzip.compress(bytes(MAX_IMAGE_BYTES + 1)), content_type="image/png", Content_Encoding="gzip"
    )
    server.pages["/fits"] = page(PNG.ljust(MAX_IMAGE_BYTES), content_type="image/png")
    server.pages["/page"] = page(b"<html>", content_type="text/html")
    assert len(get("/fits").data) == MAX_IMAGE_BYTES
    for path, why in {"/large": "larger than", "/bomb": "larger than", "/page": "text/html"}.items():
        error = refused(get, path)
        assert (error.retryable, why in error.detail) == (False, True)


def test_a_redirect_to_what_is_not_public_is_refused(server: PageServer, get: Get, names: dict[str, Any]) -> None:
    names["inside.example.com"] = ["10.0.0.1"]
    for location in ("http://169.254.169.254/latest", "http://inside.example.com/", "ftp://x", "http://[::1]/"):
        server.pages["/away"] = redirect(location)
        assert not refused(get, "/away").retryable
    server.pages["/round"] = redirect("/round")
    assert not refused(get, "/round").retryable


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1:{port}/a",
        "https://localhost:{port}/a",
        "https://inside.example.com:{port}/a",
        "https://both.example.com:{port}/a",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
        "https://user:s3cret@example.com/",
        "http://example.com/",
        "https://example.com/s3cret\\..",
        "https:example.com?s3cret",
        "https://example.com/" + "x" * contents.MAX_URL_CHARS,
    ],
)
def test_as_it_is_deployed_nothing_but_public_addresses_over_https(
    server: PageServer, names: dict[str, Any], url: str
) -> None:
    names["inside.example.com"] = ["10.0.0.1"]
    names["both.example.com"] = ["93.184.216.34", "127.0.0.1"]
    server.pages["/a"] = page(PNG, content_type="image/png")
    with pytest.raises(NotFetched) as refusal:
        GuardedWeb().get(url.format(port=server.port), most=lambda _: 1000, timeout_seconds=5)
    assert not refusal.value.retryable
    assert "s3cret" not in refusal.value.detail
    assert server.seen == []


def test_where_nobody_answers_it_may_work_later(server: PageServer, get: Get, names: dict[str, Any]) -> None:
    names["lost.example.com"] = []
    with socket.socket() as closed, socket.socket() as silent:
        closed.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for url in ("http://lost.example.com/", f"http://127.0.0.1:{closed.getsockname()[1]}/"):
            assert refused(get, url).retryable
        slow = refused(get, f"http://127.0.0.1:{silent.getsockname()[1]}/", "image", 0.2)
        assert slow.retryable and "longer than 0.2 s" in slow.detail

    def nonsense(request: PageRequest) -> None:
        request.wfile.write(b"nonsense\r\n\r\n")

    server.pages["/broken"] = nonsense
    assert refused(get, "/broken").retryable


def test_a_resolver_that_hangs_is_not_waited_for_to_the_end(
    get: Get, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "REACH_SECONDS", 0.05)
    hangs = threading.Event()
    names["slow.example.com"] = lambda: hangs.wait(10) and []
    error = refused(get, "http://slow.example.com/", "image", 60.0)
    hangs.set()
    assert error.retryable and "longer than 0.05 s" in error.detail
