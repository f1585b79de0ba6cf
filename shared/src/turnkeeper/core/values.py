"""Dataclasses that are compared, hashed and printed by functions that all of them share.

A dataclass has up to six functions of its own compiled when it is made, half of them for this: for the state of a
session and what is declared of an agent, a twentieth of what a front door waits for when it starts.
"""

from __future__ import annotations

import dataclasses
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(cls: type | None = None, /, **options: Any) -> Any:
        """As :func:`dataclasses.dataclass`, without ``eq``, ``repr``, ``order`` and ``unsafe_hash``."""
        return _made(cls, **options) if cls is not None else lambda cls: _made(cls, **options)


def _made(cls: type, *, frozen: bool = False, kw_only: bool = False, slots: bool = False) -> Any:
    if slots:
        return dataclasses.dataclass(cls, frozen=frozen, kw_only=kw_only, slots=True)
    own = vars(cls).copy()
    made: Any = dataclasses.dataclass(cls, eq=False, repr=False, frozen=frozen, kw_only=kw_only)
    # Of the class as well: so there is something to get where nothing is compared.
    made._compared = attrgetter("__class__", *(field.name for field in dataclasses.fields(made) if field.compare))
    for name, shared in (("__eq__", _eq), ("__hash__", _hash if frozen else None), ("__repr__", _repr)):
        # Python itself takes the hash away from a class that says how it is compared.
        if own.get(name) is None:
            setattr(made, name, shared)
    return made


def _eq(self: Any, other: Any) -> Any:
    values = self._compared
    return values(self) == values(other) if other.__class__ is self.__class__ else NotImplemented


def _hash(self: Any) -> int:
    return hash(self._compared(self))


@recursive_repr()
def _repr(self: Any) -> str:
    told = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(told)})"
