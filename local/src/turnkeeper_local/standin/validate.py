"""What the API answers 400 to, of a whole request: fields, types, and what must fit together.

``validate_message`` is for POST /v1/messages, ``validate_count`` for count_tokens. Both return nothing and raise
``ApiError``. Settings of server-side features (containers, context management, MCP servers) are taken as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from turnkeeper_local.standin import checks, strict_json
from turnkeeper_local.standin.checks import Json
from turnkeeper_local.standin.errors import ApiError, invalid
from turnkeeper_local.standin.pairing import check_pairing
from turnkeeper_local.standin.validate_messages import check_citations, validate_messages, validate_text_block
from turnkeeper_local.standin.validate_tools import validate_tool_choice, validate_tools

_SHARED = {
    *("messages", "model", "cache_control", "output_config", "speed", "system"),
    *("thinking", "tool_choice", "tools"),
}
_CREATE = {
    *_SHARED,
    *("max_tokens", "container", "diagnostics", "inference_geo", "metadata", "service_tier"),
    *("stop_sequences", "stream"),
}
_BETA_SHARED = {"billing_policy", "compaction", "context_management", "mcp_servers", "output_format"}
_BETA_CREATE = {*_BETA_SHARED, "fallback_credit_token", "fallbacks", "thread", "user_profile_id"}

#: Fields that may be null, as the SDK's types have it.
_NULLABLE = {
    *("cache_control", "container", "diagnostics", "inference_geo", "speed"),
    *("billing_policy", "compaction", "context_management", "fallback_credit_token", "fallbacks", "thread"),
}

_MAX_CACHE_MARKERS = 4
_MAX_OUTPUT_TOKENS = 128_000


def parse_body(body: bytes) -> Json:
    """The body as a JSON object that could be sent back as it came."""
    try:
        value = strict_json.loads(body)
    except ValueError as error:
        raise invalid(f"The request body is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise invalid("The request body must be a JSON object")
    return value


def validate_message(request: Json, *, beta: bool) -> None:
    """Check a request for a message. ``beta``: it came with a beta header or the beta query."""
    _known_fields(request, _CREATE | _BETA_CREATE if beta else _CREATE)
    _model(request)
    limit = checks.integer(checks.required(request, "max_tokens", ""), "max_tokens", 1)
    if limit > _MAX_OUTPUT_TOKENS:
        raise invalid(
            f"max_tokens: {limit} > {_MAX_OUTPUT_TOKENS}, which is the maximum allowed number of output tokens "
            f"for {request['model']}"
        )
    if "stream" in request:
        checks.boolean(request["stream"], "stream")
    if "service_tier" in request:
        checks.one_of(request["service_tier"], ("auto", "standard_only"), "service_tier")
    _stop_sequences(request)
    _metadata(request)
    if request.get("inference_geo") is not None:
        checks.string(request["inference_geo"], "inference_geo")
    _prompt(request, limit)


def validate_count(request: Json, *, beta: bool) -> None:
    """Check a request for a token count."""
    _known_fields(request, _SHARED | _BETA_SHARED if beta else _SHARED)
    _model(request)
    _prompt(request, None)


def check_context_window(tokens: int, window: int) -> None:
    if tokens > window:
        raise invalid(f"prompt is too long: {tokens} tokens > {window} maximum")


def _known_fields(request: Json, known: set[str]) -> None:
    checks.only(request, known, "")
    for key, value in request.items():
        if value is None and key not in _NULLABLE:
            raise invalid(f"{key}: Input should not be null")


def _model(request: Json) -> None:
    if not checks.string(checks.required(request, "model", ""), "model"):
        raise invalid("model: String should have at least 1 character")


def _prompt(request: Json, max_tokens: int | None) -> None:
    _system(request)
    _thinking(request, max_tokens)
    _output_config(request)
    if request.get("speed") is not None:
        checks.one_of(request["speed"], ("standard", "fast"), "speed")
    if "tools" in request:
        validate_tools(request["tools"])
    if "tool_choice" in request:
        validate_tool_choice(request["tool_choice"], request.get("tools", []))
    validate_messages(checks.required(request, "messages", ""))
    check_pairing(request["messages"])
    check_citations(request["messages"])
    checks.cache_control(request.get("cache_control"), "cache_control")
    _cache_markers(request)


def _system(request: Json) -> None:
    system = request.get("system")
    if system is None or isinstance(system, str):
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid string or a valid list of text blocks")
    for index, block in enumerate(system):
        validate_text_block(block, f"system.{index}", field="system")


def _thinking(request: Json, max_tokens: int | None) -> None:
    if "thinking" not in request:
        return
    thinking = checks.mapping(request["thinking"], "thinking")
    kinds = ("adaptive", "between_tools", "disabled", "enabled")
    kind = checks.one_of(checks.required(thinking, "type", "thinking"), kinds, "thinking.type")
    allowed = {"type"}
    if kind in ("adaptive", "enabled"):
        allowed.add("display")
        if thinking.get("display") is not None:
            checks.one_of(thinking["display"], ("summarized", "omitted", "updates"), "thinking.display")
    if kind == "enabled":
        allowed.add("budget_tokens")
        at = "thinking.enabled.budget_tokens"
        budget = checks.integer(checks.required(thinking, "budget_tokens", "thinking.enabled"), at, 1024)
        if max_tokens is not None and budget >= max_tokens:
            raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`")
    checks.only(thinking, allowed, f"thinking.{kind}")


def _output_config(request: Json) -> None:
    if "output_config" not in request:
        return
    config = checks.effort(request["output_config"], "output_config")
    if config.get("format") is not None:
        form = checks.mapping(config["format"], "output_config.format")
        at = "output_config.format"
        checks.one_of(checks.required(form, "type", at), ("json_schema",), f"{at}.type")
        checks.mapping(checks.required(form, "schema", at), f"{at}.schema")


def _stop_sequences(request: Json) -> None:
    for index, text in enumerate(checks.array(request.get("stop_sequences", []), "stop_sequences")):
        if not checks.string(text, f"stop_sequences.{index}").strip():
            raise invalid("stop_sequences: each stop sequence must contain non-whitespace")


def _metadata(request: Json) -> None:
    metadata = checks.mapping(request.get("metadata", {}), "metadata")
    checks.only(metadata, ("user_id",), "metadata")
    if metadata.get("user_id") is not None:
        user_id = checks.string(metadata["user_id"], "metadata.user_id")
        if len(user_id) > 512:
            raise invalid("metadata.user_id: String should have at most 512 characters")
        # The API refuses user ids that look like an address or a phone number.
        if re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", user_id):
            raise invalid("metadata.user_id: user_id appears to contain an email address")


def _cache_markers(request: Json) -> None:
    """At most four breakpoints, and none that lives longer than one before it."""
    markers: list[tuple[str, str]] = []
    for index, tool in enumerate(request.get("tools", ())):
        _collect(tool, f"tools.{index}", markers)
    system = request.get("system", ())
    for index, block in enumerate(() if isinstance(system, str) else system):
        _collect(block, f"system.{index}", markers)
    for number, message in enumerate(request["messages"]):
        for index, block in enumerate(message["content"] if isinstance(message["content"], list) else ()):
            _collect(block, f"messages.{number}.content.{index}", markers)
    if request.get("cache_control"):
        markers.append(("cache_control", request["cache_control"].get("ttl", "5m")))
    if len(markers) > _MAX_CACHE_MARKERS:
        raise invalid(
            f"A maximum of {_MAX_CACHE_MARKERS} blocks with cache_control may be provided. Found {len(markers)}."
        )
    short = False
    for at, ttl in markers:
        if ttl == "1h" and short:
            raise invalid(
                f"{at}.cache_control.ttl: a ttl='1h' cache_control block must not come after a ttl='5m' "
                "cache_control block. Note that blocks are processed in the following order: `tools`, `system`, "
                "`messages`."
            )
        short = short or ttl == "5m"


def _collect(block: Any, at: str, markers: list[tuple[str, str]]) -> None:
    if not isinstance(block, Mapping):
        return
    content = block.get("content")
    for index, inner in enumerate(content if isinstance(content, list) else ()):
        _collect(inner, f"{at}.content.{index}", markers)
    if block.get("cache_control"):
        markers.append((at, block["cache_control"].get("ttl", "5m")))


def prefill_refused() -> ApiError:
    """The answer to a conversation that ends with words put into the model's mouth."""
    return invalid(
        "This model does not support assistant message prefill. The conversation must end with a user message."
    )
