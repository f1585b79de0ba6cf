"""Hashes that are stored, or compared between runners of two versions, stay as they are: byte for byte.

A hash that changes takes its past with it: chains no longer verify, a repeated request is another one, a job starts a
second session. The values here were written down once, and are never computed anew.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest

from functions.api.app import FrontDoor
from tests.support.http import Caller
from tests.support.kit import MemoryKit
from turnkeeper.adapters.price_overrides import price_overrides
from turnkeeper.adapters.prices import BundledPrices
from turnkeeper.core.audit import AuditRecord, chain, genesis
from turnkeeper.core.breakers import call_hash, poll_hash
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.policy import TenantRecord, policy_of, terms_of
from turnkeeper.core.transcript import result_digest
from turnkeeper.runtime.jobs import session_id_of_job

#: Order of keys (also beyond the basic plane), other scripts, forms of numbers, white space, what needs an escape.
ODD: dict[str, Any] = {
    "b": [1, 1.0, 1.5, -0.0, 1e22, 2**60, True, None],
    "a": {"z": "  two\n words ", "é": "naïve ✓ 你好"},
    "\ufb33": 'quote " backslash \\ tab \t del \x7f sep \u2028',
    "\U0001f600": "x",
}


@pytest.mark.parametrize(
    ("session_id", "expected"),
    [
        ("ses_01", "68a7eab6475f5826143d6a54d1247232317f1000b1dbeeae84f473ad73383c47"),
        (None, "7bce854fefb868b6d38cf0216c48c2cb07b54c1bff2446a5976313b8e8f44b5b"),
    ],
)
def test_where_audit_chains_begin(session_id: str | None, expected: str) -> None:
    assert genesis("acme", session_id) == expected


def test_audit_records() -> None:
    record = AuditRecord(
        tenant_id="acme",
        session_id="ses_01",
        user_id="ünïcode",
        seq=1,
        at=datetime(2026, 11, 22, 9, 0, 0, 5, tzinfo=UTC),
        kind="tool_call",
        runner="lambda",
        tool="get_invoice",
        tool_use_id="toolu_1",
        arguments_redacted=ODD,
        arguments_salt="salt",
        result_bytes=12,
        result_sha256="0" * 64,
        duration_ms=3,
        outcome="ok",
        detail={"odd": ODD},
    )
    chained = chain(genesis("acme", "ses_01"), record)
    assert (chained.arguments_sha256, chained.hash) == (
        "598356ef1c1385aa7aa82539ada4c7a37b79d5b2f875972f1e059315f994971d",
        "ac6b73573a2c3bad766bd0613963465354a8fe15603f4e29bf99ee6614c01257",
    )


@pytest.mark.parametrize(
    ("name", "arguments", "volatile", "expected"),
    [
        ("look", {}, (), "0e25f723f8c23296"),
        ("look", ODD, (), "311fdfa3e0f54de1"),
        ("look", ODD, ("b",), "a1557a9f04749791"),
        ("look", {"half": "\ud800", "not json": b"raw", "number": float("inf")}, (), "6bac75f99a09b5d9"),
    ],
)
def test_calls_in_the_windows_of_breakers(name: str, arguments: Any, volatile: Any, expected: str) -> None:
    assert call_hash(name, arguments, volatile) == expected


def test_polls_in_the_windows_of_breakers() -> None:
    assert poll_hash("0123456789abcdef", "a result's digest") == "247f11df09c7f660"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], (2, "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945")),
        (
            [{"type": "text", "text": "naïve ✓\n"}, {"type": "odd", "of": ODD}],
            (232, "e33d6a9255f3da301b425ecc385b0c42f0f6730e36a0a8f6d073f4bdf7a7717d"),
        ),
        (
            [{"type": "text", "text": "half \ud800"}],
            (35, "f6f0c6093b1ddcb7d5de1ef854f3572554a35474efa8595806c4f79fcacbb7ac"),
        ),
    ],
)
def test_results_of_tools(content: Any, expected: tuple[int, str]) -> None:
    assert result_digest(content) == expected


def test_caps() -> None:
    usd = {"task_usd": "2.00", "user_daily_usd": "20.00", "user_monthly_usd": "unlimited", "tenant_monthly_usd": "9"}
    policy = policy_of({"default_plan": "standard", "plans": {"standard": usd}})
    plain = TenantRecord(tenant_id="acme")
    other = TenantRecord(tenant_id="acme", shards=4, overrides={"user_daily": 1, "tenant_monthly": None})
    assert [terms_of(policy, tenant).caps.fingerprint for tenant in (plain, other)] == [
        "252fd98f6d7ae272",
        "a6e08ff33eff5acd",
    ]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (
            {"agent": "plain", "input": "naïve ✓ 你好"},
            "3825e3848cd25666cc10832257dea3cef3cb67bd07ee87127de38f711ba60d08",
        ),
        (
            {"agent": "plain", "input": "x", "metadata": {"b": [1, 1.5, None], "a": {"é": "\t\u2028"}}},
            "29d476b3599019e3970f326aa4e2ac6dd4d1999425f81a34f44b3035522385e0",
        ),
    ],
)
def test_requests_behind_idempotency_keys(body: Any, expected: str) -> None:
    """As earlier releases wrote them, and as they are written: the key of the tests is what they are made with."""
    assert remembered(MemoryKit(runner="none", compact_writes=False), body) == expected
    protected = sorted_json(["POST", "/v1/sessions", body], ascii=True)
    assert hashlib.sha256(protected).hexdigest() == expected
    purpose = b"turnkeeper/request/v1\0"
    keyed = hmac.digest(b"a signing key of the tests", purpose + protected, "sha256").hex()
    assert remembered(MemoryKit(runner="none"), body) == keyed


def remembered(kit: MemoryKit, body: Any) -> Any:
    Caller(FrontDoor(kit)).post("/v1/sessions", body, key="a key", wait=0).ok(202)
    [stored] = [item["body_sha256"] for item in kit.table.snapshot() if "body_sha256" in item]
    return stored


@pytest.mark.parametrize(
    ("tenant_id", "job_id", "expected"),
    [
        ("acme", "job-1", "ses_wwsataxkm6z4pnyp5sg6p7jng0"),
        ("ünïcode", 'odd "job" \\ 你好', "ses_k1672ewzbbjdt855526bv47c9p"),
    ],
)
def test_sessions_of_jobs(tenant_id: str, job_id: str, expected: str) -> None:
    assert session_id_of_job(tenant_id, job_id) == expected


def test_versions_of_prices() -> None:
    entry = {"input_usd_per_mtok": "3.00", "output_usd_per_mtok": "15.00"}
    version = BundledPrices(price_overrides({"ünïcode": entry, "a": entry}), default_inference_geo="us").version
    assert version.partition("+")[2] == "937cdca1ab66"
