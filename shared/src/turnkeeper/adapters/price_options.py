"""Which options of a call change its price. What is not known here is refused: no price, no call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from turnkeeper.adapters.tariff import on_bedrock
from turnkeeper.core.errors import UnpricedModel

#: They change what the model does, never what a token costs. (``betas`` only name what other options need.)
_NEUTRAL = frozenset(
    {
        "betas",
        "cache_control",
        "diagnostics",
        "metadata",
        "output_config",
        "output_format",
        "stop_sequences",
        "temperature",
        "thinking",
        "tool_choice",
        "top_k",
        "top_p",
        "user_profile_id",
        "workspace_id",
    }
)
#: Values that can be priced. Priority capacity is paid for in advance; what it does not cover costs the standard price.
_KNOWN: Mapping[str, tuple[str | None, ...]] = {
    "inference_geo": (None, "global", "us"),
    "service_tier": (None, "auto", "standard_only"),
    "speed": (None, "standard", "fast"),
}
#: What CallOptions can judge.
PRICED_OPTIONS = frozenset({*_NEUTRAL, *_KNOWN, "context_management", "tools"})
#: Of uses and tokens: more than any call has.
_MOST = 10_000_000
#: Tools of the provider's making that run on our side, or cost their tokens only.
_FREE_TOOL = re.compile(r"(custom|bash_\d+|text_editor_\d+|computer_\d+|memory_\d+|tool_search_tool_\w+)")


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool that the provider runs within the call, at its most."""

    kind: Literal["web_search", "web_fetch"]
    max_uses: int
    max_content_tokens: int = 0


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What matters about the options of one call."""

    speed: str
    inference_geo: str | None
    one_hour_cache: bool
    server_tools: tuple[ServerTool, ...]
    #: The API may summarize the conversation within the call: that is a further sampling over all that was sent.
    compacts: bool = False

    @classmethod
    def read(cls, model: str, options: Mapping[str, Any]) -> CallOptions:
        """
        Raises:
            UnpricedModel: an option that nobody here can price.
        """
        for name, value in options.items():
            if name not in _NEUTRAL and not _judged(model, name, value):
                raise UnpricedModel(
                    f"{model}: nobody here can price the option {name!r} = {_short(value)}.", model=model, option=name
                )
        tools = [found for tool in options.get("tools", ()) if (found := _server_tool(model, tool)) is not None]
        compacts = any(_is_compaction(edit) for edit in _edits(options.get("context_management")))
        if compacts and tools:
            raise UnpricedModel(
                f"{model}: nobody can say how often the API summarizes a call in which it runs tools itself.",
                model=model,
            )
        return cls(
            speed=str(options.get("speed") or "standard"),
            inference_geo=options.get("inference_geo"),
            one_hour_cache=_mentions_one_hour(options),
            server_tools=tuple(tools),
            compacts=compacts,
        )


def _judged(model: str, name: str, value: Any) -> bool:
    if name == "context_management":
        # Clearing old contents is free; a compaction is sampled once more.
        return isinstance(value, Mapping) and all(
            str(edit.get("type", "")).startswith("clear_") or _is_compaction(edit) for edit in _edits(value)
        )
    if name == "tools":
        return isinstance(value, (list, tuple))
    # On Bedrock the geography is part of the name.
    return value in _KNOWN.get(name, ()) and not (name == "inference_geo" and on_bedrock(model))


def _edits(value: Any) -> list[Mapping[str, Any]]:
    edits = value.get("edits") if isinstance(value, Mapping) else None
    # What is no list holds one edit that nobody knows.
    edits = edits if isinstance(edits, (list, tuple)) or edits is None else [edits]
    return [edit if isinstance(edit, Mapping) else {} for edit in edits or ()]


def _is_compaction(edit: Mapping[str, Any]) -> bool:
    return str(edit.get("type", "")).startswith("compact_")


def _server_tool(model: str, tool: Mapping[str, Any]) -> ServerTool | None:
    kind = str(tool.get("type") or "custom")
    if _FREE_TOOL.fullmatch(kind):
        return None
    if kind.startswith("web_search_"):
        return ServerTool("web_search", _limit(model, tool, "max_uses"))
    if kind.startswith("web_fetch_"):
        return ServerTool("web_fetch", _limit(model, tool, "max_uses"), _limit(model, tool, "max_content_tokens"))
    raise UnpricedModel(f"{model}: nobody here can price the tool {kind!r}.", model=model, tool=kind)


def _limit(model: str, tool: Mapping[str, Any], name: str) -> int:
    value = tool.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
        raise UnpricedModel(
            f"{model}: nobody can say what a call costs at most while the tool {tool.get('type')!r} has no {name} "
            f"from 0 to {_MOST}.",
            model=model,
            tool=tool.get("type"),
        )
    return value


def _mentions_one_hour(value: Any) -> bool:
    if isinstance(value, Mapping):
        return value.get("ttl") == "1h" or any(_mentions_one_hour(inner) for inner in value.values())
    if isinstance(value, (list, tuple)):
        return any(_mentions_one_hour(inner) for inner in value)
    return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
