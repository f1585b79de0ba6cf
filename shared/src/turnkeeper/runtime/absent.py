"""Agents are declared in more places than they run in. The front door, the CDK app and a laptop load an agent that is
written on a package which only the worker has: for as long as that takes, what it imports from there remembers what it
was given and does nothing."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

#: Packages that agents may be written on without every process having them.
PACKAGES = ("claude_agent_sdk",)
_SUBMODULES = ("types",)


class Remembered:
    """What such a package would have made: knows what it was given, and says ``None`` for what it was not given. It can
    be called like a decorator."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    def __call__(self, *args: Any, **kwargs: Any) -> Remembered:
        return Remembered(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.kwargs.get(name)


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = type(name, (Remembered,), {})
        setattr(self, name, made)
        return made


@contextmanager
def remembered() -> Iterator[None]:
    """While it is entered, a package of the list that is not installed can be imported from."""
    added: list[str] = []
    for package in PACKAGES:
        if package in sys.modules or importlib.util.find_spec(package) is not None:
            continue
        module = _StandIn(package)
        module.__path__ = []
        for name, each in ((package, module), *((f"{package}.{sub}", _StandIn(sub)) for sub in _SUBMODULES)):
            sys.modules[name] = each
            added.append(name)
    try:
        yield
    finally:
        for name in added:
            sys.modules.pop(name, None)
