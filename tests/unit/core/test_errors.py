"""Errors carry what callers are shown, and say whether the same thing may work later."""

from __future__ import annotations

import pytest

from turnkeeper.core import errors
from turnkeeper.core.errors import CostCapExceeded, ProviderError, TurnkeeperError


def kinds(of: type[TurnkeeperError] = TurnkeeperError) -> list[type[TurnkeeperError]]:
    return [of, *(kind for each in of.__subclasses__() if each.__module__ == errors.__name__ for kind in kinds(each))]


def test_every_error_of_the_tree_has_the_status_and_code_that_it_shows() -> None:
    drawn = [line.split("── ")[1].split() for line in (errors.__doc__ or "").splitlines() if "── " in line]
    shown = {line[0]: (int(line[1]), line[2]) for line in drawn if line[1].isdigit()}
    assert shown == {kind.__name__: (kind.status, kind.code) for kind in kinds() if kind.__name__ in shown}
    assert {line[0] for line in drawn} == {kind.__name__ for kind in kinds()} - {"TurnkeeperError"}
    retryable = {line[0] for line in drawn if line[-1] == "(retryable)"}
    assert retryable == {kind.__name__ for kind in kinds() if kind.retryable}


@pytest.mark.parametrize("contended", [True, False])
def test_a_refused_call_tells_amounts_as_callers_read_them(contended: bool) -> None:
    error = CostCapExceeded(
        scope="user_daily",
        limit_nanousd=2_000_000_000,
        spent_nanousd=1_500_000_000,
        reserved_nanousd=250_000_000,
        needed_nanousd=300_000_000,
        contended=contended,
        resets_at="2026-03-03T00:00:00.000Z",
    )
    assert error.data == {
        "scope": "user_daily",
        "limit_usd": "2.000000",
        "spent_usd": "1.500000",
        "reserved_usd": "0.250000",
        "needed_usd": "0.300000",
        "contended": contended,
        "resets_at": "2026-03-03T00:00:00.000Z",
    }
    assert error.retryable is contended
    assert (str(error), error.detail) == (error.detail, error.detail)
    assert "user_daily" in error.detail


def test_a_failed_attempt_says_what_may_be_booked() -> None:
    error = ProviderError(
        "it failed",
        retryable=True,
        certainty="unknown",
        status_code=529,
        retry_after_seconds=3.5,
        usage={"input_tokens": 1},
        request_id="req_1",
        asked=False,
    )
    assert (error.detail, error.data) == ("it failed", {"status_code": 529, "request_id": "req_1"})
    assert (error.retryable, error.certainty, error.retry_after_seconds) == (True, "unknown", 3.5)
    assert (error.status_code, error.request_id, error.usage) == (529, "req_1", {"input_tokens": 1})
    assert error.asked is False
    plain = ProviderError("it failed", retryable=False, certainty="unbilled")
    assert (plain.asked, plain.retryable, plain.usage, plain.retry_after_seconds) == (True, False, None, None)
