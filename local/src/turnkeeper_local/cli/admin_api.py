"""Anthropic's Admin API: the reports of usage and cost, all pages of them. The key is sent, and nothing else is done
with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import httpx2

from turnkeeper_local.cli.errors import CliError, UsageError

_Query = list[tuple[str, str | int | float | bool | None]]

_USAGE_GROUPS = ("model", "service_tier", "context_window", "inference_geo")
#: As many days as one page may have.
_DAYS_A_PAGE = 31
_TIMEOUT_SECONDS = 60.0
_LOOPBACK = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/|$)")


def usage_and_cost(
    key: str, first: date, last: date, *, url: str, workspace: str | None = None
) -> Iterator[dict[str, Any]]:
    """The pages of both reports by day, from the first to the last day of UTC, both included.

    Raises:
        UsageError: the key may not, or the address would show it to anybody on the way.
        CliError: the API did not answer as it is documented.
    """
    local = _LOOPBACK.match(url)
    if not local and not url.startswith("https://"):
        raise UsageError(f"{url}: a key is only sent over https", code="usage")
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "user-agent": "turnkeeper"}
    span: _Query = [("starting_at", f"{first}T00:00:00Z"), ("ending_at", f"{last + timedelta(days=1)}T00:00:00Z")]
    common: _Query = [*span, ("bucket_width", "1d"), ("limit", str(_DAYS_A_PAGE))]
    groups = [*_USAGE_GROUPS, *(["workspace_id"] if workspace else [])]
    usage: _Query = [("group_by[]", group) for group in groups]
    cost: _Query = [("group_by[]", group) for group in ("description", *(["workspace_id"] if workspace else []))]
    with httpx2.Client(base_url=url, headers=headers, timeout=_TIMEOUT_SECONDS, trust_env=not local) as client:
        yield from _pages(client, "/v1/organizations/usage_report/messages", [*common, *usage])
        yield from _pages(client, "/v1/organizations/cost_report", [*common, *cost])


def _pages(client: httpx2.Client, path: str, query: _Query) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    page: str | None = None
    while True:
        document = _ask(client, path, [*query, *([("page", page)] if page else [])])
        yield document
        if not document.get("has_more"):
            return
        page = document.get("next_page")
        if not page or page in seen:
            raise CliError(f"{path} says that more follows, and not where", code="admin_api")
        seen.add(page)


def _ask(client: httpx2.Client, path: str, query: _Query) -> dict[str, Any]:
    try:
        answer = client.get(path, params=query)
    except httpx2.HTTPError as error:
        raise CliError(f"{path} did not answer: {type(error).__name__}", code="admin_api") from error
    if answer.status_code in {401, 403}:
        raise UsageError(
            f"{path} refused the key (HTTP {answer.status_code})",
            code="admin_key",
            hint="it takes a key of the Admin API (sk-ant-admin...), which an admin of the organization makes",
        )
    if answer.status_code != 200:
        # What it says may repeat what it was sent.
        hint = "wait a minute, then run it again" if answer.status_code in {429, 529} else None
        raise CliError(f"{path} answered HTTP {answer.status_code}", code="admin_api", hint=hint)
    try:
        document = answer.json()
    except ValueError as error:
        raise CliError(f"{path} answered no JSON", code="admin_api") from error
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise CliError(f"{path} answered no page of a report", code="admin_api")
    return document
