"""The spend report and the reconciliation as documents, tables and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from turnkeeper.core.money import format_usd
from turnkeeper.core.reconciling import Line, Reconciliation, Report
from turnkeeper.core.spending import LedgerCall, Tally
from turnkeeper.core.usage import Usage
from turnkeeper.runtime.reports import Spending
from turnkeeper_local.cli.tables import add_row
from turnkeeper_local.cli.text import moment, plain, usd

Document = dict[str, Any]

#: Columns of the report, in CSV too.
COLUMNS = (
    *("key", "calls", "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "settled_usd"),
    *("in_doubt_usd", "voided_calls", "reserved_usd", "total_usd"),
)
#: The columns behind the first, for people.
_SHORT = ("calls", "in", "out", "read", "written", "settled", "in doubt", "voided", "reserved", "total")
#: Characters of a version that tell it from others.
_SHORT_VERSION = 12
#: Control characters but for tabs and line feeds, which CSV can quote.
_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def report_document(report: Spending) -> Document:
    """Rows by key for days, else the dearest first."""
    rows = sorted(report.rows.items(), key=lambda row: (0 if report.by == "day" else -row[1].total_nanousd, row[0]))
    return {
        "by": report.by,
        "from": report.first.isoformat(),
        "to": report.last.isoformat(),
        "rows": [_row(key, tally) for key, tally in rows],
        "total": _row("total", report.total),
        "counters": report.checked,
        "differences": [
            {
                "counter": str(each),
                "ledger_spent_usd": format_usd(each.ledger.spent),
                "counter_spent_usd": format_usd(each.held.spent),
                "ledger_reserved_usd": format_usd(each.ledger.reserved),
                "counter_reserved_usd": format_usd(each.held.reserved),
            }
            for each in report.differences
        ],
        "calls_went_on": report.moving,
        "not_checked": sorted(report.expired),
    }


def _row(key: str, tally: Tally) -> Document:
    return {
        "key": key,
        "calls": tally.calls,
        **_tokens(tally.usage),
        "settled_usd": format_usd(tally.settled_nanousd),
        "in_doubt_usd": format_usd(tally.in_doubt_nanousd),
        "voided_calls": tally.voided,
        "reserved_usd": format_usd(tally.reserved_nanousd),
        "total_usd": format_usd(tally.total_nanousd),
    }


def csv_of(document: Mapping[str, Any]) -> str:
    """The rows without their total. A key that a spreadsheet would take for a formula gets an apostrophe before it, and
    what a terminal would take for a command, or a reader for the end of a line, is U+FFFD."""
    text = io.StringIO()
    lines = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    lines.writeheader()
    for row in document["rows"]:
        key = _COMMANDS.sub("\ufffd", row["key"])
        lines.writerow({**row, "key": f"'{key}" if key[:1] in {"=", "+", "-", "@", "\t"} and key != "-" else key})
    return text.getvalue()


def verdict(document: Mapping[str, Any]) -> str:
    """Whether the counters say the same, in a sentence, and each that does not."""
    if not document["differences"]:
        went_on = " (calls went on while it was read)" if document["calls_went_on"] else ""
        text = f"adds up to the counters: {document['counters']} were looked at{went_on}"
    else:
        text = "\n".join(
            f"differs from the counter {each['counter']}: the ledger has {each['ledger_spent_usd']} spent and "
            f"{each['ledger_reserved_usd']} reserved, the counter {each['counter_spent_usd']} and "
            f"{each['counter_reserved_usd']}"
            for each in document["differences"]
        )
    gone = document["not_checked"]
    return f"{text}\nnot held against counters, which are gone by now: {', '.join(gone)}" if gone else text


def report_table(document: Mapping[str, Any]) -> Group:
    table = _table(document["by"], *_SHORT, right=_SHORT)
    rows = [*document["rows"], *([document["total"]] if len(document["rows"]) != 1 else [])]
    for row in rows:
        cells = [usd(row[name]) if name.endswith("_usd") else _count(row[name]) for name in COLUMNS]
        if document["by"] == "version":
            agent, at, version = cells[0].rpartition("@")
            cells[0] = f"{agent}{at}{version[:_SHORT_VERSION]}"
        add_row(table, cells, style="bold" if row is document["total"] else None)
    well = not document["differences"]
    mark = Text.assemble(("✓ ", "green") if well else ("✗ ", "bold red"), plain(verdict(document)))
    return Group(Text(f"{document['from']} to {document['to']}", style="bold"), table, mark)


def _table(*columns: str, right: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for column in columns:
        number = column in right
        table.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=number)
    return table


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


# ---- reconciliation ----


def reconciliation_document(found: Reconciliation, report: Report) -> Document:
    return {
        "agrees": found.agrees,
        "from": min(report.days),
        "to": max(report.days),
        #: Where the provider told tokens only, they are priced here.
        "provider_usd_from": "its costs" if report.charged_days else "its tokens, at the prices of this kit",
        "lines": [_line(line) for line in found.lines],
        "total": _line(found.total),
        "in_doubt": [_doubted(call) for call in found.in_doubt],
    }


def _line(line: Line) -> Document:
    return {
        "day": line.day,
        "model": line.model,
        "agrees": line.agrees,
        "ledger": {
            "calls": line.ledger.calls,
            **_tokens(line.ledger.usage),
            "settled_usd": format_usd(line.ledger.settled_nanousd),
            "in_doubt_usd": format_usd(line.ledger.in_doubt_nanousd),
            "reserved_usd": format_usd(line.ledger.reserved_nanousd),
        },
        "provider": {
            **(_tokens(line.tokens) if line.tokens is not None else {}),
            "usd": None if line.unpriced else format_usd(_whole(line.charged or Decimal(0))),
        },
        "difference_usd": None if line.unpriced else format_usd(_whole(line.difference)),
        "least_usd": format_usd(line.low),
        "most_usd": format_usd(line.high),
    }


def _tokens(usage: Usage) -> Document:
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_input_tokens,
        "cache_write_tokens": usage.cache_creation_input_tokens,
    }


def _whole(nanousd: Decimal) -> int:
    return int(nanousd.to_integral_value(rounding=ROUND_HALF_EVEN))


def _doubted(call: LedgerCall) -> Document:
    return {
        "request_id": call.request_id,
        "at": call.at,
        "resolved_at": call.resolved_at,
        "state": call.state,
        "amount_usd": format_usd(call.spent_nanousd + call.reserved_nanousd),
        "model": call.model,
        "tenant_id": call.tenant_id,
        "session_id": call.session_id,
        "error": call.error,
    }


def reconciliation_table(document: Mapping[str, Any]) -> Group:
    names = ("day", "model", "calls", "tokens", "provider's", "settled", "in doubt", "provider's ", "difference", "")
    table = _table(*names, right=names[2:9])
    for line in (*document["lines"], document["total"]):
        ledger, provider = line["ledger"], line["provider"]
        told = "input_tokens" in provider
        mark = {True: "✓", False: "✗", None: ""}[line["agrees"]]
        cells = [
            *(line["day"], line["model"], _count(ledger["calls"]), _sum(ledger), _sum(provider) if told else "-"),
            *(usd(ledger["settled_usd"]), usd(ledger["in_doubt_usd"])),
            *(usd(provider["usd"]), usd(line["difference_usd"]), mark),
        ]
        style = "red" if line["agrees"] is False else "bold" if line is document["total"] else None
        add_row(table, cells, style=style)
    parts: list[Any] = [Text(f"{document['from']} to {document['to']}, UTC", style="bold"), table]
    if document["in_doubt"]:
        parts.append(Text("Calls in doubt: what they cost is known to the provider only.", style="bold"))
        parts.append(_doubt_table(document["in_doubt"]))
    total = document["total"]
    if document["agrees"]:
        within = f"{total['least_usd']} to {total['most_usd']} USD"
        parts.append(Text.assemble(("✓ ", "green"), f"agrees: the ledger allows for {within}"))
    else:
        parts.append(
            Text.assemble(("✗ ", "bold red"), "does not agree, beyond what is in doubt: see docs/operations/spend.md")
        )
    parts.append(Text(f"The provider's dollars are {document['provider_usd_from']}.", style="dim"))
    return Group(*parts)


def _sum(tokens: Mapping[str, Any]) -> str:
    return _count(sum(value for name, value in tokens.items() if name.endswith("_tokens")))


def _doubt_table(calls: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("request", "at", "state", "amount", "model", "session", "error", right=("amount",))
    for call in calls:
        cells = [
            *(call["request_id"] or "-", moment(call["at"]), call["state"], usd(call["amount_usd"]), call["model"]),
            *(call["session_id"], call["error"] or ""),
        ]
        add_row(table, cells)
    return table
