"""What a step costs that can be counted, whatever machine counts it: requests, write units, bytes, what is made anew,
functions that are called.

Each number is what it was when it was last looked at. One that grows is a decision: see docs/decisions/0141.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any
from unittest import mock

import pytest

import turnkeeper
from benchmarks.gate import Bench
from turnkeeper.adapters.known_secrets import KNOWN, KnownSecrets
from turnkeeper.core import sent
from turnkeeper.core.sent import list_json
from turnkeeper.ports import ModelRequest
from turnkeeper.testing.clock import ManualClock, SeededIds

STEPS = 40


class Watched(Bench):
    """Notes of each request how much of it had to be written as JSON, as an adapter does that keeps to bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(STEPS, ManualClock(), SeededIds())
        self.bodies: list[int] = []
        self.encoded: list[int] = []
        self.fresh: list[int] = []
        self._before: list[Any] = []
        self._made = 0
        encode = sent.json_bytes

        def counted(value: Any) -> bytes:
            made = encode(value)
            self._made += len(made)
            return made

        monkeypatch.setattr(sent, "json_bytes", counted)

    def call(self, request: ModelRequest, *, timeout_seconds: float, **_: Any) -> Any:
        self._made = 0
        self.bodies.append(len(body := list_json(request.messages)))
        assert json.loads(body) == request.messages
        self.encoded.append(self._made)
        known = {id(message) for message in self._before}
        self.fresh.append(sum(id(message) not in known for message in request.messages))
        self._before = list(request.messages)
        return super().call(request, timeout_seconds=timeout_seconds)


class Profiled(Bench):
    """Counts in each step how often functions of the kit are called that have a name: how those without one are counted
    (comprehensions, expressions), differs from one Python to the next."""

    def __init__(self) -> None:
        super().__init__(STEPS, ManualClock(), SeededIds())
        self.called = [0]
        #: What pydantic is asked for in each step, by the name of its function.
        self.asked: list[Counter[str]] = [Counter()]
        self._kit = str(Path(turnkeeper.__file__).parent)
        self._testing = str(Path(turnkeeper.__file__).parent / "testing")

    def call(self, request: ModelRequest, **named: Any) -> Any:
        self.called.append(0)
        self.asked.append(Counter())
        return super().call(request, **named)

    def saw(self, frame: FrameType, event: str, _: object) -> None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if event == "call" and file.startswith(self._kit) and not file.startswith(self._testing) and name[0] != "<":
            self.called[-1] += 1
        if event == "call" and name in _OF_PYDANTIC and f"{os.sep}pydantic{os.sep}" in file:
            self.asked[-1][name] += 1


#: What makes models, reads them and writes them.
_OF_PYDANTIC = {"__init__", "model_validate", "validate_python", "model_dump", "dump_python"}


def test_a_step_costs_no_more_than_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Watched(monkeypatch)
    assert bench.run().steps == STEPS
    # The first tally is the session's start, and the last one the end.
    for tally in bench.tallies[2:-1]:
        assert dict(tally.requests) == {"TransactWriteItems": 2}
        assert tally.units <= 20
        assert tally.bytes <= 5_000


def test_a_step_costs_as_much_late_in_a_conversation_as_early_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Watched(monkeypatch)
    bench.run()
    assert bench.bodies[-1] > 30 * bench.bodies[1], "the conversation has grown"
    # The answer and its results are new; the two messages that are marked for the cache have another mark than before.
    assert set(bench.fresh[3:]) == {4}
    assert max(bench.encoded[3:]) < 1.1 * min(bench.encoded[3:])
    for later in (bench.tallies[STEPS // 2], bench.tallies[-3]):
        assert later.bytes < 1.3 * bench.tallies[3].bytes


def test_a_step_calls_no_more_functions_than_it_did() -> None:
    bench = _profiled()
    # The first two have a turn's beginning and the first page's marks in them, the last one the end.
    steps = bench.called[3:-1]
    assert len(steps) == STEPS - 3
    assert max(steps) <= 2_600
    assert max(steps) < 1.02 * min(steps)


def test_a_step_makes_no_round_trips_through_pydantic() -> None:
    """Each head and entry is dumped once, as is the audit record, and its hash; nothing is read back. Made are the
    reservation, the audit record, usage and the tool's arguments, and what a dump compares defaults with."""
    steps = _profiled().asked[3:-1]
    assert len(steps) == STEPS - 3
    for asked in steps:
        assert asked["validate_python"] == 0
        assert asked["dump_python"] <= 6
        assert asked["model_dump"] <= 2
        assert asked["model_validate"] <= 1
        assert asked["__init__"] <= 11


def _profiled() -> Profiled:
    """In a process that knows no secrets: those that tests before this one told it are looked for in every step."""
    bench = Profiled()
    before = sys.getprofile()
    with mock.patch.dict(vars(KNOWN), vars(KnownSecrets())):
        sys.setprofile(bench.saw)
        try:
            bench.run()
        finally:
            sys.setprofile(before)
    return bench
