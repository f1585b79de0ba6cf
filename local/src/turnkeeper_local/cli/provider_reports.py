"""What the provider says was used and charged, from files of it: pages of the Admin API's usage and cost reports as
JSON (one document, an array, or one after the other), and the console's exports as CSV.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from turnkeeper.core.reconciling import Charged, Report, Used
from turnkeeper.core.usage import Usage
from turnkeeper_local.cli.errors import UsageError

#: What a column, or a member of the API's results, is called in the two forms.
_TOKENS = {
    "uncached_input_tokens": "usage_input_tokens_no_cache",
    "cache_read_input_tokens": "usage_input_tokens_cache_read",
    "ephemeral_5m_input_tokens": "usage_input_tokens_cache_write_5m",
    "ephemeral_1h_input_tokens": "usage_input_tokens_cache_write_1h",
    "output_tokens": "usage_output_tokens",
    "web_search_requests": "web_search_count",
}
#: Before and behind the point: nobody is charged more, or less.
_MOST_DIGITS = 18
_DAY = re.compile(r"20\d\d-\d\d-\d\d")
_WHAT = "the Admin API's usage_report/messages or cost_report as JSON, or the console's export of usage or cost as CSV"


def read_report(texts: Iterable[tuple[str, str]], workspace: str | None = None) -> Report:
    """The report of some files, each a name and a text; only of one workspace where it is named (by its id in what the
    API says, by its name in what the console exports).

    Raises:
        UsageError: a text is none of the forms, not whole, or grouped by too little; says which and what to do.
    """
    report = Report()
    for name, said in texts:
        text = said.removeprefix("\ufeff")
        try:
            more = _of_json(text, workspace) if text.lstrip()[:1] in {"{", "["} else _of_csv(text, workspace)
        except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation, RecursionError) as error:
            why = str(error) if isinstance(error, ValueError) else f"cannot be read: {error!r}"
            raise UsageError(f"{name}: {why}. It takes {_WHAT}", code="bad_report") from error
        report = Report(
            report.used + more.used,
            report.charged + more.charged,
            report.used_days | more.used_days,
            report.charged_days | more.charged_days,
        )
    if not report.days:
        raise UsageError(f"there is no day in what the provider says. It takes {_WHAT}", code="bad_report")
    return report


# ---- the Admin API ----


def read_pages(pages: Iterable[Mapping[str, Any]], workspace: str | None = None) -> Report:
    """The report of pages that the API itself answered.

    Raises:
        UsageError: they are not as they are documented.
    """
    try:
        return report_of_pages(pages, workspace)
    except (KeyError, TypeError, ValueError, AttributeError, InvalidOperation) as error:
        raise UsageError(f"the Admin API did not answer as it is documented: {error!r}", code="bad_report") from error


def report_of_pages(pages: Iterable[Mapping[str, Any]], workspace: str | None = None) -> Report:
    """The pages of either report, or of both. A page says by its results which one it is of; one without any result
    tells of days without anything in both.

    Raises:
        ValueError, KeyError, TypeError: they are none.
    """
    used: list[Used] = []
    charged: list[Charged] = []
    empty: set[str] = set()
    used_days: set[str] = set()
    charged_days: set[str] = set()
    for page in pages:
        buckets = [(_day(bucket["starting_at"]), bucket["results"]) for bucket in page["data"]]
        results = [result for _, of_bucket in buckets for result in of_bucket]
        kinds = {"amount" in result for result in results}
        if len(kinds) == 2:
            raise ValueError("usage and cost are mixed in one page")
        days = empty if not kinds else charged_days if True in kinds else used_days
        days.update(day for day, _ in buckets)
        for day, of_bucket in buckets:
            for result in of_bucket:
                if workspace is not None and (result.get("workspace_id") or "default") != workspace:
                    continue
                if "amount" in result:
                    charged.append(_charged(day, result))
                else:
                    used.append(_used(day, result))
    if not used_days and not charged_days:
        used_days = empty
    for days in (used_days, charged_days):
        days.update(empty if days else ())
    return Report(tuple(used), tuple(charged), frozenset(used_days), frozenset(charged_days))


def _of_json(text: str, workspace: str | None) -> Report:
    pages: list[Mapping[str, Any]] = []
    decoder = json.JSONDecoder(parse_float=Decimal)
    at, text = 0, text.strip()
    while at < len(text):
        document, at = decoder.raw_decode(text, at)
        pages.extend(document if isinstance(document, list) else [document])
        while at < len(text) and text[at].isspace():
            at += 1
    if pages and pages[-1].get("has_more"):
        raise ValueError("more pages follow the last one (has_more): fetch them all, or let --admin-key-env do it")
    return report_of_pages(pages, workspace)


def _used(day: str, result: Mapping[str, Any]) -> Used:
    model = result["model"]
    if model is None:
        raise ValueError("the usage is not grouped by model (group_by[]=model)")
    written = result.get("cache_creation") or {}
    counts = {**result, **written, **(result.get("server_tool_use") or {})}
    return _of_counts(day, model, {name: _count(counts.get(name)) for name in _TOKENS}, result)


def _charged(day: str, result: Mapping[str, Any]) -> Charged:
    if (result.get("currency") or "USD") != "USD":
        raise ValueError(f"it is in {result['currency']}, not in USD")
    # The API's amounts are in cents.
    return Charged(day, result.get("model"), _amount(result["amount"]).scaleb(-2))


# ---- the console ----


def _of_csv(text: str, workspace: str | None) -> Report:
    rows = csv.DictReader(io.StringIO(text, newline=""))
    columns = set(rows.fieldnames or ())
    charges = "cost_usd" in columns
    needed = {"usage_date_utc", *(["model"] if charges else [*_TOKENS.values(), "model_version"])}
    if workspace is not None:
        needed.add("workspace")
    if missing := sorted(needed - columns):
        raise ValueError(f"it has no column {', '.join(missing)}")
    used: list[Used] = []
    charged: list[Charged] = []
    days: set[str] = set()
    for row in rows:
        try:
            day = _day(row["usage_date_utc"])
            days.add(day)
            if workspace is not None and row["workspace"] != workspace:
                continue
            if charges:
                charged.append(Charged(day, row["model"] or None, _amount(row["cost_usd"])))
            else:
                counts = {name: _count(row[column]) for name, column in _TOKENS.items()}
                used.append(_of_counts(day, row["model_version"], counts, row))
        except (ValueError, TypeError, InvalidOperation) as error:
            raise ValueError(f"line {rows.line_num}: {error}") from error
    found = frozenset(days)
    return Report(tuple(used), tuple(charged), frozenset() if charges else found, found if charges else frozenset())


def _of_counts(day: str, model: str, counts: Mapping[str, int], kind: Mapping[str, Any]) -> Used:
    if not model:
        raise ValueError("a line names no model")
    written_for_an_hour = counts["ephemeral_1h_input_tokens"]
    window = str(kind.get("context_window") or "")
    return Used(
        day,
        model,
        Usage(
            input_tokens=counts["uncached_input_tokens"],
            output_tokens=counts["output_tokens"],
            cache_read_input_tokens=counts["cache_read_input_tokens"],
            cache_creation_input_tokens=counts["ephemeral_5m_input_tokens"] + written_for_an_hour,
        ),
        written_for_an_hour,
        counts["web_search_requests"],
        long_context="1M" in window or window.startswith(">"),
        service_tier=_named(kind.get("service_tier") or kind.get("usage_type")) or "standard",
        inference_geo=_named(kind.get("inference_geo")),
        speed=_named(kind.get("speed")),
    )


def _named(value: Any) -> str | None:
    # The console calls calls that are nothing special `message` or `standard`.
    return None if value in {None, "", "not_available", "message", "standard"} else str(value)


def _day(text: str) -> str:
    """The day of a moment that the provider names, which are UTC's."""
    found = _DAY.match(text)
    if found is None:
        raise ValueError(f"{text!r} is no day such as 2026-11-25")
    return date.fromisoformat(found[0]).isoformat()


def _count(value: Any) -> int:
    count = int(value or 0)
    if not 0 <= count < 10**_MOST_DIGITS or (count != value and not isinstance(value, str | None)):
        raise ValueError(f"{value!r} is no number of tokens")
    return count


def _amount(value: Any) -> Decimal:
    amount = Decimal(str(value))
    if not amount.is_finite() or not -_MOST_DIGITS <= amount.adjusted() <= _MOST_DIGITS:
        raise ValueError(f"{value!r} is no amount of dollars")
    return amount
