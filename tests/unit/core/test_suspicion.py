"""What is done after a result that was flagged."""

from __future__ import annotations

import pytest

from turnkeeper.core.suspicion import MAX_REASONS, Finding, NextCall, suspicious_sequence

FLAGGED = Finding(score=700, reasons=("override",))


SENT = "once tool send after a flagged result"
PUT = "idempotent tool put after a flagged result"


@pytest.mark.parametrize(
    ("flagged", "calls", "score", "reasons"),
    [
        ([FLAGGED], [NextCall("send", "once")], 950, (SENT,)),
        ([None, FLAGGED, None], [NextCall("read", "read"), NextCall("put", "idempotent")], 800, (PUT,)),
        ([FLAGGED], [NextCall("send", "once"), NextCall("put", "idempotent")], 950, (PUT, SENT)),
        ([FLAGGED], [NextCall("send", "once"), NextCall("send", "once")], 950, (SENT,)),
        ([Finding(score=100, reasons=()), FLAGGED], [NextCall("put", "idempotent")], 800, (PUT,)),
        ([Finding(score=990, reasons=())], [NextCall("put", "idempotent")], 1000, (PUT,)),
    ],
)
def test_a_write_after_a_flagged_result_is_suspicious(
    flagged: list[Finding | None], calls: list[NextCall], score: int, reasons: tuple[str, ...]
) -> None:
    finding = suspicious_sequence(flagged, calls)
    assert finding is not None
    assert (finding.score, sorted(finding.reasons)) == (score, sorted(reasons))


@pytest.mark.parametrize(
    ("flagged", "calls"),
    [
        ([FLAGGED], [NextCall("read", "read")]),
        ([FLAGGED], []),
        ([None], [NextCall("send", "once")]),
        ([], [NextCall("send", "once")]),
    ],
)
def test_reading_on_is_not_and_without_a_flag_nothing_is(flagged: list[Finding | None], calls: list[NextCall]) -> None:
    assert suspicious_sequence(flagged, calls) is None


def test_a_few_reasons_are_enough() -> None:
    calls = [NextCall(f"send_{number}", "once") for number in range(MAX_REASONS + 5)]
    finding = suspicious_sequence([FLAGGED], calls)
    assert finding is not None
    assert len(finding.reasons) == MAX_REASONS
