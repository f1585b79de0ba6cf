"""The kit's own tools as the program reaches them: an MCP server in the worker's process, behind the same toolbox."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from turnkeeper.core.session import ToolOutcome
from turnkeeper.core.tools import Tool
from turnkeeper.core.transcript import Block
from turnkeeper.sdk.declaration import SERVER

logger = logging.getLogger(__name__)

#: Where the program says which call of the model a request is for.
CALL_ID = "claudecode/toolUseId"

Run = Callable[[str, str, dict[str, Any]], Awaitable[tuple[Block, ToolOutcome]]]


def server_of(tools: Iterable[Tool], run: Run) -> dict[str, Any]:
    """The server, as ``mcp_servers`` of the SDK's options takes it.

    Args:
        run: answers one call, named by its id, its tool and its arguments. Raises nothing for what a tool does.
    """
    from mcp import types
    from mcp.server import Server

    shown = []
    for tool in tools:
        try:
            schema = dict(tool.schema())
        except Exception as error:  # noqa: BLE001 - somebody else's server
            logger.warning("tool %s is left out: %s", tool.name, type(error).__name__)
            continue
        shown.append(types.Tool(name=tool.name, description=tool.description, input_schema=schema))

    async def list_tools(_context: Any, _params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=shown)

    async def call_tool(_context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        call_id = str((params.meta or {}).get(CALL_ID, ""))
        block, outcome = await run(call_id, params.name, dict(params.arguments or {}))
        content = [_content(each, types) for each in block["content"]]
        return types.CallToolResult(content=content, is_error=outcome.is_error)

    return {"type": "sdk", "name": SERVER, "instance": Server(SERVER, on_list_tools=list_tools, on_call_tool=call_tool)}


def _content(block: Block, types: Any) -> Any:
    source = block.get("source")
    if block.get("type") == "text":
        return types.TextContent(type="text", text=block["text"])
    if block.get("type") == "image" and isinstance(source, dict) and source.get("type") == "base64":
        return types.ImageContent(type="image", data=source["data"], mime_type=source["media_type"])
    return types.TextContent(type="text", text=json.dumps(block, ensure_ascii=False))
