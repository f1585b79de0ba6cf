"""Strands Agents with its two session managers: files, and S3."""

from __future__ import annotations

import tempfile
from typing import Any

from common import MODEL, Over, Peer, main, page


def build(peer: Peer) -> None:
    import boto3
    from strands import Agent, tool
    from strands.agent.conversation_manager import NullConversationManager
    from strands.hooks import BeforeModelCallEvent
    from strands.models.anthropic import AnthropicModel
    from strands.session.file_session_manager import FileSessionManager
    from strands.session.s3_session_manager import S3SessionManager

    read_page = page

    @tool
    def look(page: int) -> str:
        """Read a page."""
        return read_page(page, peer.kilobytes)

    def mark(_event: BeforeModelCallEvent) -> None:
        if peer.over:
            raise Over
        peer.mark()

    connection = {"base_url": peer.address, "api_key": "sk-bench"}
    model = AnthropicModel(client_args=connection, model_id=MODEL, max_tokens=4096)
    with tempfile.TemporaryDirectory() as folder:
        manager: Any = (
            S3SessionManager("1", bucket="b", boto_session=boto3.Session(), region_name="us-east-1")
            if peer.variant == "s3"
            else FileSessionManager("1", storage_dir=folder)
        )
        agent = Agent(
            model=model,
            system_prompt="Read." * 100,
            tools=[look],
            session_manager=manager,
            callback_handler=None,
            conversation_manager=NullConversationManager(),
        )
        agent.hooks.add_callback(BeforeModelCallEvent, mark)
        agent("Read it all.")


main(build)
