"""pydantic-ai with DBOS on SQLite: each model call and each tool call is a step that is written down."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from common import MODEL, Over, Peer, main, page


def build(peer: Peer) -> None:
    from anthropic import AsyncAnthropic
    from dbos import DBOS, DBOSConfig
    from pydantic_ai import Agent, UsageLimits
    from pydantic_ai.durable_exec.dbos import DBOSAgent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    class Marked(AnthropicModel):
        async def request(self, *arguments: Any, **named: Any) -> Any:
            if peer.over:
                raise Over
            peer.mark()
            return await super().request(*arguments, **named)

    client = AsyncAnthropic(base_url=peer.address, api_key="sk-bench")
    agent = Agent(
        Marked(MODEL, provider=AnthropicProvider(anthropic_client=client)), name="reader", instructions="Read." * 100
    )

    read_page = page

    @agent.tool_plain
    def look(page: int) -> str:
        """Read a page."""
        return read_page(page, peer.kilobytes)

    with tempfile.TemporaryDirectory() as folder:
        config: DBOSConfig = {"name": "bench", "system_database_url": f"sqlite:///{Path(folder) / 'dbos.sqlite'}"}
        DBOS(config=config)
        durable = DBOSAgent(agent)
        DBOS.launch()
        try:
            durable.run_sync("Read it all.", usage_limits=UsageLimits(request_limit=None))
        finally:
            DBOS.destroy()


main(build)
