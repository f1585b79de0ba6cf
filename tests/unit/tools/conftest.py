"""What the tests of the guarded tools share: a call's context, a web server, names, and a PostgreSQL of their own."""

from __future__ import annotations

import logging
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.pages import PageServer, serving
from turnkeeper.core.tools import Tool, ToolContext
from turnkeeper.tools import http_fetch

Call = Callable[..., Any]


def context(seconds: float = 60, session: str = "s1", tenant: str = "acme") -> ToolContext:
    return ToolContext(
        session_id=session,
        tenant_id=tenant,
        user_id="u1",
        tool_use_id="toolu_1",
        idempotency_key="key-1",
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        logger=logging.getLogger("test"),
    )


def fetcher(server: PageServer, **keywords: Any) -> Tool:
    defaults: dict[str, Any] = {
        "domains": ["127.0.0.1", "localhost"],
        "ports": [server.port],
        "allow_private": ["127.0.0.1/32"],
        "timeout_seconds": 5,
    }
    return http_fetch(**{**defaults, **keywords})


@pytest.fixture
def call() -> Call:
    def run(tool: Tool, /, *, seconds: float = 60, session: str = "s1", **arguments: Any) -> Any:
        return tool.body(context(seconds, session), arguments)

    return run


@pytest.fixture
def server() -> Iterator[PageServer]:
    with serving(PageServer({})) as running:
        yield running


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names to their addresses, or to a function that gives them; counts how often each was asked for."""
    table: dict[str, Any] = {"asked": []}
    real = socket.getaddrinfo

    def resolve(host: Any, port: Any, *args: Any, **keywords: Any) -> Any:
        if host not in table:
            return real(host, port, *args, **keywords)
        table["asked"].append(host)
        found = table[host]
        addresses = found() if callable(found) else found
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in addresses
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return table


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL where the machine has one installed; its data lives as long as the tests."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    if not found:
        pytest.skip("no PostgreSQL on this machine")
    binaries = found[-1].parent
    user: Any = None
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        user = "postgres" if _exists("postgres") else "nobody"
    data = Path(tempfile.mkdtemp(prefix="turnkeeper-pg-"))
    if user:
        shutil.chown(data, user)
    port = free_port()
    options: dict[str, Any] = {"user": user, "cwd": data, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = None
    try:
        subprocess.run(
            [
                binaries / "initdb",
                "-D",
                data / "db",
                "-U",
                "owner",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
                "--locale=C",
            ],
            check=True,
            **options,
        )
        flags = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", f"unix_socket_directories={data}"]
        server = subprocess.Popen([binaries / "postgres", "-D", data / "db", "-p", str(port), *flags], **options)
        url = f"postgresql://owner:s3cret-word@127.0.0.1:{port}/postgres"
        _wait_for(url)
        yield url
    finally:
        if server is not None:
            server.terminate()
            server.wait(timeout=20)
        shutil.rmtree(data, ignore_errors=True)


def _exists(user: str) -> bool:
    import pwd

    return any(entry.pw_name == user for entry in pwd.getpwall())


def _wait_for(url: str) -> None:
    import psycopg

    for _ in range(150):
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("PostgreSQL did not come up")
