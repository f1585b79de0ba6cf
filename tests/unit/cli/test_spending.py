"""`turnkeeper spend report` and `turnkeeper reconcile`: a table in memory, files, an Admin API of the test's own."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.support.kit import MODEL, WHO, MemoryKit
from tests.support.money import amend
from tests.unit.cli.conftest import Cli
from turnkeeper.core.money import format_usd
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.store.records import ledger_of
from turnkeeper.table import Key, Update
from turnkeeper.testing.clock import ManualClock
from turnkeeper_local.cli import operator as operating
from turnkeeper_local.cli import place
from turnkeeper_local.cli.operator import Operator

KEY = "sk-ant-admin01-the-key-that-nobody-is-told"
TODAY = date(2026, 11, 25)
RENT = Identity("globex", "=ann", "user")


@pytest.fixture
def kit(state_folder: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryKit:
    """On a day that does not end while a test runs."""
    kit = MemoryKit(clock=ManualClock(datetime(2026, 11, 25, 12, tzinfo=UTC)))
    monkeypatch.setattr(operating, "connect", lambda _: Operator(kit, lambda: "operator:test"))
    monkeypatch.setattr(place, "find", lambda _: None)
    return kit


@pytest.fixture
def used(kit: MemoryKit) -> list[dict[str, Any]]:
    """Sessions of two tenants, each with a turn; the records of their calls."""
    for who, session_id in ((WHO, "ses_1"), (WHO, "ses_2"), (RENT, "ses_3")):
        kit.run(kit.intake.create(who, NewSession("plain", "[[say hello]]", {}), session_id=session_id))
    return calls(kit)


def calls(kit: MemoryKit) -> list[dict[str, Any]]:
    return ledger_of(kit.table.snapshot())


# ---- the report ----


@pytest.mark.parametrize("option", ["--from", "--to"])
@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31", "2019-12-31"])
def test_days_that_no_ledger_has_are_refused(cli: Cli, kit: MemoryKit, option: str, day: str) -> None:
    answer = cli("spend", "report", "--by", "day", option, day)
    assert (answer.exit_code, "no ledger has such a year" in answer.stderr) == (2, True)


def test_a_day_that_has_not_come_yet_is_refused_or_has_no_calls(cli: Cli, kit: MemoryKit) -> None:
    answer = cli("spend", "report", "--by", "day", "--from", "2999-12-31")
    assert (answer.exit_code, "has not come yet" in answer.stderr) == (2, True)
    # It may have begun for one tenant and not for another.
    report = Operator(kit, lambda: "operator:test").spend_report("acme", "day", TODAY + timedelta(days=1), None)
    assert (dict(report.rows), report.differences) == ({}, [])


def test_the_record_of_a_call_names_agent_and_version(used: list[dict[str, Any]], kit: MemoryKit) -> None:
    assert {record["agent"] for record in used} == {"plain"}
    assert {record["version"] for record in used} == {kit.sessions.head("acme", "ses_1").version}


@pytest.mark.parametrize("by", ["tenant", "user", "agent", "version", "model", "day"])
def test_each_report_adds_up(cli: Cli, used: list[dict[str, Any]], by: str) -> None:
    document = cli("spend", "report", "--by", by, "--json").document
    spent = sum(record["spent_nanousd"] for record in used)
    assert spent > 0
    assert document["total"]["total_usd"] == format_usd(spent)
    assert sum(Decimal(row["total_usd"]) for row in document["rows"]) == Decimal(format_usd(spent))
    assert (document["differences"], document["calls_went_on"], document["by"]) == ([], False, by)
    assert document["counters"] >= 6
    version = used[0]["version"]
    assert {row["key"] for row in document["rows"]} == {
        "tenant": {"acme", "globex"},
        "user": {"acme/ann", "globex/=ann"},
        "agent": {"plain"},
        "version": {f"plain@{version}"},
        "model": {MODEL},
        "day": {TODAY.isoformat()},
    }[by]


def test_it_is_told_in_a_table_and_as_csv(cli: Cli, used: list[dict[str, Any]]) -> None:
    shown = cli("spend", "report", "--by", "tenant")
    assert shown.exit_code == 0
    assert "adds up to the counters" in shown.stdout
    assert "acme" in shown.stdout
    result = cli("spend", "report", "--by", "user", "--tenant", "globex", "--csv")
    assert "adds up to the counters" in result.stderr
    [row] = csv.DictReader(result.stdout.splitlines())
    # What a spreadsheet would take for a formula is text.
    assert row.pop("key") == "'=ann"
    mine = next(record for record in used if "globex" in record["pk"])
    assert row == {
        "calls": "1",
        "input_tokens": str(mine["usage"]["input_tokens"]),
        "output_tokens": str(mine["usage"]["output_tokens"]),
        "cache_read_tokens": str(mine["usage"]["cache_read_input_tokens"]),
        "cache_write_tokens": str(mine["usage"]["cache_creation_input_tokens"]),
        "settled_usd": format_usd(mine["spent_nanousd"]),
        "in_doubt_usd": "0.000000",
        "voided_calls": "0",
        "reserved_usd": "0.000000",
        "total_usd": format_usd(mine["spent_nanousd"]),
    }


def test_people_whose_names_run_together_stay_two_and_no_name_ends_a_line(cli: Cli, kit: MemoryKit) -> None:
    for tenant, user in (("a/b", "c"), ("a", "b/c"), ("a", "d\re"), ("a", "\x1b[2Jf"), ("a", 'g\nh,"')):
        kit.run(kit.intake.create(Identity(tenant, user, "user"), NewSession("plain", "[[say hello]]", {})))
    rows = [*csv.DictReader(io.StringIO(cli("spend", "report", "--by", "user", "--csv").stdout, newline=""))]
    told = {row["key"]: row["calls"] for row in rows}
    assert told == dict.fromkeys(("a%2Fb/c", "a/b/c", "a/d\ufffde", "a/\ufffd[2Jf", 'a/g\nh,"'), "1")


def test_a_span_without_calls_is_empty(cli: Cli, used: list[dict[str, Any]]) -> None:
    days = ["--from", "2026-01-01", "--to", "2026-01-31"]
    document = cli("spend", "report", "--by", "day", *days, "--json").document
    assert (document["rows"], document["from"], document["to"]) == ([], "2026-01-01", "2026-01-31")
    assert "adds up" in cli("spend", "report", "--by", "day", "--tenant", "nobody").stdout


def test_a_counter_that_differs_is_named_and_fails(cli: Cli, used: list[dict[str, Any]], kit: MemoryKit) -> None:
    key = next(Key(item["pk"], item["sk"]) for item in kit.table.snapshot() if item.get("joined"))
    kit.table.update(Update(key, add={f"d{TODAY.day:02}": 5}))
    result = cli("spend", "report", "--by", "day", "--json")
    assert result.exit_code == 1
    [difference] = result.document["differences"]
    assert Decimal(difference["counter_spent_usd"]) - Decimal(difference["ledger_spent_usd"]) == Decimal("5e-9")
    assert "differs from the counter user_daily" in cli("spend", "report", "--by", "day").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["--by", "colour"],
        [],
        ["--by", "day", "--from", "yesterday"],
        ["--by", "day", "--to", "2026-02-30"],
        ["--by", "day", "--from", "2026-02-02", "--to", "2026-02-01"],
        ["--by", "day", "--csv", "--json"],
    ],
)
def test_bad_options_are_wrong_usage(cli: Cli, kit: MemoryKit, arguments: list[str]) -> None:
    assert cli("spend", "report", *arguments).exit_code == 2


# ---- what the provider says ----


def usage_page(records: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """The records as the Admin API would have counted them today, and a day before it without anything."""
    totals = {
        name: sum(record["usage"][name] for record in records)
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    }
    result = {
        "account_id": None,
        "api_key_id": None,
        "cache_creation": {
            "ephemeral_1h_input_tokens": 0,
            "ephemeral_5m_input_tokens": totals["cache_creation_input_tokens"],
        },
        "cache_read_input_tokens": totals["cache_read_input_tokens"],
        "context_window": "0-200k",
        "inference_geo": "global",
        "model": MODEL,
        "output_tokens": totals["output_tokens"],
        "server_tool_use": {"web_search_requests": 0},
        "service_tier": "standard",
        "uncached_input_tokens": totals["input_tokens"],
        "workspace_id": None,
    }
    return page([result], **more)


def cost_page(usd: Decimal, *, model: str | None = MODEL, **more: Any) -> dict[str, Any]:
    result = {
        "amount": str(usd * 100),
        "context_window": "0-200k",
        "cost_type": "tokens",
        "currency": "USD",
        "description": "Claude Sonnet 5.5 Usage - Output Tokens",
        "model": model,
        "service_tier": "standard",
        "token_type": "output_tokens",
        "workspace_id": None,
    }
    return page([result], **more)


def page(results: list[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    bucket = {"starting_at": f"{TODAY}T00:00:00Z", "ending_at": f"{TODAY + timedelta(days=1)}T00:00:00Z"}
    before = {"starting_at": f"{TODAY - timedelta(days=1)}T00:00:00Z", "ending_at": f"{TODAY}T00:00:00Z", "results": []}
    return {"data": [before, {**bucket, "results": results}], "has_more": False, "next_page": None, **more}


def settled(records: list[dict[str, Any]]) -> Decimal:
    return Decimal(format_usd(sum(record["spent_nanousd"] for record in records)))


def file_of(folder: Path, content: Any, name: str = "report.json") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def console_usage(records: list[dict[str, Any]], model: str = MODEL) -> str:
    def total(name: str) -> int:
        return sum(record["usage"][name] for record in records)

    header = (
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        "usage_output_tokens,web_search_count,inference_geo,speed"
    )
    row = (
        f'{TODAY},{model},"turn, keeper",Default,standard,≤ 200k,{total("input_tokens")},'
        f"{total('cache_creation_input_tokens')},0,{total('cache_read_input_tokens')},{total('output_tokens')},0,global,"
    )
    return f"\ufeff{header}\n{row}\n"


def console_cost(usd: Decimal, model: str = "Claude Sonnet 5.5") -> str:
    header = (
        "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type,"
        "inference_geo,speed,api_key_id,api_key_status"
    )
    kind = "Default,turnkeeper,message,≤ 200k,output"
    return f"{header}\n{TODAY},{model},{kind},{usd},{usd},token,not_available,,apikey_01,active\n"


def test_the_same_on_both_sides_agrees(cli: Cli, used: list[dict[str, Any]], tmp_path: Path) -> None:
    cost = settled(used)
    reports: list[Any] = [
        usage_page(used),
        [usage_page(used), cost_page(cost)],
        f"{json.dumps(usage_page(used))}\n{json.dumps(cost_page(cost))}\n",
        cost_page(cost),
        # Not grouped by description: the day is judged as a whole.
        cost_page(cost, model=None),
        console_usage(used),
        console_cost(cost),
        console_cost(cost.quantize(Decimal("0.01"))),
        f"\ufeff{json.dumps(cost_page(cost))}",
    ]
    for number, report in enumerate(reports):
        result = cli("reconcile", "--file", file_of(tmp_path, report, f"{number}"), "--json")
        assert result.exit_code == 0, result.stdout
        assert result.document["agrees"] is True
        assert result.document["in_doubt"] == []
    shown = cli("reconcile", "--file", file_of(tmp_path, [usage_page(used), cost_page(cost)]))
    assert "agrees" in shown.stdout
    assert MODEL in shown.stdout
    both = cli("reconcile", "--file", str(tmp_path / "5"), "--file", str(tmp_path / "6"), "--json").document
    [line] = both["lines"]
    assert (line["model"], line["difference_usd"], line["ledger"]["calls"]) == (MODEL, "0.000000", 3)
    assert line["provider"]["output_tokens"] == line["ledger"]["output_tokens"]


@pytest.mark.parametrize("off", [Decimal("0.01"), Decimal("-0.0001")])
def test_other_money_does_not_agree(cli: Cli, used: list[dict[str, Any]], tmp_path: Path, off: Decimal) -> None:
    result = cli("reconcile", "--file", file_of(tmp_path, cost_page(settled(used) + off)), "--json")
    assert result.exit_code == 1
    assert result.document["agrees"] is False
    assert Decimal(result.document["total"]["difference_usd"]) == off
    assert "does not agree" in cli("reconcile", "--file", str(tmp_path / "report.json")).stdout


def test_what_the_kit_did_not_do_does_not_agree(cli: Cli, used: list[dict[str, Any]], tmp_path: Path) -> None:
    other = cost_page(settled(used))
    other["data"][1]["results"].append({**other["data"][1]["results"][0], "model": "claude-opus-4-5", "amount": "3.5"})
    document = cli("reconcile", "--file", file_of(tmp_path, other), "--json").document
    assert {line["model"]: line["agrees"] for line in document["lines"]} == {MODEL: True, "claude-opus-4-5": False}


def test_calls_in_doubt_explain_a_difference_and_are_listed(
    cli: Cli, used: list[dict[str, Any]], kit: MemoryKit, tmp_path: Path
) -> None:
    doubted, *rest = used
    state = {"state": "in_doubt", "request_id": "req_011", "error": "the stream broke"}
    amend(kit.table, doubted, **state, spent_nanousd=doubted["amount_nanousd"])
    for charged in (settled(rest), settled(used), settled(rest) + Decimal(format_usd(doubted["amount_nanousd"]))):
        result = cli("reconcile", "--file", file_of(tmp_path, cost_page(charged)), "--json")
        assert result.exit_code == 0, result.stdout
        [listed] = result.document["in_doubt"]
        assert listed["request_id"] == "req_011"
        assert listed["amount_usd"] == format_usd(doubted["amount_nanousd"])
        assert (listed["session_id"], listed["tenant_id"]) == ("ses_1", "acme")
        assert listed["at"] == doubted["at"]
    assert "req_011" in cli("reconcile", "--file", str(tmp_path / "report.json")).stdout
    more = settled(rest) + Decimal(format_usd(doubted["amount_nanousd"])) + Decimal("0.001")
    assert cli("reconcile", "--file", file_of(tmp_path, cost_page(more))).exit_code == 1


def test_a_call_over_midnight_may_be_in_either_day(
    cli: Cli, used: list[dict[str, Any]], kit: MemoryKit, tmp_path: Path
) -> None:
    """Begun a second before midnight, answered a second after it."""
    one = used[0]
    before = TODAY - timedelta(days=1)
    over = {"at": f"{before}T23:59:59.000Z", "resolved_at": f"{TODAY}T00:00:01.000Z"}
    amend(kit.table, one, **over)
    today = cost_page(settled(used))
    yesterday = cost_page(settled(used[1:]))
    first = {**today["data"][1]["results"][0], "amount": str(settled(used[:1]) * 100)}
    yesterday["data"][0]["results"].append(first)
    for report in (today, yesterday):
        assert cli("reconcile", "--file", file_of(tmp_path, report)).exit_code == 0
    lost = cost_page(settled(used[1:]))
    assert cli("reconcile", "--file", file_of(tmp_path, lost)).exit_code == 1


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "no column"),
        ("a,b\n1,2\n", "no column"),
        ("{}", "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"data": [{"starting_at": "soon", "results": []}]}', "no day"),
        ("{", "Expecting"),
        ('{"data": []}', "no day"),
        (json.dumps(usage_page([], has_more=True)), "has_more"),
        (console_cost(Decimal("NaN")), "line 2"),
        (console_cost(Decimal("1e999999")), "line 2"),
        (console_cost(Decimal("1e-99999999")), "line 2"),
        (json.dumps(usage_page([])).replace('"output_tokens": 0', '"output_tokens": -5'), "no number of tokens"),
        (json.dumps(usage_page([])).replace('"output_tokens": 0', '"output_tokens": 2.5'), "no number of tokens"),
        (console_usage([], model=""), "line 2"),
        (json.dumps(cost_page(Decimal(1))).replace('"USD"', '"EUR"'), "EUR"),
        (json.dumps(usage_page([])).replace(f'"{MODEL}"', "null"), "group_by"),
    ],
)
def test_a_file_that_is_none_is_told_what_it_should_be(
    cli: Cli, kit: MemoryKit, tmp_path: Path, content: str, why: str
) -> None:
    result = cli("reconcile", "--file", file_of(tmp_path, content, "odd"), "--json")
    assert result.exit_code == 2
    assert why in result.document["error"]["detail"]
    assert "Admin API" in result.document["error"]["detail"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--file", "x", "--admin-key-env", "ADMIN"],
        ["--file", "/nowhere/at/all"],
        ["--admin-key-env", "NOBODY_SET_THIS"],
        ["--admin-key-env", "ADMIN", "--admin-url", "http://example.com"],
    ],
)
def test_odd_sources_are_wrong_usage(
    cli: Cli, kit: MemoryKit, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.setenv("ADMIN", KEY)
    result = cli("reconcile", *arguments)
    assert result.exit_code == 2
    assert KEY not in result.stdout + result.stderr


def test_only_a_span_and_a_workspace_of_it(cli: Cli, used: list[dict[str, Any]], tmp_path: Path) -> None:
    others = cost_page(settled(used))
    mine = others["data"][1]["results"][0]
    others["data"][1]["results"] = [{**mine, "workspace_id": "wrkspc_1"}, {**mine, "workspace_id": "wrkspc_2"}]
    path = file_of(tmp_path, others)
    assert cli("reconcile", "--file", path).exit_code == 1
    assert cli("reconcile", "--file", path, "--workspace", "wrkspc_1").exit_code == 0
    missed = cli("reconcile", "--file", path, "--workspace", "Production")
    assert (missed.exit_code, "nothing in it is of the workspace Production" in missed.stderr) == (2, True)
    early = cli("reconcile", "--file", path, "--to", f"{TODAY - timedelta(days=1)}", "--json")
    assert (early.exit_code, early.document["lines"]) == (0, [])
    assert cli("reconcile", "--file", path, "--to", "2026-01-01").exit_code == 2


# ---- the Admin API ----


class AdminApi:
    """Two reports by day, a day a page, as they are documented."""

    def __init__(self, pages: Mapping[str, list[dict[str, Any]]]) -> None:
        self.asked: list[tuple[str, list[tuple[str, str]]]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = parse_qsl(url.query)
                outer.asked.append((url.path, query))
                known = self.headers["x-api-key"] == KEY and self.headers["anthropic-version"] == "2023-06-01"
                status = outer.status if known else 401
                at = int(dict(query).get("page", "page_0").removeprefix("page_"))
                of_report = pages[url.path]
                more = at + 1 < len(of_report)
                follows = {"has_more": more, "next_page": f"page_{at + 1}" if more else None}
                body = {**of_report[at], **follows} if status == 200 else {"error": {"message": f"no {KEY}"}}
                raw = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> AdminApi:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def admin(used: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[AdminApi]:
    monkeypatch.setenv("ADMIN", KEY)
    usage, cost = usage_page(used), cost_page(settled(used))
    pages = {
        "/v1/organizations/usage_report/messages": [{"data": [bucket]} for bucket in usage["data"]],
        "/v1/organizations/cost_report": [{"data": [bucket]} for bucket in cost["data"]],
    }
    with AdminApi(pages) as api:
        yield api


def test_the_admin_api_is_read_to_the_last_page(cli: Cli, admin: AdminApi) -> None:
    days = ["--from", f"{TODAY - timedelta(days=1)}", "--to", f"{TODAY}"]
    result = cli("reconcile", "--admin-key-env", "ADMIN", "--admin-url", admin.url, *days, "--json")
    assert result.exit_code == 0, result.stdout
    [line] = result.document["lines"]
    assert line["provider"]["output_tokens"] == line["ledger"]["output_tokens"] > 0
    assert KEY not in result.stdout + result.stderr
    assert [dict(query).get("page") for _, query in admin.asked] == [None, "page_1", None, "page_1"]
    for path, query in admin.asked:
        asked = dict(query)
        assert asked["starting_at"] == f"{TODAY - timedelta(days=1)}T00:00:00Z"
        assert asked["ending_at"] == f"{TODAY + timedelta(days=1)}T00:00:00Z"
        assert (asked["bucket_width"], asked["limit"]) == ("1d", "31")
        groups = [value for name, value in query if name == "group_by[]"]
        assert ("model" in groups) == path.endswith("messages")
        assert ("description" in groups) == path.endswith("cost_report")


@pytest.mark.parametrize(("status", "exit_code"), [(401, 2), (403, 2), (404, 1), (429, 1), (500, 1)])
def test_a_refusal_is_told_without_the_key(cli: Cli, admin: AdminApi, status: int, exit_code: int) -> None:
    admin.status = status
    for more in ([], ["--json"]):
        result = cli("reconcile", "--admin-key-env", "ADMIN", "--admin-url", admin.url, *more)
        assert result.exit_code == exit_code
        assert KEY not in result.stdout + result.stderr
        assert str(status) in result.stdout + result.stderr
