"""``mcp_tools``: listed tools of an MCP server, reached over streamable HTTP.

``client``   one call: connect, ask, disconnect, within time and size; the only place that knows the mcp package
``content``  what a server answers, as content blocks of bounded size
``toolset``  the tools
"""
