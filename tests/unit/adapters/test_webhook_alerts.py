"""Alerts that are sent to an address: told, or Unavailable, and the address is said to nobody."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import httpx2
import pytest

from turnkeeper.adapters.webhook_alerts import WebhookAlerts
from turnkeeper.core.errors import Unavailable

URL = "https://hooks.example/services/a-secret-path"


@contextmanager
def answering(*answers: int | Exception) -> Iterator[list[httpx2.Request]]:
    sent: list[httpx2.Request] = []
    left = list(answers)

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        status = left.pop(0)
        if isinstance(status, Exception):
            raise status
        return httpx2.Response(status)

    client = httpx2.Client(transport=httpx2.MockTransport(answer))
    with mock.patch("httpx2.post", client.post):
        yield sent


def test_an_alert_is_a_post_of_json() -> None:
    with answering(204) as sent:
        WebhookAlerts(URL).alert("audit_tampering", "An audit record was changed", {"pk": "T#acme", "n": 1})
    [request] = sent
    assert (request.method, str(request.url), request.headers["content-type"]) == ("POST", URL, "application/json")
    assert json.loads(request.content) == {
        "kind": "audit_tampering",
        "subject": "An audit record was changed",
        "data": {"pk": "T#acme", "n": 1},
    }


@pytest.mark.parametrize("answer", [302, 404, 500, httpx2.ConnectError(f"no way to {URL}"), httpx2.ReadTimeout("late")])
def test_one_that_nobody_took_is_sent_again_by_whoever_can(
    answer: int | Exception, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(answer), caplog.at_level(logging.DEBUG, "turnkeeper"), pytest.raises(Unavailable) as failed:
        WebhookAlerts(URL).alert("kind", "subject", {})
    assert failed.value.retryable
    assert "a-secret-path" not in f"{failed.value} {failed.value.__cause__} {caplog.text}"
    assert "alert kind: subject" in caplog.text, "it is in the log all the same"


@pytest.mark.parametrize(
    "url", ["nonsense", "", "https://[::1", "https://hooks..example/a", f"https://{'a' * 64}.example/a"]
)
def test_an_address_that_is_none_is_no_answer(url: str) -> None:
    with pytest.raises(Unavailable):
        WebhookAlerts(url).alert("kind", "subject", {})
