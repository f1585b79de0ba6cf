"""What is reckoned once of an object."""

from __future__ import annotations

import gc

from turnkeeper.core.remembered import remembered


class Value:
    """Equal to all others, and not hashable: neither may matter."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Value)


def test_an_object_is_asked_once_and_an_equal_one_by_itself() -> None:
    asked: list[int] = []

    @remembered
    def number_of(value: Value) -> int:
        asked.append(value.number)
        return value.number

    first, second = Value(1), Value(2)
    assert [number_of(each) for each in (first, second, first, second)] == [1, 2, 1, 2]
    assert asked == [1, 2]


def test_an_object_at_the_address_of_one_that_is_gone_is_another_one() -> None:
    number_of = remembered(lambda value: value.number)
    # Each is gone before the next is made, so that most of them stand at one address.
    addresses = set()
    for number in range(1_000):
        value = Value(number)
        addresses.add(id(value))
        assert number_of(value) == number
        del value
    assert len(addresses) < 1_000


def test_what_was_reckoned_is_forgotten_with_its_object() -> None:
    class Result:
        alive = 0

        def __init__(self) -> None:
            Result.alive += 1

        def __del__(self) -> None:
            Result.alive -= 1

    result_of = remembered(lambda _value: Result())
    values = [Value(number) for number in range(10)]
    assert len({id(result_of(value)) for value in values}) == Result.alive == 10
    values.clear()
    gc.collect()
    assert Result.alive == 0
