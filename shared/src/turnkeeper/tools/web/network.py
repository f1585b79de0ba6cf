"""Resolve once, check every address, connect to the address that was checked.

The connection pool is handed this backend instead of its own, so nothing between the check and the socket looks a name
up again (DNS rebinding), and no proxy from the environment is asked. TLS still verifies the certificate against
the name, and the Host header carries it.

Imports httpcore2: import this module inside a call only.
"""

from __future__ import annotations

import functools
import queue
import socket
import ssl
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore2

from turnkeeper.tools._common import Deadline, Unreachable
from turnkeeper.tools.web.address import Address, normal
from turnkeeper.tools.web.url import Target


def resolve(target: Target, deadline: Deadline) -> list[Address]:
    """Everything that the host resolves to, in the resolver's order, without doubles. An address is itself.

    Raises:
        Unreachable: there is no such host, or the resolver took too long.
    """
    if target.is_address:
        return [normal(target.host)]
    found: queue.SimpleQueue[list[str] | OSError | UnicodeError] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
            found.put([str(answer[4][0]) for answer in answers])
        except (OSError, UnicodeError) as error:
            found.put(error)

    # The resolver knows no timeout. A look-up that hangs is left behind; the resolver's own limits end it.
    threading.Thread(target=look_up, name="http-fetch-resolve", daemon=True).start()
    try:
        answer = found.get(timeout=max(0.001, deadline.left()))
    except queue.Empty:
        raise timed_out(deadline) from None
    if not isinstance(answer, list) or not answer:
        raise Unreachable(f"The host {target.host} could not be found.")
    return list(dict.fromkeys(normal(text) for text in answer))


class TlsError(httpcore2.ConnectError):
    """The other side has no certificate that proves the name, or no TLS that is still safe."""


class CheckedBackend(httpcore2.NetworkBackend):
    """Connects to the given addresses, whatever host it is asked for, and keeps to one deadline and byte budget."""

    def __init__(
        self, addresses: Sequence[Address], deadline: Deadline, max_wire_bytes: int, connecting: Deadline | None = None
    ) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._connecting = connecting or deadline
        self._max_wire_bytes = max_wire_bytes

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        del host, timeout, local_address, socket_options  # the checked addresses and the deadline stand instead
        for left, address in zip(range(len(self._addresses), 0, -1), self._addresses, strict=True):
            try:
                # Every address gets its share of what is left, so that a dead first one does not take it all.
                sock = _connect(address, port, max(0.001, self._connecting.left() / left))
            except OSError:
                continue
            return _Stream(sock, self._deadline, self._max_wire_bytes)
        if self._connecting.passed():
            raise httpcore2.ConnectTimeout
        raise httpcore2.ConnectError


def _connect(address: Address, port: int, timeout: float) -> socket.socket:
    # Not create_connection: it would go through the resolver again.
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect((str(address), port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


class _Stream(httpcore2.NetworkStream):
    def __init__(self, sock: socket.socket, deadline: Deadline, max_wire_bytes: int) -> None:
        self._sock = sock
        self._deadline = deadline
        self._wire_bytes_left = max_wire_bytes

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        del timeout
        if self._wire_bytes_left <= 0:
            raise httpcore2.ReadError("more on the wire than the size limit can need")
        try:
            self._sock.settimeout(self._left(httpcore2.ReadTimeout))
            data = self._sock.recv(max_bytes)
        except TimeoutError as error:
            raise httpcore2.ReadTimeout from error
        except OSError as error:
            raise httpcore2.ReadError from error
        self._wire_bytes_left -= len(data)
        return data

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout
        view = memoryview(buffer)
        try:
            while view:
                self._sock.settimeout(self._left(httpcore2.WriteTimeout))
                view = view[self._sock.send(view) :]
        except TimeoutError as error:
            raise httpcore2.WriteTimeout from error
        except OSError as error:
            raise httpcore2.WriteError from error

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        del timeout
        try:
            self._sock.settimeout(self._left(httpcore2.ConnectTimeout))
            sock = ssl_context.wrap_socket(self._sock, server_hostname=server_hostname)
        except TimeoutError as error:
            self.close()
            raise httpcore2.ConnectTimeout from error
        except ssl.SSLError as error:
            self.close()
            raise TlsError from error
        except OSError as error:
            self.close()
            raise httpcore2.ConnectError from error
        return _Stream(sock, self._deadline, self._wire_bytes_left)

    def get_extra_info(self, info: str) -> Any:
        return isinstance(self._sock, ssl.SSLSocket) or None if info == "is_tls" else None

    def _left(self, error: type[Exception]) -> float:
        left = self._deadline.left()
        if left <= 0:
            raise error
        return left


@functools.cache
def tls() -> ssl.SSLContext:
    """The context that verifies certificates, built once: loading the authorities takes longer than a fetch."""
    return httpcore2.default_ssl_context()


def timed_out(deadline: Deadline) -> Unreachable:
    return Unreachable(f"The fetch took longer than {deadline.timeout_seconds:.3g} s and was given up.")
