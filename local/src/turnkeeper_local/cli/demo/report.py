"""What happened, line by line, with what each step cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from turnkeeper_local.cli.text import plain, seconds, usd

Document = Mapping[str, Any]


def timeline(sessions: Mapping[str, tuple[Document, Sequence[Document]]]) -> list[dict[str, Any]]:
    """One row for each answer of the model and each move or stop of a session, in the order in which they happened."""
    rows = []
    for name, (_, events) in sessions.items():
        runner = "lambda"
        for event, following in zip(events, [*events[1:], None], strict=True):
            row = {"at": event["at"], "session": name, "what": _what(event), "took_ms": event.get("duration_ms")}
            row["cost_usd"] = event.get("cost_usd") if event["type"] == "assistant" else None
            runner = str(event.get("runner") or _runner(events, event) or runner)
            if row["what"] and not _same(event, following):
                rows.append({**row, "runner": runner})
    return sorted(rows, key=lambda row: str(row["at"]))


def _runner(events: Sequence[Document], event: Document) -> str | None:
    """Who wrote an entry: the next status entry says so."""
    return next((str(e["runner"]) for e in events if e["seq"] >= event["seq"] and e.get("runner")), None)


def _same(event: Document, following: Document | None) -> bool:
    """An answer that ends a turn and the turn's end need two lines only where the end is not the plain one."""
    return event["type"] == "status" and event.get("status") == "idle" and following is None


def _what(event: Document) -> str:
    if event["type"] == "assistant":
        calls = [str(block["name"]) for block in event["content"] if block.get("type") == "tool_use"]
        return f"asks for {', '.join(calls)}" if calls else "answers"
    if event["type"] == "status":
        stop = (event.get("stop") or {}).get("reason", "")
        if event.get("status") == "queued":
            return "handed off to the worker"
        return " ".join(filter(None, [str(event.get("status")), stop])) if event.get("status") != "idle" else ""
    if event["type"] == "user":
        return "" if event.get("by_kit") else "the user says something"
    return ""


def report(sessions: Mapping[str, tuple[Document, Sequence[Document]]]) -> Group:
    rows = timeline(sessions)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column in ("time", "session", "runner", "what", "took", "cost"):
        table.add_column(column, justify="right" if column in {"time", "took", "cost"} else "left")
    began = _moment(rows[0]["at"]) if rows else None
    for row in rows:
        offset = (_moment(row["at"]) - began).total_seconds() if began else 0.0
        style = "bold cyan" if "handed off" in row["what"] else None
        cells = (row["session"], row["runner"], plain(row["what"]))
        took = seconds(row["took_ms"]) if row["took_ms"] is not None else ""
        cost = usd(row["cost_usd"]) if row["cost_usd"] else ""
        table.add_row(f"{offset:.1f} s", *cells, took, cost, style=style)
    totals = Table.grid(padding=(0, 2))
    for name, (session, _) in sessions.items():
        steps = f"{session['steps']} steps"
        totals.add_row(
            name, session["session_id"], session["agent"], str(session["status"]), steps, usd(session["cost_usd"])
        )
    return Group(table, totals, Text(f"{usd(total(sessions))} in all", style="bold"))


def total(sessions: Mapping[str, tuple[Document, Sequence[Document]]]) -> str:
    return str(sum((Decimal(session["cost_usd"]) for session, _ in sessions.values()), Decimal(0)))


def _moment(at: Any) -> datetime:
    return datetime.fromisoformat(str(at))
