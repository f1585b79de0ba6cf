"""A worker's garbage collector looks rarely, and never at what was there when it began."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest

import fargate_worker.__main__ as program
from fargate_worker.process import spare_the_collector


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """Generations that were collected, as long as the test lasts."""
    before, seen = gc.get_threshold(), list[int]()

    def note(phase: str, about: dict[str, Any]) -> None:
        if phase == "start":
            seen.append(about["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)
    gc.unfreeze()


def test_what_many_sessions_hold_is_not_searched_again_and_again(collections: list[int]) -> None:
    spare_the_collector()
    assert gc.get_freeze_count() > 10_000
    collections.clear()
    held = [[number] for number in range(20_000)]
    assert not collections and held
    del held
    loops: list[Any] = [[] for _ in range(60_000)]
    for each in loops:
        each.append(each)
    assert 0 in collections, "garbage is still found"


def test_nor_is_what_is_made_while_it_starts(collections: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TURNKEEPER_WORKER_PROCESSES", "1")
    for name in ("Signals", "set_up"):
        monkeypatch.setattr(program, name, lambda *_: None)

    def make_much() -> None:
        collections.clear()
        held = [[number] for number in range(20_000)]
        assert not collections and held
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        program.main(make_much)
