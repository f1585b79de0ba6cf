"""A Messages API that plays a script byte by byte: what real servers, proxies and networks do to a stream."""

from __future__ import annotations

import base64
import binascii
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: dict[str, Any]


#: What to do with one connection, once its request has been read.
Script = Callable[[socket.socket], None]


@dataclass
class ScriptedApi:
    scripts: list[Script]
    url: str = ""
    seen: list[Seen] = field(default_factory=list)


def sse(*events: dict[str, Any] | bytes) -> bytes:
    """Events as they stand on the wire; bytes go through as they are."""
    return b"".join(one(event) for event in events)


def one(event: dict[str, Any] | bytes) -> bytes:
    if isinstance(event, bytes):
        return event
    return f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


def amazon_event(event: dict[str, Any]) -> bytes:
    """An event as Amazon Bedrock streams it."""

    def header(name: str, value: str) -> bytes:
        return bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()

    headers = header(":event-type", "chunk") + header(":message-type", "event")
    headers += header(":content-type", "application/json")
    payload = json.dumps({"bytes": base64.b64encode(json.dumps(event).encode()).decode()}).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    prelude += struct.pack(">I", binascii.crc32(prelude))
    message = prelude + headers + payload
    return message + struct.pack(">I", binascii.crc32(message))


def head(status: int = 200, headers: dict[str, str] | None = None, content_type: str = "text/event-stream") -> bytes:
    # It is closed after the answer. A client that did not know might send its next request just then.
    lines = [f"HTTP/1.1 {status} Said", f"content-type: {content_type}", "request-id: req_1", "connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return ("\r\n".join(lines) + "\r\n").encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def stream(pieces: Sequence[bytes], *, end: str = "clean", pause_seconds: float = 0.0) -> Script:
    """A chunked answer. ``end``: ``clean`` (last chunk), ``cut`` (closed without it), ``reset``, ``hang``."""

    def play(connection: socket.socket) -> None:
        connection.sendall(head() + b"transfer-encoding: chunked\r\n\r\n")
        for piece in pieces:
            connection.sendall(chunk(piece))
            if pause_seconds:
                time.sleep(pause_seconds)
        if end == "clean":
            connection.sendall(b"0\r\n\r\n")
        elif end == "reset":
            time.sleep(0.05)
            reset(connection)
        elif end == "hang":
            connection.settimeout(20)
            connection.recv(1)

    return play


def answer(status: int, body: Any, headers: dict[str, str] | None = None) -> Script:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    kind = "text/html" if isinstance(body, bytes) else "application/json"

    def play(connection: socket.socket) -> None:
        connection.sendall(head(status, headers, kind) + f"content-length: {len(data)}\r\n\r\n".encode() + data)

    return play


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@contextmanager
def scripted(*scripts: Script) -> Iterator[ScriptedApi]:
    """Each script serves one connection, in this order."""
    api = ScriptedApi(list(scripts))
    listener = socket.create_server(("127.0.0.1", 0))
    api.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    threading.Thread(target=_serve, args=(listener, api), daemon=True).start()
    try:
        yield api
    finally:
        listener.close()


def _serve(listener: socket.socket, api: ScriptedApi) -> None:
    for script in api.scripts:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_play, args=(connection, script, api), daemon=True).start()


def _play(connection: socket.socket, script: Script, api: ScriptedApi) -> None:
    try:
        with connection, connection.makefile("rb") as reader:
            line = reader.readline().decode().strip()
            headers: dict[str, str] = {}
            while text := reader.readline().decode().strip():
                name, _, value = text.partition(":")
                headers[name.lower()] = value.strip()
            body = json.loads(reader.read(int(headers.get("content-length", "0"))) or b"{}")
            api.seen.append(Seen(line, headers, body))
            script(connection)
    except OSError:
        pass  # The other side had enough.
