"""A class is the same by both decorators, but for who wrote its functions."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter

from turnkeeper.core import values

Decorator = Callable[..., Any]


def classes(dataclass: Decorator) -> list[type]:
    @dataclass(frozen=True)
    class Frozen:
        a: int
        b: tuple[int, ...] = ()
        c: Any = dataclasses.field(default=None, compare=False)
        d: str = dataclasses.field(default="hidden", repr=False)

    @dataclass(frozen=True, kw_only=True)
    class One:
        a: Any

    @dataclass
    class Assigned:
        a: int
        b: list[Any] = dataclasses.field(default_factory=list)

    @dataclass(frozen=True)
    class Empty:
        pass

    @dataclass(frozen=True)
    class Below(Frozen):
        e: float = 0.5

    class Undecorated(Frozen):
        pass

    @dataclass(frozen=True)
    class ItsOwn:
        a: int

        def __repr__(self) -> str:
            return "mine"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    @dataclass(frozen=True, slots=True)
    class Slots:
        a: Any

    @dataclass(frozen=True)
    class Compares:
        a: int

        def __eq__(self, other: object) -> bool:
            return True

    return [Frozen, One, Assigned, Empty, Below, Undecorated, ItsOwn, Slots, Compares]


def hash_of(value: object) -> int | None:
    try:
        return hash((value, "not 0"))
    except TypeError:
        return None


def told(dataclass: Decorator) -> list[Any]:
    """Of instances of each class: what they print, which are equal, and which can be hashed and how."""
    found: list[Any] = []
    made: list[Any] = []
    for cls in classes(dataclass):
        arguments = [{}] if cls.__name__ == "Empty" else [{"a": 1}, {"a": 2}, {"a": (1, [2])}]
        if cls.__name__ in {"Frozen", "Below", "Undecorated"}:
            arguments += [{"a": 1, "c": 2}, {"a": 1, "d": "y"}, {"a": 1, "b": (3,)}]
        made += [cls(**each) for each in (*arguments, *arguments)]
    for one in made:
        found += [repr(one), [one == other for other in made], one == "text", [one != other for other in made]]
        alike = [other for other in made if type(other) is type(one)]
        found.append([hash_of(one) == hash_of(other) for other in alike] if hash_of(one) else "none")
        found += [dataclasses.asdict(one), dataclasses.replace(one) == one, copy.copy(one) == one]
        found += [[field.name for field in dataclasses.fields(one)], getattr(type(one), "__match_args__", None)]
        try:
            one.a = 3
        except (AttributeError, TypeError) as error:
            found.append(type(error).__name__)
    return found


def test_they_are_as_the_librarys() -> None:
    assert told(values.dataclass) == told(dataclasses.dataclass)


@values.dataclass(frozen=True)
class Kept:
    a: int
    of: Any = None


def test_they_can_be_kept_and_read() -> None:
    assert pickle.loads(pickle.dumps(Kept(1))) == Kept(1)
    assert TypeAdapter(Kept).validate_python({"a": 1}) == Kept(1)
    assert TypeAdapter(Kept).dump_python(Kept(1)) == {"a": 1, "of": None}
    itself: list[Any] = []
    itself.append(Kept(1, itself))
    assert repr(itself) == "[Kept(a=1, of=[...])]"
    assert len({Kept(1), Kept(1), Kept(2)}) == 2


def test_other_options_are_not_taken() -> None:
    with pytest.raises(TypeError, match="order"):

        @values.dataclass(order=True)
        class _Ordered:
            a: int
