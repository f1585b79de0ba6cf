"""Events of a stream that are none of the API's."""

from __future__ import annotations

from typing import Any

import pytest

from turnkeeper.adapters.anthropic_stream import MalformedAnswer, PartialMessage


@pytest.mark.parametrize("piece", [None, 5, ["{}"], {"a": 1}, b"{}"])
@pytest.mark.parametrize(("kind", "name"), [("input_json_delta", "partial_json"), ("text_delta", "text")])
def test_a_piece_that_is_no_text_is_told_when_it_comes(kind: str, name: str, piece: Any) -> None:
    """Not once the answer is whole and paid for: then nobody counts with an error any more."""
    answer = PartialMessage()
    answer.feed({"type": "message_start", "message": {"id": "msg_1"}})
    block = {"type": "tool_use", "id": "t", "name": "n", "input": {}} if name == "partial_json" else {"type": "text"}
    answer.feed({"type": "content_block_start", "index": 0, "content_block": block})
    with pytest.raises(MalformedAnswer, match="TypeError"):
        answer.feed({"type": "content_block_delta", "index": 0, "delta": {"type": kind, name: piece}})
