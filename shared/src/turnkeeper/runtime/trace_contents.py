"""Contents as traces may hold them, where they may: without secrets, in OpenTelemetry's form of messages, and short."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnkeeper.core.canonical import without_surrogates
from turnkeeper.core.transcript import Block
from turnkeeper.core.untrusted import unwrap_blocks
from turnkeeper.ports import Redacts

#: What one attribute may hold. CloudWatch takes spans of 200 KB.
MAX_BYTES = 16_000
#: Signs of each text in it: the longest that makes all of it fit.
_CUTS = (8_000, 2_000, 500, 100)
#: What cannot be read as text, and what the model thought, are named and not shown.
_UNREADABLE = "left out"


@dataclass(frozen=True)
class Shown:
    """The one :class:`turnkeeper.core.turn_trace.Shows`."""

    redactor: Redacts
    #: Of a tool's name and a call's arguments: see :func:`turnkeeper.core.agent.secret_arguments`.
    secret_arguments: Callable[[str, Any], Collection[str]]

    def messages(self, role: str, blocks: Sequence[Block]) -> str:
        parts = [self._part(block) for block in blocks]
        return self._bounded([{"role": role, "parts": parts}])

    def arguments(self, tool: str, arguments: Any) -> str:
        return self._bounded(self._arguments(tool, arguments))

    def result(self, block: Block) -> str:
        return self._bounded(self._result(block))

    def text(self, text: str) -> str:
        return self.redactor.redact_text(text)

    def _part(self, block: Block) -> dict[str, Any]:
        match block.get("type"):
            case "text":
                return {"type": "text", "content": str(block.get("text") or "")}
            case "tool_use":
                arguments = self._arguments(block["name"], block.get("input"))
                return {"type": "tool_call", "id": block["id"], "name": block["name"], "arguments": arguments}
        return {"type": str(block.get("type")), "content": _UNREADABLE}

    def _arguments(self, tool: str, arguments: Any) -> Any:
        secret = self.secret_arguments(tool, arguments)
        redactor = self.redactor.with_names(secret) if secret else self.redactor
        return redactor.redact(arguments, known=redactor.values(arguments))

    def _result(self, block: Block) -> Any:
        content = block.get("content") or []
        if isinstance(content, str):
            return content
        return [self._part(part) for part in unwrap_blocks(content)]

    def _bounded(self, value: Any) -> str:
        """As JSON, with each text cut where it would be too long."""
        value = self.redactor.redact(value)
        for longest in _CUTS:
            text = without_surrogates(json.dumps(_cut(value, longest), ensure_ascii=False))
            if len(text.encode()) <= MAX_BYTES:
                return text
        return json.dumps(f"[{_UNREADABLE}: too long]")


def _cut(value: Any, longest: int) -> Any:
    match value:
        case str():
            return value if len(value) <= longest else f"{value[:longest]} [cut: {longest} of {len(value)} signs]"
        case Mapping():
            return {name: _cut(item, longest) for name, item in value.items()}
        case list() | tuple():
            return [_cut(item, longest) for item in value]
    return value
