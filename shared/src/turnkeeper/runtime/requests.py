"""What the model is sent, and how much that may be at most."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from turnkeeper.core import cache_markers
from turnkeeper.core.compaction import tokens_of
from turnkeeper.core.containers import container_of
from turnkeeper.core.conversation import Conversation
from turnkeeper.core.fallbacks import answered_by, may_think, model_of
from turnkeeper.core.kit_tools import end_task_definition
from turnkeeper.core.session import Entry, Head, Spec
from turnkeeper.core.transcript import Block, Message, lean_json
from turnkeeper.core.untrusted import SYSTEM_NOTE
from turnkeeper.ports import ModelRequest

#: Tokens that the API adds by itself: the preamble for tools, the frames of messages and blocks.
FRAME_TOKENS = 1_500
#: The most that one image counts: by its size in pixels, which a few bytes can hold.
IMAGE_TOKENS = 5_000


def build(
    head: Head,
    spec: Spec,
    entries: Sequence[Entry],
    schemas: Mapping[str, Mapping[str, Any]],
    max_tokens: int,
    usable: Collection[str] | None = None,
    *,
    now: datetime | None = None,
    kept: Conversation | None = None,
) -> ModelRequest:
    """One call: system prompt, granted tools and conversation, each marked for the cache.

    Args:
        kept: the conversation as it was sent before, where the entries are those of it and what waits behind them.
        usable: of the granted tools, those that this turn has; ``None`` for all of them.
        now: a container is named until it expires; none is where nobody says what time it is.
    """
    granted = {name for name in head.shown_tools if usable is None or name in usable} | {end_task_definition.name}
    tools = [
        {
            "name": definition.name,
            "description": definition.description,
            "input_schema": definition.input_schema or dict(schemas[definition.name]),
        }
        for definition in spec.tools
        if definition.name in granted and (definition.input_schema or definition.name in schemas)
    ]
    model = model_of(head, spec)
    options = fitting(spec.model_options, max_tokens)
    if not may_think(entries, model):
        options.pop("thinking", None)
    system = [{"type": "text", "text": f"{spec.system}\n\n{SYSTEM_NOTE}"}]
    kept = kept or Conversation(entries)
    projection = kept.project(entries[len(kept.entries) :], model)
    parts = cache_markers.marked(tools, system, projection.messages, options)
    container = container_of(entries, projection.seqs, now) if now is not None and kept.contained else None
    return ModelRequest(
        model=model,
        max_tokens=max_tokens,
        system=parts.system,
        tools=parts.tools,
        messages=parts.messages,
        options={
            "metadata": {"user_id": head.session_id},
            **({"container": container} if container else {}),
            **options,
        },
    )


def shortened(request: ModelRequest, spec: Spec, max_tokens: int) -> ModelRequest:
    """The same call with less room for its answer."""
    if max_tokens == request.max_tokens:
        return request
    # Where it thinks, with as much of the agent's own budget as there is room for now.
    own = {"thinking": spec.model_options["thinking"]} if "thinking" in request.options else {}
    return replace(request, max_tokens=max_tokens, options=fitting({**request.options, **own}, max_tokens))


def fitting(options: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    """The agent's own options; a thinking budget has to stay below ``max_tokens``, which the caps may have clamped."""
    fitting = dict(options)
    thinking = fitting.get("thinking")
    if isinstance(thinking, dict) and int(thinking.get("budget_tokens", 0)) >= max_tokens:
        if max_tokens > 1_024 + 256:
            fitting["thinking"] = {**thinking, "budget_tokens": max_tokens - 256}
        else:
            del fitting["thinking"]
    return fitting


def input_bound(
    head: Head, request: ModelRequest, entries: Sequence[Entry], remote: Mapping[str, Mapping[str, Any]] | None = None
) -> int | None:
    """An upper bound of the request's input tokens, without asking: what the last call had read is known exactly where
    it was one of the same model, what came since is at most a token a byte, and an image what images may count.
    ``None`` where something is named by its address only, or is a document, whose pages count however few bytes they
    have: then the provider has to be asked.

    Args:
        remote: schemas of tools that live elsewhere: the last call may have gone without them.
    """
    last = next((entry for entry in reversed(entries) if entry.type == "assistant"), None)
    since = _since_last_answer(entries)
    same_model = last is not None and answered_by(last, request.model)
    if not head.account.context_tokens or since is None or not same_model:
        return bound_of([request.system, request.tools, request.messages], FRAME_TOKENS)
    return bound_of([*since, dict(remote or {})], head.account.context_tokens + 16 * (len(since) + 1))


def estimate(head: Head, entries: Sequence[Entry], model: str) -> int | None:
    """About how many tokens the next request has; ``None`` where the last call says nothing about it."""
    last = next((entry for entry in reversed(entries) if entry.type == "assistant"), None)
    since = _since_last_answer(entries)
    if not head.account.context_tokens or since is None or last is None or not answered_by(last, model):
        return None
    return head.account.context_tokens + sum(tokens_of(block) for message in since for block in message["content"])


def estimate_of(*parts: Sequence[Block]) -> int:
    """About how many tokens these blocks have."""
    return sum(tokens_of(block) for blocks in parts for block in blocks)


def with_room(counted: int) -> int:
    """The provider's count, with a little room for what it adds by itself."""
    return counted + counted // 50 + 64


def bound_of(parts: Sequence[Any], known: int) -> int | None:
    """Tokens of these parts at most, and what is known of the rest; ``None`` where the provider has to be asked."""
    return None if _must_be_counted(parts) else known + bytes_of(*parts) + IMAGE_TOKENS * _images(parts)


def _since_last_answer(entries: Sequence[Entry]) -> list[Message] | None:
    """``None`` where something was left out since: then what the last call had read is not what this one reads."""
    since: list[Message] = []
    for entry in reversed(entries):
        if entry.left_out:
            return None
        since.append({"content": list(entry.content)})
        if entry.type == "assistant":
            break
    return since


def bytes_of(*values: Any) -> int:
    """As many as are sent of them, or a few more: a token is never less than one."""
    # `1e-7` is sent as `1e-07`.
    return sum(len(lean) + lean.count(b"e-") for lean in map(lean_json, values))


def _must_be_counted(value: Any) -> bool:
    if isinstance(value, dict):
        if value.get("type") in ("url", "file") or value.get("media_type") == "application/pdf":
            return True
        # What only looks like one, as in the arguments of a call, is text.
        return any(_must_be_counted(value[name]) for name in ("content", "source") if name in value)
    return isinstance(value, list | tuple) and any(map(_must_be_counted, value))


def _images(value: Any) -> int:
    if isinstance(value, dict):
        return (value.get("type") == "image") + sum(map(_images, value.values()))
    return sum(map(_images, value)) if isinstance(value, list | tuple) else 0
