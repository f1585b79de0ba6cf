"""An answer becomes a message of the API: content, stop reason and usage that fit together. Pure but for ids.

Output tokens are the estimate of the content, or what ``[[tokens]]`` says, and never more than ``max_tokens``. Where
they would be, the API stops in the middle, and so does this: ``stop_reason`` is ``max_tokens``, a text keeps what
fits, and tool calls are left out altogether, since half a tool call is of no use to anybody. ``[[stop]]`` does not
override that. A message cut down to nothing has no content blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnkeeper_local.standin import strict_json
from turnkeeper_local.standin.cache import InputSplit
from turnkeeper_local.standin.directives import ScriptedAnswer, ToolCall
from turnkeeper_local.standin.errors import new_message_id, new_tool_use_id
from turnkeeper_local.standin.signatures import redact, sign_thinking
from turnkeeper_local.standin.tokens import block_tokens, cut_to_tokens

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Thinking:
    """Thoughts to show before an answer; ``redacted`` hides them in a block that only this model can read."""

    text: str = ""
    redacted: str = ""

    def blocks(self, config: Mapping[str, Any] | None) -> list[Block]:
        """The blocks for a request with this ``thinking`` parameter; none where it is absent or disabled."""
        if config is None or config["type"] == "disabled":
            return []
        found: list[Block] = []
        if self.text:
            shown = "" if config.get("display") == "omitted" else self.text
            found.append({"type": "thinking", "thinking": shown, "signature": sign_thinking(shown)})
        if self.redacted:
            found.append({"type": "redacted_thinking", "data": redact(self.redacted)})
        return found


NO_THINKING = Thinking()


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished message. ``message()`` is the body; a stream is made of the same parts."""

    id: str
    model: str
    content: list[Block]
    stop_reason: str
    stop_sequence: str | None
    input: InputSplit
    output_tokens: int
    thinking_tokens: int
    extras: Mapping[str, Any]
    #: What is streamed as a tool call's input where that is not its JSON, by the index of the block.
    input_texts: Mapping[int, str]
    container: Mapping[str, str] | None = None

    @property
    def stop_details(self) -> dict[str, Any] | None:
        if self.stop_reason != "refusal":
            return None
        return {"type": "refusal", "category": None, "explanation": "Asked for by a [[stop refusal]] directive."}

    def message(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": self.content,
            "stop_reason": self.stop_reason,
            "stop_sequence": self.stop_sequence,
            "stop_details": self.stop_details,
            "container": self.container,
            "usage": self.usage(),
        }

    def usage(self) -> dict[str, Any]:
        return {
            **self.counts(self.output_tokens),
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.input.written_5m,
                "ephemeral_1h_input_tokens": self.input.written_1h,
            },
            **self.extras,
        }

    def counts(self, output_tokens: int) -> dict[str, Any]:
        """The numbers that a stream repeats at its end."""
        counts: dict[str, Any] = {
            "input_tokens": self.input.fresh,
            "cache_creation_input_tokens": self.input.written,
            "cache_read_input_tokens": self.input.read,
            "output_tokens": output_tokens,
        }
        if self.thinking_tokens:
            counts["output_tokens_details"] = {"thinking_tokens": min(self.thinking_tokens, output_tokens)}
        return counts


def compose(
    answer: ScriptedAnswer,
    request: Mapping[str, Any],
    split: InputSplit,
    thinking: Thinking,
    container: Mapping[str, str] | None = None,
) -> Reply:
    """The reply that plays ``answer`` to a validated request."""
    limit: int = request["max_tokens"]
    thoughts = thinking.blocks(request.get("thinking"))
    thinking_tokens = sum(map(block_tokens, thoughts))
    text, stop_sequence = _until_stop_sequence(answer.text, request.get("stop_sequences", ()))
    before_calls = [*thoughts, *_text_blocks(text)]
    content = [*before_calls, *map(_tool_use, answer.calls), *answer.raw]
    calls = any(block.get("type") == "tool_use" for block in content)
    stop_reason = "tool_use" if calls else "stop_sequence" if stop_sequence else "end_turn"
    if answer.stop_reason is not None:
        stop_reason = answer.stop_reason
    output_tokens = answer.output_tokens
    if output_tokens is None:
        output_tokens = max(sum(map(block_tokens, content)), 1)  # the API counts an empty answer as well
    if output_tokens > limit:
        output_tokens, stop_reason, stop_sequence = limit, "max_tokens", None
        content = [*thoughts, *_text_blocks(cut_to_tokens(text, limit - thinking_tokens))]
    return Reply(
        id=new_message_id(),
        model=request["model"],
        content=content,
        stop_reason=stop_reason,
        stop_sequence=stop_sequence if stop_reason == "stop_sequence" else None,
        input=split,
        output_tokens=output_tokens,
        thinking_tokens=thinking_tokens,
        extras=_extras(request),
        input_texts={
            index: call.input_text
            for index, call in enumerate(answer.calls, len(before_calls))
            if call.input_text is not None and index < len(content)
        },
        container=container,
    )


def _tool_use(call: ToolCall) -> Block:
    """The block as it stands in an answer that is not streamed: a text that is no JSON is there as a string."""
    value: Any = call.arguments
    if call.input_text is not None:
        try:
            value = strict_json.loads(call.input_text)
        except ValueError:
            value = call.input_text
    return {"type": "tool_use", "id": new_tool_use_id(), "name": call.name, "input": value}


def _extras(request: Mapping[str, Any]) -> dict[str, Any]:
    """What usage says beside token counts; a price depends on it."""
    extras: dict[str, Any] = {
        "service_tier": "standard",
        "server_tool_use": None,
        "inference_geo": request.get("inference_geo") or "global",
    }
    if request.get("speed"):
        extras["speed"] = request["speed"]
    return extras


def _text_blocks(text: str) -> list[Block]:
    return [{"type": "text", "text": text}] if text else []


def _until_stop_sequence(text: str, sequences: Sequence[str]) -> tuple[str, str | None]:
    """``text`` before the first of ``sequences`` in it, and which one that was."""
    found = [(position, sequence) for sequence in sequences if (position := text.find(sequence)) >= 0]
    if not found:
        return text, None
    position, sequence = min(found)
    return text[:position], sequence
