"""What a client asks for, checked: only what is known goes on to the provider, so that nothing is paid for that nobody
reckoned with. The body is hostile. What the API itself would refuse is left to the API, but for what the price of the
call depends on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from turnkeeper.adapters.price_options import PRICED_OPTIONS, CallOptions, ServerTool
from turnkeeper.core.errors import InputTooLarge, InvalidRequest
from turnkeeper.core.inputs import invalid, is_deeper, no_constant
from turnkeeper.runtime.requests import fitting

#: What the API takes at most.
MAX_BODY_BYTES = 32 * 1024 * 1024
_MAX_DEPTH = 100
_PROMPT = frozenset({"model", "max_tokens", "messages", "system", "stream"})
#: Ours to say, or ways to another account's money.
_NOT_FROM_OUTSIDE = frozenset({"betas", "user_profile_id", "workspace_id"})
#: Whatever is not here is refused by its name.
FIELDS = (PRICED_OPTIONS | _PROMPT) - _NOT_FROM_OUTSIDE
#: Betas that change what the model does, or name what a field of the body asks for, which is priced there. Others are
#: left out: who knows what they cost.
_BETAS = re.compile(
    r"(advanced-tool-use|claude-code|compact|computer-use|context-1m|context-management|effort"
    r"|extended-cache-ttl|fast-mode|fine-grained-tool-streaming|interleaved-thinking|max-tokens-3-5-sonnet"
    r"|memory|message-\w+|mid-conversation-[\w-]+|model-context-window-exceeded|output-128k|pdfs|per-(message|turn)-\w+"
    r"|prompt-caching|prompt-caching-scope|redact-thinking|search-result\w*|structured-outputs|summarize-\w+"
    r"|thinking-[\w-]+?|token-counting|token-efficient-tools|tool-examples|tool-search-tool|web-fetch|web-search)"
    r"-(\d{8}|\d{4}-\d{2}-\d{2})",
    re.ASCII,
)
#: A conversation that the provider holds, of which only what is new is sent: what it adds to the price, nobody here can
#: say. SDKs ask for one of their own accord, and send all of it where they are told this.
_NO_THREADS = {"error_code": "thread_unsupported_request"}
_WITH_CODE = re.compile(r"web_(search|fetch)_")
_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_DEFAULT_VERSION = "2023-06-01"
#: Whoever these name, it is the client's word: labels in the ledger, nothing more.
_HINTS = {"x-claude-code-session-id": "session", "x-claude-code-agent-id": "agent"}
_MAX_HINT = 128
#: What is told of a name that the client chose; it stands in logs, too.
_MAX_NAME = 100
_MAX_MODEL = 200


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a client."""

    raw: bytes
    body: Mapping[str, Any]
    #: What goes on of its headers.
    headers: Mapping[str, str]
    betas: tuple[str, ...]
    #: The query string that goes on.
    query: str
    hints: Mapping[str, str]

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def max_tokens(self) -> int:
        return int(self.body["max_tokens"])

    @property
    def streams(self) -> bool:
        return self.body.get("stream") is True

    @property
    def options(self) -> dict[str, Any]:
        """What prices depend on, as :class:`turnkeeper.ports.Prices` takes it."""
        options = {name: value for name, value in self.body.items() if name not in _PROMPT}
        if _mentions_one_hour(self.body):
            options["cache_control"] = {"ttl": "1h"}
        return options

    @property
    def changes(self) -> bool:
        """What an address holds may be more when the model reads it than when it was counted."""
        return _names(self.body["messages"], ("url",))

    @property
    def server_tools(self) -> tuple[ServerTool, ...]:
        """Tools that the provider may run itself within the call: after each use it reads everything again."""
        return CallOptions.read(self.model, self.options).server_tools

    def clamped(self, max_tokens: int) -> bytes:
        """The body with less room for its answer; as it came where nothing has to change."""
        if max_tokens >= self.max_tokens:
            return self.raw
        return json.dumps({**fitting(self.body, max_tokens), "max_tokens": max_tokens}).encode()


