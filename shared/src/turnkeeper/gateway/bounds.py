"""How many input tokens a call has at most, without asking.

A byte is a token at most, which is far too much for a body of 70 kB. What a call was found to have read bounds every
later call that begins with the same: its tools and system prompt, and the messages up to there. So each beginning is
remembered by its hash, with the least that a call which held all of it was found to have read.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

from turnkeeper.runtime import requests

#: Beginnings that a process remembers, of all tokens together; about 100 bytes each.
_KEPT = 50_000
#: What does not change what the model reads.
_UNREAD = frozenset({"max_tokens", "stream", "metadata", "stop_sequences", "temperature", "top_k", "top_p", "messages"})
#: Tools of the provider's making bring a description of their own.
_TOOL_TOKENS = 1_000
#: A message's frame.
_FRAME = 16


class Contexts:
    """What calls were found to have read, by whoever made them: nobody learns anything of another one's calls."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        self._read: OrderedDict[tuple[str, bytes], int] = OrderedDict()

    def bound(self, purse: str, body: Mapping[str, Any], beginnings: Sequence[bytes]) -> int | None:
        """Input tokens at most; ``None`` where something counts that has no bytes here, and the provider has to be
        asked."""
        messages = body["messages"]
        for index in range(len(messages), -1, -1):
            known = self._get(purse, beginnings[index]) if beginnings else None
            if known is not None:
                since = messages[index:]
                # Tools that are read only once they are referred to: the call that was counted may have had none yet.
                later = [tool for tool in body.get("tools") or () if tool.get("defer_loading")]
                return requests.bound_of([since, later], known + _FRAME * (len(since) + 1))
        prompt = [body.get("system") or [], body.get("tools") or [], messages]
        others = {name: value for name, value in body.items() if name not in _UNREAD | {"system", "tools"}}
        own = sum(_TOOL_TOKENS for tool in body.get("tools") or () if tool.get("type", "custom") != "custom")
        return requests.bound_of([*prompt, others], requests.FRAME_TOKENS + own + _FRAME * len(messages))

    def learn(self, purse: str, body: Mapping[str, Any], beginnings: Sequence[bytes], read_tokens: int) -> None:
        """A call that began in all these ways read so many tokens: of all of it, and of that of its beginnings which it
        has read whole."""
        if read_tokens <= 0:
            return
        whole = _read_whole(body["messages"])
        beginnings = [each for i, each in enumerate(beginnings) if i <= whole or i == len(beginnings) - 1]
        with self._lock:
            for beginning in beginnings:
                key = (purse, beginning)
                self._read[key] = min(read_tokens, self._read.pop(key, read_tokens))
            while len(self._read) > self._kept:
                self._read.popitem(last=False)

    def _get(self, purse: str, beginning: bytes) -> int | None:
        with self._lock:
            found = self._read.get((purse, beginning))
            if found is not None:
                self._read.move_to_end((purse, beginning))
            return found


def beginnings_of(body: Mapping[str, Any], betas: Sequence[str], *, changes: bool = False) -> list[bytes]:
    """Hashes of what stands before the messages, and of that with each of them; markers for the cache do not count,
    which move. None where the provider clears a part of what it is sent before it reads it, or reads what is elsewhere
    and may be another each time."""
    if body.get("context_management") is not None or changes:
        return []
    fixed = {name: _lean(value) for name, value in body.items() if name not in _UNREAD}
    digest = hashlib.sha256(_text([fixed, sorted(betas)]))
    hashes = [digest.digest()]
    for message in body["messages"]:
        digest.update(b"\n" + _text({**message, "content": _lean(message.get("content"))}))
        hashes.append(digest.digest())
    return hashes


def _read_whole(messages: Sequence[Mapping[str, Any]]) -> int:
    """How many of the first messages a call has read whole, so that another one which ends there reads no more.
    Thoughts are read until the turn that they belong to is over, and left out after it. What stands before a summary
    that the provider made is left out, too."""
    types = [
        {str(block.get("type")) for block in message["content"] if isinstance(block, dict)}
        if isinstance(message.get("content"), list)
        else set()
        for message in messages
    ]
    if any("compaction" in each for each in types):
        return 0
    return next((i for i, each in enumerate(types) if each & {"thinking", "redacted_thinking"}), len(messages))


def _lean(value: Any) -> Any:
    """Blocks without their markers."""
    if not isinstance(value, list):
        return value
    return [
        {name: _lean(part) if name == "content" else part for name, part in block.items() if name != "cache_control"}
        if isinstance(block, dict)
        else block
        for block in value
    ]


def _text(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
