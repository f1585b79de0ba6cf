"""What is put off is made once, when it is used or when a snapshot is to be taken."""

from __future__ import annotations

import importlib
import threading
from pkgutil import iter_modules
from typing import Any
from weakref import WeakSet

import pytest
from pydantic import BaseModel

from turnkeeper.core import late, models


class Made:
    word = "here"


def test_it_is_made_when_something_of_it_is_asked_for_and_once() -> None:
    made: list[Made] = []
    both = threading.Barrier(8)

    def make() -> Made:
        made.append(Made())
        return made[-1]

    stand_in = late.late(make)
    assert made == []

    def use() -> None:
        both.wait()
        assert stand_in.word == "here"

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1


def test_what_cannot_be_made_says_why_each_time() -> None:
    def make() -> Any:
        raise LookupError("no such setting")

    stand_in = late.late(make)
    for _ in range(2):
        with pytest.raises(LookupError, match="no such setting"):
            stand_in.anything  # noqa: B018 - asking is the point
    del stand_in


def test_all_that_was_put_off_is_made_before_a_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(late, "_all", WeakSet())  # other tests put off what cannot be made here
    made: list[str] = []
    # Kept: what nobody holds any more is not made.
    held = [late.late(lambda name=name: made.append(name)) for name in ("one", "two")]
    late.make_all()
    late.make_all()
    assert sorted(made) == ["one", "two"]
    assert len(held) == 2


def test_every_model_can_be_built() -> None:
    import functions.api.documents as documents

    rooms = [importlib.import_module(f"{documents.__name__}.{room.name}") for room in iter_modules(documents.__path__)]
    models.build_all()
    named = [each for room in rooms for each in vars(room).values()]
    ours = [each for each in named if isinstance(each, type) and issubclass(each, BaseModel)]
    assert len(ours) > 20
    assert [each for each in ours if each is not BaseModel and not each.__pydantic_complete__] == []
