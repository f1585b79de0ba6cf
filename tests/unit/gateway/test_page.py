"""What docs/gateway.md shows of clients is carried out, against a gateway; and what clients do of their own accord."""

from __future__ import annotations

import os
import subprocess
import sys

import anthropic
import pytest

from tests.support.gateway import MODEL, Rig
from tests.support.snippets import ROOT, blocks

CLIENTS = [block for block in blocks(ROOT / "docs" / "gateway.md") if block.language == "python"]


def test_each_client_of_the_page_is_looked_at() -> None:
    assert len(CLIENTS) == 3


@pytest.mark.parametrize("number", range(3), ids=["anthropic", "langchain", "pydantic-ai"])
def test_a_client_as_the_page_shows_it(number: int, rig: Rig) -> None:
    block = CLIENTS[number]
    assert len(block.text.strip().splitlines()) <= 6
    environment = {**os.environ, "GATEWAY_URL": rig.url, "GATEWAY_TOKEN": rig.token()}
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_BASE_URL"):
        environment.pop(name, None)
    done = subprocess.run(
        [sys.executable, "-c", block.text], check=False, capture_output=True, text=True, timeout=120, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert [call["state"] for call in rig.calls()] == ["settled"]


@pytest.mark.parametrize("streams", [False, True], ids=["whole", "stream"])
def test_the_sdks_tool_runner_sends_whole_conversations_where_it_is_told_to(streams: bool, rig: Rig) -> None:
    """It asks the provider to hold the conversation unless it is told, in the API's words, that this cannot be."""

    @anthropic.beta_tool
    def add(a: int, b: int) -> str:
        """Add two numbers."""
        return str(a + b)

    script = {"role": "user", "content": '[[tool add {"a": 1, "b": 2}]] [[say three]]'}
    runner = rig.client().beta.messages.tool_runner(
        model=MODEL, max_tokens=50, messages=[script], tools=[add], stream=streams
    )
    message = runner.until_done()
    assert message.content[0].text == "three"
    assert [call["state"] for call in rig.calls()] == ["settled", "settled"]
