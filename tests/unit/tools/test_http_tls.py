"""http_fetch over TLS: whose certificate, which name, and a handshake that hangs."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import PageServer, page, redirect, serving
from tests.unit.tools.conftest import Call, fetcher
from turnkeeper.core.tools import ToolDenied, ToolError

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
