"""Webhooks on the wire: where a post may go, and what comes of each kind of receiver."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.hook_receiver import HookReceiver, hook_receiver
from turnkeeper.core.errors import InvalidRequest, NotPosted
from turnkeeper.tools.web import network
from turnkeeper.tools.web.address import normal
from turnkeeper.tools.web.posting import HEAD_BYTES, GuardedPosts

HERE = ("127.0.0.0/8",)


@pytest.fixture(scope="module")
def receiver() -> Iterator[HookReceiver]:
    with hook_receiver() as found:
        yield found


def test_what_is_posted_arrives_as_it_is(receiver: HookReceiver) -> None:
    posted = GuardedPosts(HERE).post(receiver.url("fine"), {"webhook-id": "evt_1"}, b'{"a": 1}', timeout_seconds=5)
    [came] = receiver.at("fine")
    assert (posted.status, came.body, came.headers["webhook-id"]) == (204, b'{"a": 1}', "evt_1")


@pytest.mark.parametrize(("path", "status"), [("gone", 410), ("redirect", 302), ("onwards", 307), ("large", 500)])
def test_an_answer_is_told_as_it_is_and_no_redirect_followed(receiver: HookReceiver, path: str, status: int) -> None:
    before = len(receiver.received)
    posted = GuardedPosts(HERE).post(receiver.url(path), {}, b"{}", timeout_seconds=5)
    assert posted.status == status
    assert len(posted.head) <= HEAD_BYTES
    assert len(receiver.received) == before + 1


def test_one_that_hangs_is_given_up(receiver: HookReceiver) -> None:
    with pytest.raises(NotPosted):
        GuardedPosts(HERE).post(receiver.url("hang"), {}, b"{}", timeout_seconds=0.3)


def test_nobody_there_is_no_answer() -> None:
    with pytest.raises(NotPosted):
        GuardedPosts(HERE).post("http://127.0.0.1:9/turns", {}, b"{}", timeout_seconds=2)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"])
def test_a_name_that_leads_to_an_address_that_is_not_public_is_not_connected_to(
    address: str, receiver: HookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it led to when it was named: it is looked at when it is connected to."""
    monkeypatch.setattr(network, "resolve", lambda _target, _deadline: [normal(address)])
    before = len(receiver.received)
    with pytest.raises(NotPosted, match="not public"):
        GuardedPosts().post(f"https://hooks.example.com:{receiver.port}/fine", {}, b"{}", timeout_seconds=2)
    assert len(receiver.received) == before


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("https://hooks.example.com/turns?key=1", True),
        ("https://HOOKS.example.com./turns", True),
        ("https://hooks.example.com:443/turns", True),
        ("https://other.example.com:8443/", True),
        ("https://hooks.example.com:8443/turns", False),
        ("https://hooks.example.com.evil.example/turns", False),
        ("https://evil.example/hooks.example.com", False),
        ("https://hooks.example.com@evil.example/", False),
        ("http://hooks.example.com/turns", False),
        ("https://127.0.0.1/turns", False),
        ("https://2130706433/", False),
        ("ftp://hooks.example.com/", False),
        ("https://hooks.example.com\\@evil.example/", False),
        ("", False),
    ],
)
def test_only_named_hosts_by_https(url: str, may: bool) -> None:
    hosts = {"hooks.example.com", "other.example.com:8443"}
    allowed = True
    try:
        GuardedPosts().check(url, hosts)
    except InvalidRequest as error:
        allowed = False
        assert error.data["errors"][0]["where"] == "webhook"
    assert allowed is may


def test_what_is_opened_for_this_machine_needs_no_name_and_nothing_else_is_opened_by_it() -> None:
    posts = GuardedPosts(HERE)
    posts.check("http://127.0.0.1:8000/turns", ())
    for url in ("http://10.0.0.1/", "https://example.com/", "http://localhost:8000/"):
        with pytest.raises(InvalidRequest):
            posts.check(url, ())


#: What follows a status line.
ODD: dict[str, bytes] = {
    "a body that never comes": b"Content-Length: 5\r\n\r\n",
    "a body that breaks off": b"Content-Length: 5\r\n\r\nab",
    "no gzip": b"Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nabcde",
    "no encoding": b"Content-Encoding: zip, x\r\nContent-Length: 5\r\n\r\nabcde",
    "no charset": b"Content-Type: text/plain; charset=zzz\r\nContent-Length: 2\r\n\r\n\xff\x00",
    "a body without an end": b"Transfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b"x" * 1024 + b"\r\n",
    "no chunks": b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("rest", ODD)
def test_a_status_counts_whatever_comes_behind_it(rest: str, status: int) -> None:
    """What has taken it is not sent it again because its body cannot be read."""
    sent = b"HTTP/1.1 %d Odd\r\nRetry-After: 30\r\n%s" % (status, ODD[rest])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            with listener.accept()[0] as connection:
                connection.recv(65_536)
                connection.sendall(sent)
                if "never" in rest or "end" in rest:
                    over.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        posted = GuardedPosts(HERE).post(url, {}, b"{}", timeout_seconds=0.5)
        over.set()
        thread.join()
    assert (posted.status, posted.retry_after) == (status, "30")
    assert len(posted.head) <= HEAD_BYTES
