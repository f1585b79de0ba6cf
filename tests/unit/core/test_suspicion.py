"""What is done after a result that was flagged."""

from __future__ import annotations

import pytest

from turnkeeper.core.suspicion import Finding, NextCall, suspicious_sequence

FLAGGED = Finding(score=700, reasons=("override",))


@pytest.mark.parametrize(
    ("flagged", "calls", "score"),
    [
        ([FLAGGED], [NextCall("send", "once")], 950),
        ([None, FLAGGED, None], [NextCall("read", "read"), NextCall("put", "idempotent")], 800),
        ([FLAGGED], [NextCall("read", "read")], None),
        ([FLAGGED], [], None),
        ([None], [NextCall("send", "once")], None),
        ([], [NextCall("send", "once")], None),
    ],
)
def test_a_write_after_a_flagged_result_is_suspicious(
    flagged: list[Finding | None], calls: list[NextCall], score: int | None
) -> None:
    finding = suspicious_sequence(flagged, calls)
    assert (finding.score if finding else None) == score
    if finding:
        assert all("after a flagged result" in reason for reason in finding.reasons)
