"""What docs/gateway.md shows of clients is carried out, against a gateway."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.gateway import Rig
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
