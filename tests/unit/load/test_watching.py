"""A watcher or a user that fails is told: a run that looks away proves nothing."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx2
import pytest

from tests.e2e.outside import Caller
from tests.load import evidence, traffic
from tests.load.evidence import collect, watching_caps
from tests.load.invariants import INVARIANTS, judged
from tests.load.record import Record
from tests.load.target import Target


class Answers:
    """A caller who is answered like that, over and over; `asked` is set once it was asked twice more than there are."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.number, self.asked = answers, 0, threading.Event()

    def get(self, path: str) -> Any:
        answer = self.answers[self.number % len(self.answers)]
        self.number += 1
        if self.number > len(self.answers) + 2:
            self.asked.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


def spend(spent: str) -> httpx2.Response:
    scope = {"scope": "user_daily", "spent_usd": spent, "reserved_usd": "0", "cap_usd": "1"}
    return httpx2.Response(200, json={"scopes": [scope]})


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ([httpx2.ConnectError("down")], {"no look at the caps was answered"}),
        ([httpx2.Response(503)], {"no look at the caps was answered"}),
        ([httpx2.ConnectError("down"), spend("2")], {"user_daily: 2 of 1"}),
        ([httpx2.ConnectError("down"), spend("1")], set()),
    ],
)
def test_a_failed_look_at_the_caps_is_not_the_last(
    answers: list[Any], found: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "_LOOK_SECONDS", 0.001)
    callers = [Answers(*answers), Answers(*answers)]
    with watching_caps(cast("list[Caller]", callers)) as passed:
        assert all(caller.asked.wait(30) for caller in callers)
    assert set(passed) == found


def test_a_user_who_meets_what_nobody_foresaw_tells_it_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    stop, record, times = threading.Event(), Record(), 0

    def act(_: traffic.User) -> None:
        nonlocal times
        times += 1
        if times == 3:
            stop.set()
        raise LookupError(str(times))

    monkeypatch.setitem(traffic.KINDS, "turns", traffic.Kind(act, 1))
    user = traffic.User.__new__(traffic.User)
    user.traffic, user.record = cast("Any", SimpleNamespace(stop=stop)), record
    user.kinds, user.shares, user.pause_seconds, user.dice = ["turns"], [1.0], 0.001, random.Random(1)
    user.run()
    assert record.failures == [f"turns: LookupError {number}" for number in (1, 2, 3)]


class Unreachable:
    def caller(self, tenant: str, user: str) -> Caller:
        raise httpx2.ConnectError("the API is gone")


def test_after_a_look_at_the_end_that_fails_nothing_is_said_to_hold() -> None:
    record = Record()
    target = Target(cast("Any", Unreachable()), own=True, scripted=True, effects=Path("nowhere"))
    seen = collect(target, record, 1, datetime.now(UTC).date(), lambda _: None)
    assert seen.record is record
    verdicts = judged(seen)
    assert len(verdicts) == len(INVARIANTS)
    assert all("the API is gone" in " ".join(broken) for broken in verdicts.values()), verdicts
