"""Guarded tools, ready to hand to an agent. Everything is closed until it is listed.

Each raises :class:`~turnkeeper.core.tools.ToolDenied` for a call outside of what is allowed, in words that say what
*is* allowed, and :class:`~turnkeeper.core.tools.ToolError` where it could not do what it may. Every result is bounded
in bytes and marked untrusted. ``docs/guarded-tools.md`` says what each allows and refuses, and which limits remain.

Importing this package is cheap: what the tools need (an HTTP client, an SQL parser, drivers) is imported at the first
call.
"""

from __future__ import annotations

from turnkeeper.tools.command.run import shell
from turnkeeper.tools.files.read import read_files
from turnkeeper.tools.mcp.toolset import mcp_tools
from turnkeeper.tools.sql.query import sql_query
from turnkeeper.tools.web.fetch import http_fetch

__all__ = ["http_fetch", "mcp_tools", "read_files", "shell", "sql_query"]
