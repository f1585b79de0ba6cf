"""What the API answers 400 to, inside ``messages``: roles, block types, and the fields of each block.

Of blocks that the kit never makes by itself (server tools, files) the names of their fields are checked, and the ids
that tie them together; what is inside is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from turnkeeper_local.standin import checks
from turnkeeper_local.standin.checks import Json
from turnkeeper_local.standin.errors import ApiError, invalid
from turnkeeper_local.standin.signatures import redacted_is_ours, thinking_is_ours

_MAX_MESSAGES = 100_000
_ID = re.compile(r"[a-zA-Z0-9_-]+")
_TOOL_USE_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")

_RESULT_FIELDS = ("tool_use_id", "content", "cache_control")
#: Blocks that the API makes and takes back, with the fields that it knows beside ``type``.
_SERVER_FIELDS: dict[str, tuple[str, ...]] = {
    "server_tool_use": ("id", "name", "input", "caller", "cache_control"),
    "web_search_tool_result": (*_RESULT_FIELDS, "caller"),
    "web_fetch_tool_result": (*_RESULT_FIELDS, "caller"),
    "code_execution_tool_result": _RESULT_FIELDS,
    "bash_code_execution_tool_result": _RESULT_FIELDS,
    "text_editor_code_execution_tool_result": _RESULT_FIELDS,
    "tool_search_tool_result": _RESULT_FIELDS,
    "mcp_tool_use": ("id", "name", "server_name", "input", "cache_control"),
    "mcp_tool_result": (*_RESULT_FIELDS, "is_error"),
    "mcp_tool_listing": ("mcp_server_name", "tools"),
    "advisor_tool_result": _RESULT_FIELDS,
    "compaction": ("content", "encrypted_content", "signature", "tool_changes", "cache_control"),
    "fallback": ("from", "to", "trigger"),
}
_SERVER_BLOCKS = frozenset(_SERVER_FIELDS)
#: Fields of a source, by the block that it belongs to and its own type.
_SOURCE_FIELDS: dict[tuple[str, str], tuple[str, ...]] = {
    ("image", "base64"): ("media_type", "data"),
    ("image", "url"): ("url",),
    ("image", "file"): ("file_id",),
    ("document", "base64"): ("media_type", "data"),
    ("document", "text"): ("media_type", "data"),
    ("document", "content"): ("content",),
    ("document", "url"): ("url",),
    ("document", "file"): ("file_id",),
}
_USER_ONLY = frozenset({"tool_result", "image", "document", "search_result"})
_ASSISTANT_ONLY = frozenset({"tool_use", "thinking", "redacted_thinking", *_SERVER_BLOCKS})
_BOTH = frozenset({"text", "container_upload"})
_KNOWN = _USER_ONLY | _ASSISTANT_ONLY | _BOTH

_EMPTY = "all messages must have non-empty content except for the optional final assistant message"
_RESULT_BLOCKS = ("text", "image", "search_result", "document", "tool_reference", "browser_state")


def validate_messages(value: object) -> None:
    messages = checks.array(value, "messages")
    if not messages:
        raise invalid("messages: at least one message is required")
    if len(messages) > _MAX_MESSAGES:
        raise invalid(f"messages: at most {_MAX_MESSAGES} messages are allowed in a single request")
    previous = ""
    for index, message in enumerate(messages):
        at = f"messages.{index}"
        role = _message(checks.mapping(message, at), at, last=index == len(messages) - 1)
        if not index and role != "user":
            raise invalid('messages: first message must use the "user" role')
        if role == "system" and previous == "assistant":
            raise invalid(f"{at}: a `system` message must come right after a `user` message")
        previous = role


def ends_paused(message: Json) -> bool:
    """Whether an assistant message ends in the middle of a server tool, so that sending it back goes on with it."""
    content = message["content"]
    return isinstance(content, list) and bool(content) and content[-1]["type"] in _SERVER_BLOCKS


def validate_text_block(value: object, at: str, *, field: str = "messages", blank_allowed: bool = False) -> None:
    """A text block anywhere in a request; the API names only the ``field`` when its text is empty."""
    block = checks.mapping(value, at)
    checks.one_of(checks.required(block, "type", at), ("text",), f"{at}.type")
    checks.only(block, ("type", "text", "cache_control", "citations"), f"{at}.text")
    text = checks.string(checks.required(block, "text", f"{at}.text"), f"{at}.text.text")
    if not text:
        raise invalid(f"{field}: text content blocks must be non-empty")
    if not blank_allowed and not text.strip():
        raise invalid(f"{field}: text content blocks must contain non-whitespace text")
    checks.cache_control(block.get("cache_control"), f"{at}.text.cache_control")
    if block.get("citations") is not None:
        checks.array(block["citations"], f"{at}.text.citations")


def _message(message: Json, at: str, *, last: bool) -> str:
    role = checks.required(message, "role", at)
    checks.one_of(role, ("user", "assistant", "system"), f"{at}.role")
    content = checks.required(message, "content", at)
    checks.only(message, ("role", "content", "output_config"), at)
    checks.effort(message.get("output_config"), f"{at}.output_config")
    if isinstance(content, str):
        if not content and not (last and role == "assistant"):
            raise invalid(f"{at}: {_EMPTY}")
        if content and not content.strip():
            raise invalid("messages: text content blocks must contain non-whitespace text")
        return str(role)
    if not isinstance(content, list):
        raise invalid(f"{at}.content: Input should be a valid string or a valid list of content blocks")
    if not content and not (last and role == "assistant"):
        raise invalid(f"{at}: {_EMPTY}")
    for index, block in enumerate(content):
        _block(checks.mapping(block, f"{at}.content.{index}"), str(role), f"{at}.content.{index}")
    return str(role)


def _block(block: Json, role: str, at: str) -> None:
    kind = checks.string(checks.required(block, "type", at), f"{at}.type")
    if kind not in _KNOWN:
        raise _unexpected_tag(at, kind, sorted(_KNOWN))
    if role == "system" and kind != "text":
        raise invalid(f"{at}: `{kind}` blocks are not allowed in `system` messages")
    if kind in _USER_ONLY and role != "user":
        raise invalid(f"{at}: `{kind}` blocks can only be in `user` messages")
    if kind in _ASSISTANT_ONLY and role != "assistant":
        raise invalid(f"{at}: `{kind}` blocks can only be in `assistant` messages")
    if kind == "text" and role == "user" and block.get("citations"):
        raise invalid(f"{at}.text.citations: citations are not allowed on text blocks in `user` messages")
    if kind in _SERVER_FIELDS:
        _server_block(block, kind, f"{at}.{kind}")
    if check := _CHECKS.get(kind):
        check(block, at)


def check_citations(messages: Sequence[Json]) -> None:
    """Documents of one request are cited all or not at all; so are its search results."""
    for kind in ("document", "search_result"):
        enabled = {bool((block.get("citations") or {}).get("enabled")) for block in _all_blocks(messages, kind)}
        if len(enabled) > 1:
            raise invalid(f"messages: citations must be enabled on all or none of the {kind} blocks in a request")


def _all_blocks(messages: Sequence[Json], kind: str) -> Iterator[Json]:
    """Blocks of this type, also those inside tool results."""
    for message in messages:
        for block in message["content"] if isinstance(message["content"], list) else ():
            inner = block.get("content") if block["type"] == "tool_result" else ()
            yield from (each for each in (block, *(inner if isinstance(inner, list) else ())) if each["type"] == kind)


def _server_block(block: Json, kind: str, at: str) -> None:
    checks.only(block, ("type", *_SERVER_FIELDS[kind]), at)
    for name in ("id", "tool_use_id"):
        if name in _SERVER_FIELDS[kind]:
            _id(block, name, at)
    if "input" in _SERVER_FIELDS[kind]:
        checks.string(checks.required(block, "name", at), f"{at}.name")
        checks.mapping(checks.required(block, "input", at), f"{at}.input")
    checks.cache_control(block.get("cache_control"), f"{at}.cache_control")


def _id(block: Json, name: str, at: str) -> None:
    if not _ID.fullmatch(checks.string(checks.required(block, name, at), f"{at}.{name}")):
        raise invalid(f"{at}.{name}: String should match pattern '^{_ID.pattern}$'")


def _unexpected_tag(at: str, kind: object, known: Iterable[str]) -> ApiError:
    tags = ", ".join(f"'{name}'" for name in known)
    return invalid(f"{at}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {tags}")


def _tool_use(block: Json, at: str) -> None:
    at = f"{at}.tool_use"
    checks.only(block, ("type", "id", "name", "input", "cache_control", "caller", "toolset_name"), at)
    _id(block, "id", at)
    if not _TOOL_USE_NAME.fullmatch(checks.string(checks.required(block, "name", at), f"{at}.name")):
        raise invalid(f"{at}.name: String should match pattern '^{_TOOL_USE_NAME.pattern}$'")
    checks.mapping(checks.required(block, "input", at), f"{at}.input")
    checks.cache_control(block.get("cache_control"), f"{at}.cache_control")


def _tool_result(block: Json, at: str) -> None:
    at = f"{at}.tool_result"
    checks.only(block, ("type", "tool_use_id", "content", "is_error", "cache_control", "toolset_name"), at)
    _id(block, "tool_use_id", at)
    checks.cache_control(block.get("cache_control"), f"{at}.cache_control")
    is_error = "is_error" in block and checks.boolean(block["is_error"], f"{at}.is_error")
    content = block.get("content", "")
    if not isinstance(content, str | list):
        raise invalid(f"{at}.content: Input should be a valid string or a valid list of content blocks")
    if is_error and not content:
        raise invalid(f"{at}.content: content cannot be empty if `is_error` is true")
    for index, part in enumerate(content if isinstance(content, list) else ()):
        inside = f"{at}.content.{index}"
        kind = checks.required(checks.mapping(part, inside), "type", inside)
        if not isinstance(kind, str) or kind not in _RESULT_BLOCKS:
            raise _unexpected_tag(inside, kind, _RESULT_BLOCKS)
        if is_error and kind != "text":
            raise invalid(f'{at}: all content must be type "text" if `is_error` is true')
        if kind == "text":
            validate_text_block(part, inside, blank_allowed=True)
        elif check := _CHECKS.get(kind):
            check(part, inside)


def _thinking(block: Json, at: str) -> None:
    at = f"{at}.thinking"
    checks.only(block, ("type", "thinking", "signature"), at)
    text = checks.string(checks.required(block, "thinking", at), f"{at}.thinking")
    signature = checks.string(checks.required(block, "signature", at), f"{at}.signature")
    if not thinking_is_ours(text, signature):
        raise invalid(f"{at.removesuffix('.thinking')}: Invalid `signature` in `thinking` block")


def _redacted_thinking(block: Json, at: str) -> None:
    checks.only(block, ("type", "data"), f"{at}.redacted_thinking")
    data = checks.string(checks.required(block, "data", f"{at}.redacted_thinking"), f"{at}.redacted_thinking.data")
    if not redacted_is_ours(data):
        raise invalid(f"{at}: Invalid `data` in `redacted_thinking` block")


def _image(block: Json, at: str) -> None:
    at = f"{at}.image"
    checks.only(block, ("type", "source", "cache_control", "transformations"), at)
    source = _source(block, "image", at)
    if source["type"] == "base64":
        types = ("image/jpeg", "image/png", "image/gif", "image/webp")
        checks.one_of(source["media_type"], types, f"{at}.source.media_type")
        checks.string(source["data"], f"{at}.source.data")
    checks.cache_control(block.get("cache_control"), f"{at}.cache_control")


def _document(block: Json, at: str) -> None:
    at = f"{at}.document"
    checks.only(block, ("type", "source", "title", "context", "citations", "cache_control"), at)
    source = _source(block, "document", at)
    parts = source.get("content")
    for index, part in enumerate(parts if isinstance(parts, list) else ()):
        inside = f"{at}.source.content.{index}"
        kind = checks.required(checks.mapping(part, inside), "type", inside)
        if kind == "image":
            _image(part, inside)
        elif kind == "text":
            validate_text_block(part, inside, blank_allowed=True)
        else:
            raise _unexpected_tag(inside, kind, ("text", "image"))
    _citations(block, at)
    checks.cache_control(block.get("cache_control"), f"{at}.cache_control")


def _search_result(block: Json, at: str) -> None:
    at = f"{at}.search_result"
    checks.only(block, ("type", "source", "title", "content", "citations", "cache_control"), at)
    for name in ("source", "title"):
        checks.string(checks.required(block, name, at), f"{at}.{name}")
    for index, part in enumerate(checks.array(checks.required(block, "content", at), f"{at}.content")):
        validate_text_block(part, f"{at}.content.{index}")
    _citations(block, at)
    checks.cache_control(block.get("cache_control"), f"{at}.cache_control")


def _container_upload(block: Json, at: str) -> None:
    at = f"{at}.container_upload"
    checks.only(block, ("type", "file_id", "cache_control"), at)
    checks.string(checks.required(block, "file_id", at), f"{at}.file_id")
    checks.cache_control(block.get("cache_control"), f"{at}.cache_control")


def _source(block: Json, owner: str, at: str) -> Json:
    at = f"{at}.source"
    source = checks.mapping(checks.required(block, "source", at.removesuffix(".source")), at)
    kinds = [kind for holder, kind in _SOURCE_FIELDS if holder == owner]
    kind = checks.one_of(checks.required(source, "type", at), kinds, f"{at}.type")
    fields = _SOURCE_FIELDS[owner, kind]
    checks.only(source, ("type", *fields), f"{at}.{kind}")
    for name in fields:
        checks.required(source, name, f"{at}.{kind}")
    return source


def _citations(block: Json, at: str) -> None:
    if block.get("citations") is not None:
        config = checks.mapping(block["citations"], f"{at}.citations")
        checks.only(config, ("enabled",), f"{at}.citations")
        if "enabled" in config:
            checks.boolean(config["enabled"], f"{at}.citations.enabled")


_CHECKS: dict[str, Callable[[Json, str], None]] = {
    "text": validate_text_block,
    "image": _image,
    "document": _document,
    "search_result": _search_result,
    "container_upload": _container_upload,
    "tool_use": _tool_use,
    "tool_result": _tool_result,
    "thinking": _thinking,
    "redacted_thinking": _redacted_thinking,
}
