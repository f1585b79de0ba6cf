"""The ``mcp_tools`` set."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from turnkeeper.core.schemas import schema_problem
from turnkeeper.core.tools import Effect, ForeignToolError, Tool, ToolContext, ToolDenied, ToolError, ToolSet
from turnkeeper.tools._common import Deadline, positive, strings
from turnkeeper.tools.mcp.content import blocks, text_of
from turnkeeper.tools.mcp.unions import folded

if TYPE_CHECKING:
    from mcp_types import Tool as ServerTool

    from turnkeeper.tools.mcp.client import Server

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_EFFECTS = ("read", "idempotent", "once")
_MAX_ARGUMENT_BYTES = 200_000
_MAX_SCHEMA_BYTES = 50_000
#: How long a server that gave no schema is left alone at least: those who waited meanwhile come one behind the other.
_ALONE_SECONDS = 2.0
_SERVER_NAME = re.compile(r"[\x21-\x7e]{1,128}")


def mcp_tools(
    url: str,
    allow: Iterable[str],
    effect: Mapping[str, Effect] | None = None,
    *,
    headers: Callable[[], Mapping[str, str]] | None = None,
    timeout_seconds: float = 30,
    max_bytes: int = 200_000,
    name: str | None = None,
    scopes: Iterable[str] = (),
    description: Mapping[str, str] | None = None,
    schemas: Mapping[str, Mapping[str, Any]] | None = None,
) -> ToolSet:
    """The listed tools of an MCP server, as tools like any other: under the same grants, budgets, audit and limits.

    ``allow`` names them; nothing else of the server is reachable, whatever it offers. ``effect`` says what each does,
    and without a word of the author it is ``once``: a server's own word about that is not taken. ``headers`` is
    asked before each call, for a token that changes; it goes to this server only. ``name`` is put before each tool's
    name with an underscore. ``description`` and ``schemas`` give, by tool, what the model reads about it; without a
    schema the server is asked for its own at first use, and then it is the server that writes that text. A union at the
    root of a schema is folded into one object; a tool whose schema the API does not take all the same is not offered.

    The tools answer content blocks of at most ``max_bytes`` bytes. They raise ToolError where the server reports an
    error, cannot be reached, or takes longer than ``timeout_seconds``.

    Raises:
        ValueError: a URL, name, effect, schema or limit that cannot be.
    """
    names = strings("allow", allow)
    effects, descriptions, known = dict(effect or {}), dict(description or {}), dict(schemas or {})
    positive("timeout_seconds", timeout_seconds)
    positive("max_bytes", max_bytes)
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.password:
        raise ValueError("the url of an MCP server is http(s)://host/path, without a user name or password in it")
    for named in (effects, descriptions, known):
        if strangers := set(named) - set(names):
            raise ValueError(f"not among the allowed tools: {', '.join(sorted(strangers))}")
    if wrong := [value for value in effects.values() if value not in _EFFECTS]:
        raise ValueError(f"an effect is one of {', '.join(_EFFECTS)}, not {wrong[0]!r}")
    own_names = {tool: _own_name(tool, name) for tool in names}
    if len(set(own_names.values())) != len(names):
        raise ValueError("two of the allowed tools would have the same name")

    given = {tool: folded(schema) for tool, schema in known.items()}
    for tool, schema in given.items():
        if (problem := schema_problem(schema)) is not None:
            raise ValueError(f"the schema given for {tool} is not one that the API takes: {problem}")

    remote = _Remote(url, headers or dict, timeout_seconds, max_bytes, given)
    return ToolSet(
        tuple(
            Tool(
                name=own_names[tool],
                description=descriptions.get(tool, f"The tool {tool} of the MCP server {parts.hostname}."),
                effect=effects.get(tool, "once"),
                input_schema=_Schema(remote, tool),
                body=_Body(remote, tool),
                scopes=frozenset(strings("scopes", scopes)),
                timeout_seconds=timeout_seconds,
                untrusted=True,
            )
            for tool in names
        )
    )


def _own_name(tool: str, prefix: str | None) -> str:
    if not _SERVER_NAME.fullmatch(tool):
        raise ValueError(f"{tool!r} is not the name of a tool")
    own = re.sub(r"[^a-zA-Z0-9_-]", "_", f"{prefix}_{tool}" if prefix else tool)
    if not _TOOL_NAME.fullmatch(own):
        raise ValueError(f"{own!r} is too long for the name of a tool")
    return own


class _Remote:
    """A server and what is known about its tools. The mcp package is imported at the first call, not before."""

    def __init__(
        self,
        url: str,
        headers: Callable[[], Mapping[str, str]],
        timeout_seconds: float,
        max_bytes: int,
        schemas: dict[str, dict[str, Any]],
    ) -> None:
        self._url = url
        self._headers = headers
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_bytes
        self._schemas = schemas
        self._lock = threading.Lock()
        #: Until when the server is not asked for schemas again, and why.
        self._left_alone: tuple[float, str] = (0.0, "")

    def schema(self, tool: str) -> Mapping[str, Any]:
        """The tool's schema, asked for once in the life of the process: a server cannot change it under way. It may
        be none that the API takes. A server that was asked in vain is left alone for as long as that took: who waits
        behind the lock, for this tool or another one, does not wait for it in turn.

        Raises:
            ToolError: the server cannot be reached, has no such tool, or says too much about it.
        """
        with self._lock:
            if tool not in self._schemas:
                offered = self._find(tool)
                if offered is None:
                    raise ToolError(f"The MCP server does not offer the tool {tool}.")
                schema = folded(offered.input_schema)
                if len(json.dumps(schema)) > _MAX_SCHEMA_BYTES:
                    raise ToolError(f"The MCP server describes the tool {tool} in more than {_MAX_SCHEMA_BYTES} bytes.")
                schema.setdefault("properties", {})
                self._schemas[tool] = schema
            return self._schemas[tool]

    def _find(self, tool: str) -> ServerTool | None:
        until, why = self._left_alone
        if time.monotonic() < until:
            raise ToolError(why)
        began = time.monotonic()
        try:
            return self._server().find(tool, Deadline.after(self._timeout_seconds))
        except ToolError as error:
            now = time.monotonic()
            self._left_alone = (now + max(now - began, _ALONE_SECONDS), str(error))
            raise

    def call(self, tool: str, ctx: ToolContext, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            size = len(json.dumps(dict(arguments), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ToolError("The arguments are not JSON.") from error
        if size > _MAX_ARGUMENT_BYTES:
            raise ToolDenied(f"The arguments may have at most {_MAX_ARGUMENT_BYTES} bytes.")
        result = self._server().call(tool, arguments, Deadline.of(ctx, self._timeout_seconds))
        if result.is_error:
            raise ForeignToolError(text_of(result.content, result.structured_content, min(self._max_bytes, 8_000)))
        return blocks(result.content, result.structured_content, self._max_bytes)

    def _server(self) -> Server:
        from turnkeeper.tools.mcp.client import Server

        # Base64, JSON and the envelope around them; past that it is not an answer any more.
        return Server(self._url, self._headers, self._max_bytes * 4 + 1_000_000)


class _Schema:
    def __init__(self, remote: _Remote, tool: str) -> None:
        self._remote, self._tool = remote, tool

    def __call__(self) -> Mapping[str, Any]:
        return self._remote.schema(self._tool)


class _Body:
    def __init__(self, remote: _Remote, tool: str) -> None:
        self._remote, self._tool = remote, tool

    def __call__(self, ctx: ToolContext, arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._remote.call(self._tool, ctx, arguments)
