"""Reads what a call used off its answer while that passes by."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.adapters.anthropic_stream import counted, tells_the_end

#: What may be read of one event; more than any that holds a usage.
_MAX_LINE = 4 * 1024 * 1024
_LOOKED_AT = (b"message_start", b"message_delta", b"message_stop", b'"error"')


@dataclass
class Meter:
    """Feed it the bytes of an answer as they come; or :meth:`whole` for one that is no stream."""

    #: Latest known usage, raw.
    usage: dict[str, Any] = field(default_factory=dict)
    #: The usage is what will be billed.
    final: bool = False
    #: The answer came to its end.
    stopped: bool = False
    #: What the provider said went wrong in the middle.
    error: str | None = None
    model: str | None = None
    stop_reason: str | None = None
    _rest: bytes = b""

    def feed(self, chunk: bytes) -> None:
        """Never raises: what cannot be read leaves the usage unknown."""
        *lines, self._rest = (self._rest + chunk).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._line(line)
        if len(self._rest) > _MAX_LINE:
            self._rest = b""

    def whole(self, body: bytes) -> None:
        """An answer in one piece."""
        message = _object(body)
        usage = message.get("usage")
        self.usage = dict(usage) if isinstance(usage, Mapping) else {}
        self.final = self.stopped = bool(message)
        self.model, self.stop_reason = _words(message.get("model")), _words(message.get("stop_reason"))

    @property
    def billed(self) -> dict[str, Any]:
        """The usage where it is certain, whole and can be true; empty where nobody knows."""
        return counted(self.usage) if self.final else {}

    def _line(self, line: bytes) -> None:
        if not line.startswith(b"data:") or not any(mark in line for mark in _LOOKED_AT):
            return
        event = _object(line[5:])
        match event.get("type"):
            case "message_start":
                message = event.get("message")
                message = message if isinstance(message, Mapping) else {}
                self._see(message.get("usage"))
                self.model = _words(message.get("model"))
            case "message_delta":
                self._see(event.get("usage"))
                self.final = self.final or tells_the_end(event.get("usage"))
                delta = event.get("delta")
                self.stop_reason = _words(delta.get("stop_reason")) if isinstance(delta, Mapping) else None
            case "message_stop":
                self.stopped = True
            case "error":
                error = event.get("error")
                self.error = str(error.get("type") if isinstance(error, Mapping) else "error")[:100]

    def _see(self, usage: Any) -> None:
        if isinstance(usage, Mapping):
            # Counts are totals so far; what is left out or null keeps its value.
            self.usage |= {name: value for name, value in usage.items() if value is not None}


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _words(value: Any) -> str | None:
    return value[:100] if isinstance(value, str) else None