def read(raw: bytes, headers: Mapping[str, str], query: str, *, counts: bool = False) -> Asked:
    """A request as it may go on.

    Args:
        headers: by lower-case names.
        counts: it is for count_tokens, which takes no ``max_tokens``.

    Raises:
        InvalidRequest: an unknown field, or one that cannot be read; says which.
        InputTooLarge: it is.
    """
    if len(raw) > MAX_BODY_BYTES:
        raise InputTooLarge("the body is larger than 32 MB", limit_bytes=MAX_BODY_BYTES)
    if headers.get("content-encoding", "").lower() not in ("", "identity"):
        raise invalid("The gateway takes bodies as they are, not compressed.", "content-encoding", "must be identity")
    body = _parsed(raw)
    if "thread" in body:
        why = "the gateway passes on only whole conversations"
        raise InvalidRequest(f"thread: {why}.", errors=[{"where": "thread", "why": why}], details=_NO_THREADS)
    if unknown := sorted(body.keys() - FIELDS):
        why = "the gateway does not know it, and passes on only what it can price"
        raise invalid(f"{unknown[0][:_MAX_NAME]}: {why}.", unknown[0][:_MAX_NAME], why)
    _must_be(body, "model", _is_name(body.get("model")), "the name of a model")
    if not counts:
        _must_be(body, "max_tokens", _is_count(body.get("max_tokens")), "a whole number from 1 on")
    _must_be(body, "messages", _is_objects(body.get("messages")) and bool(body["messages"]), "a list of messages")
    _must_be(body, "tools", _is_objects(body.get("tools", [])), "a list of tools")
    _must_be(body, "stream", isinstance(body.get("stream", False), bool), "true or false")
    _must_be(body, "thinking", _is_thinking(body.get("thinking")), "an object whose budget_tokens is a whole number")
    if unbounded := next(filter(_runs_unbounded, body.get("tools", [])), None):
        why = "nobody can say how often the provider runs it within a call, and reads everything again"
        hint = "" if unbounded["type"].startswith("tool_") else ' (it does not with "allowed_callers": ["direct"])'
        raise invalid(f"tools: {unbounded['type'][:_MAX_NAME]}: {why}{hint}.", "tools", why)
    if _names(body["messages"], ("file", "container_upload")):
        why = "files of all tenants are in one place at the provider: send the content itself"
        raise invalid(f"messages: {why}.", "messages", why)
    betas = tuple(
        beta for part in headers.get("anthropic-beta", "").split(",") if _BETAS.fullmatch(beta := part.strip())
    )
    version = headers.get("anthropic-version", "")
    passed = {
        "content-type": "application/json",
        "anthropic-version": version if _VERSION.fullmatch(version) else _DEFAULT_VERSION,
        **({"anthropic-beta": ",".join(betas)} if betas else {}),
    }
    query = "beta=true" if "beta=true" in query.split("&") else ""
    return Asked(raw, body, passed, betas, query, _hints(body, headers))


def _hints(body: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, str]:
    hints = {name: _hint(headers[header]) for header, name in _HINTS.items() if headers.get(header)}
    metadata = body.get("metadata")
    user = metadata.get("user_id") if isinstance(metadata, Mapping) else None
    return {**hints, **({"user": _hint(user)} if isinstance(user, str) and user else {})}


def _hint(text: str) -> str:
    """Half of a pair of surrogates is JSON, but nothing that the table takes."""
    return text[:_MAX_HINT].encode("utf-8", "replace").decode()


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        # Decoded here: json would also take UTF-16, and the provider something else.
        body = json.loads(raw.decode("utf-8"), object_pairs_hook=_once, parse_constant=no_constant, parse_float=_finite)
        if is_deeper(body, _MAX_DEPTH):
            raise ValueError(f"nested more than {_MAX_DEPTH} deep")
    except RecursionError as error:
        raise invalid("The body is nested too deep.", "body", "nested too deep") from error
    except ValueError as error:
        why = str(error)[:200]
        raise invalid(f"The body is not valid JSON: {why}", "body", why) from error
    if not isinstance(body, dict):
        raise invalid("The body must be a JSON object.", "body", "must be a JSON object")
    return body


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Two readers may take another one each of a name that stands twice: what is checked here, and what is paid."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number is too large")
    return number


def _must_be(body: Mapping[str, Any], name: str, holds: bool, what: str) -> None:
    if not holds:
        missing = name not in body
        raise InvalidRequest(
            f"{name}: {'Field required' if missing else f'must be {what}'}",
            errors=[{"where": name, "why": f"must be {what}"}],
        )


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000_000


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_MODEL and value.isprintable()


def _is_thinking(value: Any) -> bool:
    """The budget is lowered with ``max_tokens``, so it has to be one."""
    return not isinstance(value, dict) or type(value.get("budget_tokens", 0)) is int


def _is_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _runs_unbounded(tool: Mapping[str, Any]) -> bool:
    """The provider's own tool search, and searches that run code over what they find, which ``max_uses`` does not
    count."""
    kind = str(tool.get("type"))
    if kind.startswith("tool_search_tool"):
        return True
    return bool(_WITH_CODE.match(kind)) and kind[-8:] >= "20260209" and tool.get("allowed_callers") != ["direct"]


def _names(value: Any, types: Collection[str]) -> bool:
    """Whether there is a block or a source of these types. What only looks like one, as in the arguments of a call, is
    text."""
    if isinstance(value, dict):
        if value.get("type") in types:
            return True
        return any(_names(value[name], types) for name in ("content", "source") if name in value)
    return isinstance(value, list) and any(_names(each, types) for each in value)


def _mentions_one_hour(value: Any) -> bool:
    if isinstance(value, dict):
        return value.get("ttl") == "1h" or any(_mentions_one_hour(inner) for inner in value.values())
    return isinstance(value, list) and any(map(_mentions_one_hour, value))
