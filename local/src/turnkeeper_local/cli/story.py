"""The story of a session, for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from turnkeeper_local.cli.called import as_called
from turnkeeper_local.cli.text import clock, plain

Document = Mapping[str, Any]

#: What a line refers to, as it is named behind it; a scope its text names.
_REFS = ("seq", "call", "audit", "request_id", "trace_id")


def show_story(console: Console, document: Document) -> None:
    turn = f", turn {document['turn']}" if document.get("turn") else ""
    console.print(Text(f"{plain(document['session_id'])}{turn}", style="bold"))
    _row(console, "", Text(plain(document["why_ended"])))
    console.print()
    day = ""
    for line in document["story"]:
        if (date := _day(line["at"])) != day:
            console.print(Text(date, style="dim"))
            day = date
        refs = ", ".join(f"{name} {line['refs'][name]}" for name in _REFS if name in line["refs"])
        _row(
            console, clock(line["at"]), Text.assemble(plain(line["text"]), (f"  {plain(refs)}" if refs else "", "dim"))
        )
    console.print()
    console.print(Text("What now", style="bold"))
    for way in document["what_now"].splitlines():
        _row(console, "-", Text(plain(as_called(way))))


def _row(console: Console, mark: str, text: Text) -> None:
    if not console.is_terminal:  # for programs, and for copying: one thing a line
        console.print(Text.assemble(f"  {mark}  ", text), soft_wrap=True)
        return
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=len(mark) + 2, justify="right", style="dim")
    row.add_column(overflow="fold")
    row.add_row(mark, text)
    console.print(row)


def _day(at: str) -> str:
    try:
        return datetime.fromisoformat(at).astimezone().strftime("%Y-%m-%d")
    except ValueError:
        return ""
