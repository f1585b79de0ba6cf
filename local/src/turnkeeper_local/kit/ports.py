"""Ports of this machine that nobody uses, also when two kits look for some at the same time."""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
from pathlib import Path

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.home import file_lock

HOST = "127.0.0.1"
DEFAULT_FIRST_PORT = 8700
_LOOK_AT = 500


def free_port(first: int) -> int:
    """The first port from `first` on that nobody listens on; any one at all for 0.

    Hold `picking()` from here until whoever is to use it listens.
    """
    if first == 0:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            return int(probe.getsockname()[1])
    for port in range(first, min(first + _LOOK_AT, 65_536)):
        if is_free(port):
            return port
    raise KitError(f"no free port from {first} on; set TURNKEEPER_PORT to look elsewhere")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def picking() -> contextlib.AbstractContextManager[None]:
    """Only one kit of this user at a time picks ports, whichever clone it comes from."""
    return file_lock(Path(tempfile.gettempdir()) / f"turnkeeper-ports-{os.getuid()}.lock")
