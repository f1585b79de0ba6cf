"""What comes of a request, whatever the network makes of it: as botocore's own connections tell it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import BotoCoreError, ConnectionClosedError, EndpointConnectionError, HTTPClientError
from botocore.httpsession import URLLib3Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from urllib3.util import connection as connecting

from turnkeeper.adapters.dynamodb_connections import Connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEADERS = {"X-Amz-Target": "t", "User-Agent": "u"}

SETTINGS: dict[str, Any] = {
    "verify": True,
    "proxies": {},
    "timeout": (20.0, 20.0),
    "max_pool_connections": 3,
    "socket_options": [],
}

Serve = Callable[[socket.socket], object]


@contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """The port of a server that does this with each connection, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def one(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                serve(connection)

        def work() -> None:
            with suppress(OSError):
                while True:
                    Thread(target=one, args=listening.accept()[:1], daemon=True).start()

        Thread(target=work, daemon=True).start()
        yield listening.getsockname()[1]
        # Closing alone does not wake who waits in it.
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def request_of(connection: socket.socket) -> bytes:
    """One request with its body, one for a tunnel, which has none, or the beginning of TLS."""
    got = b""
    while not (got.startswith(b"\x16") or got.endswith(b"{}") or (got[:7] == b"CONNECT" and got.endswith(b"\r\n" * 2))):
        if not (more := connection.recv(65536)):
            break
        got += more
    return got


def answering(answer: bytes) -> Serve:
    def serve(connection: socket.socket) -> None:
        while request_of(connection):
            connection.sendall(answer)

    return serve


def cut_off(answer: bytes) -> Serve:
    return lambda connection: (request_of(connection), connection.sendall(answer))


SERVERS: dict[str, Serve] = {
    "answers": answering(OK),
    "closes at once": lambda _: None,
    "closes after the request": request_of,
    "says nothing": lambda connection: (request_of(connection), connection.recv(1)),
    "is no web server": cut_off(b"220 mail ready\r\n"),
    "stops in its answer": lambda c: (request_of(c), c.sendall(OK.replace(b"2\r\n", b"9\r\n")), c.recv(1)),
    "cuts its head off": cut_off(b"HTTP/1.1 200 OK\r\nContent-"),
    "sends chunks": answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    "sends bad chunks": cut_off(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n{}"),
    "redirects": answering(b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    "asks to come back": answering(b"HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"),
}


#: These never answer.
SILENT = {"says nothing", "stops in its answer"}


def patience(server: str) -> dict[str, Any]:
    return {"timeout": (0.5, 0.2)} if server in SILENT else {}


def told(send: Callable[[], Any]) -> tuple[Any, ...]:
    """What came of it: an answer, or an error with its words."""
    try:
        answer = send()
    except BotoCoreError as error:
        return type(error), type(error.kwargs.get("error")), str(error)
    return answer.status_code, answer.content


def connections_to(url: str, **how: Any) -> Connections:
    return Connections(url, **SETTINGS | how, client_cert=None, proxies_config=None)


def both(url: str, **how: Any) -> tuple[Any, ...]:
    """What came of the same request, sent by botocore and by the table."""
    settings: dict[str, Any] = SETTINGS | how
    theirs = URLLib3Session(**settings)
    ours = connections_to(url, **settings)
    request: Any = AWSPreparedRequest("POST", url, {**HEADERS, "Content-Length": "2"}, b"{}", False)
    expected = told(lambda: theirs.send(request))
    assert told(lambda: ours.post({**HEADERS, "Host": ours.host}, b"{}")) == expected
    return expected


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whatever_a_server_does(server: str, scheme: str) -> None:
    with serving(SERVERS[server]) as port:
        came = both(f"{scheme}://127.0.0.1:{port}/", **patience(server))
    assert (came == (200, b"{}")) is (scheme == "http" and server in {"answers", "sends chunks"})


def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert both(f"http://127.0.0.1:{port}/")[0] is EndpointConnectionError
    assert both("http://nobody.invalid/")[0] is EndpointConnectionError
    for proxy in (f"http://a:b@127.0.0.1:{port}", "http://nobody.invalid"):
        for url in ("http://127.0.0.1:1/", "https://127.0.0.1:1/"):
            both(url, proxies={"http": proxy, "https": proxy})

    def late(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(connecting, "create_connection", late)
    came = both("http://127.0.0.1:1/")
    assert came[0].__name__ == "ConnectTimeoutError"
    both("https://127.0.0.1:1/", proxies={"https": "http://127.0.0.1:2"})


def test_an_answer_that_is_cut_off_is_none() -> None:
    """botocore gives what came of it, which may be JSON all the same."""
    with serving(cut_off(OK.replace(b"2\r\n", b"9\r\n"))) as port, pytest.raises(ConnectionClosedError):
        connections_to(f"http://127.0.0.1:{port}/").post(HEADERS, b"{}")


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whatever_a_proxy_does(server: str, scheme: str) -> None:
    with serving(SERVERS[server]) as port:
        proxy = f"http://a%40b:c@127.0.0.1:{port}"
        both(f"{scheme}://elsewhere.invalid:4/x", proxies={"http": proxy, "https": proxy}, **patience(server))


def test_what_nobody_expects_is_told_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(connecting, "create_connection", broken)
    assert both("http://127.0.0.1:1/")[0] is HTTPClientError


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("trusted", [True, False])
def test_certificates_are_checked(tmp_path: Path, trusted: bool) -> None:
    bundle, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(bundle, key)

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as wrapped:
            answering(OK)(wrapped)

    with serving(serve) as port:
        came = both(f"https://127.0.0.1:{port}/", verify=str(bundle) if trusted else True)
        assert (came == (200, b"{}")) is trusted
        assert both(f"https://127.0.0.1:{port}/", verify=False) == (200, b"{}")
        assert both(f"https://localhost:{port}/", verify=str(bundle))[0].__name__ == "SSLError"


def certificate(folder: Path) -> tuple[Path, Path]:
    """Of 127.0.0.1, signed by itself; and its key."""
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "table")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    (folder / "bundle.pem").write_bytes(made.public_bytes(pem))
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return folder / "bundle.pem", folder / "key.pem"


@pytest.mark.parametrize("proxied", [True, False])
def test_the_same_goes_over_the_wire(proxied: bool) -> None:
    """But for the order of its headers. The second request finds the connection of the first."""
    seen: list[tuple[bytes, list[bytes], bytes]] = []
    connections: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        connections.append(connection)
        while got := request_of(connection):
            head, body = got.split(b"\r\n\r\n", 1)
            first, *headers = head.split(b"\r\n")
            seen.append((first, sorted(header.lower() for header in headers), body))
            connection.sendall(OK)

    with serving(serve) as port:
        place = f"http://127.0.0.1:{port}"
        how: dict[str, Any] = {"proxies": {"http": place}} if proxied else {}
        url = "http://table.invalid/" if proxied else f"{place}/"
        both(url, **how)
        assert len(seen) == 2
        assert seen[0] == seen[1]
        ours = connections_to(url, **how)
        for _ in range(3):
            assert ours.post({**HEADERS, "Host": ours.host}, b"{}").status_code == 200
    assert len(connections) == 3


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://Table.amazonaws.com/", "table.amazonaws.com"),
        ("https://table.amazonaws.com:443/", "table.amazonaws.com"),
        ("http://localhost:80/", "localhost"),
        ("http://localhost:443/", "localhost:443"),
        ("http://user:word@localhost:8000/", "localhost:8000"),
        ("http://[::1]:8000/", "[::1]:8000"),
        ("http://[::1]/", "[::1]"),
    ],
)
def test_the_host_is_named_as_it_is_signed(url: str, host: str) -> None:
    assert connections_to(url).host == host
