"""A PostgreSQL server of the tests' own, in a folder that is gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.support.needed import needed

#: What a server that nobody keeps need not do: no crash of the machine is to be survived.
_OPTIONS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "autovacuum_naptime": "10s",
}


def programs() -> Path | None:
    """The folder of the server's programs; ``None`` where there is none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class Server:
    """Listens on a socket in its folder only."""

    def __init__(self, folder: Path, bin: Path, **options: str) -> None:
        self.folder = folder
        self._options = {**_OPTIONS, **options}
        self._bin = bin
        self._process: subprocess.Popen[bytes] | None = None
        # It refuses to be root.
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None

    def initialize(self) -> None:
        if self._user:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        command = [str(self._bin / "initdb"), "-D", str(self.folder / "data"), "-U", "postgres", "-A", "trust"]
        # With an order of texts that is not that of bytes, as most servers have it.
        command += ["-E", "UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en"]
        subprocess.run(command, check=True, capture_output=True, **self._as_user())

    def start(self) -> None:
        options = [part for name, value in self._options.items() for part in ("-c", f"{name}={value}")]
        options += ["-c", f"unix_socket_directories={self.folder}"]
        with (self.folder / "server.log").open("ab") as log:
            command = [str(self._bin / "postgres"), "-D", str(self.folder / "data"), *options]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, **self._as_user())
        ready: list[str | Path] = [self._bin / "pg_isready", "-h", self.folder, "-q"]
        for _ in range(600):
            if subprocess.run(ready, check=False).returncode == 0:
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """By default without waiting for clients, as an operator does it."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def database(self) -> str:
        """The address of a new database."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def _as_user(self) -> dict[str, Any]:
        if self._user is None:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": [], "cwd": self.folder}


@contextmanager
def server(bin: Path, **options: str) -> Iterator[Server]:
    # Not below pytest's own folder: the path of a socket is short, and another user has to reach it.
    folder = Path(tempfile.mkdtemp(prefix="turnkeeper-pg-"))
    folder.chmod(0o755)
    made = Server(folder, bin, **options)
    try:
        made.initialize()
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def needed_server() -> Iterator[Server]:
    """The same for a test, which is skipped where there is no PostgreSQL, or fails: see :func:`needed`."""
    bin = programs()
    needed("postgresql", bin)
    assert bin is not None
    with server(bin) as made:
        yield made
