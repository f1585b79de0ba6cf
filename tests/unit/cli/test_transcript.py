"""A transcript for people."""

from __future__ import annotations

import io

from rich.console import Console

from turnkeeper_local.cli.transcript import Transcript


def test_people_are_shown_what_the_model_no_longer_sees() -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    printed = Transcript(console)
    marks = [{"seq": seq, "what": "summarized"} for seq in (2, 3, 9)]
    printed.show({"seq": 12, "type": "compaction", "left_out": marks, "summary": "It went well.", "cost_usd": "0.01"})
    printed.show(
        {"seq": 14, "type": "compaction", "left_out": [{"seq": 10, "index": 0, "what": "old"}], "cost_usd": "0"}
    )
    text = console.export_text()
    assert "not sent entries 2 to 9 any more, but this summary:" in text
    assert "It went well." in text
    assert "not sent 1 old results any more" in text
