"""What the declaration of a tool must hold. A slip shows where it is made, not in a call that is repeated though it
must not be, or in a secret that is not kept."""

from __future__ import annotations

import inspect
import math
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

_NOT_BY_NAME = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def check_declaration(name: str, effect: str, effects: Sequence[str], timeout_seconds: float) -> None:
    """Raises ValueError: an effect that there is not, or no time to run in."""
    if effect not in effects:
        raise ValueError(f"tool {name!r}: effect is one of {', '.join(effects)}, not {effect!r}")
    if not (isinstance(timeout_seconds, int | float) and math.isfinite(timeout_seconds) and timeout_seconds > 0):
        raise ValueError(f"tool {name!r}: timeout_seconds is a number above 0, not {timeout_seconds!r}")


def names_of(called: str, given: Iterable[str]) -> frozenset[str]:
    """
    Raises:
        ValueError: a text, of which Python would take each letter for a name.
    """
    if isinstance(given, str):
        raise ValueError(f"{called} is a list of names: [{given!r}]")
    return frozenset(given)


def arguments_of(f: Callable[..., Any], context: type) -> tuple[bool, type[BaseModel]]:
    """Whether the function takes a context first, and a model of the arguments that it takes besides.

    Raises:
        TypeError: it would not run where it is called, or not with arguments by their names.
    """
    if inspect.iscoroutinefunction(f) or inspect.isasyncgenfunction(f):
        raise TypeError(f"tool {f.__name__!r} is async: tools are plain functions, each call has a thread of its own")
    hints = typing.get_type_hints(f, include_extras=True)
    parameters = list(inspect.signature(f).parameters.values())
    takes_context = bool(parameters) and (parameters[0].name == "ctx" or hints.get(parameters[0].name) is context)
    fields: dict[str, Any] = {}
    for parameter in parameters[1:] if takes_context else parameters:
        if parameter.name not in hints:
            raise TypeError(f"tool {f.__name__!r}: parameter {parameter.name!r} needs a type")
        if parameter.kind in _NOT_BY_NAME:
            raise TypeError(f"tool {f.__name__!r}: parameter {parameter.name!r} cannot be given by its name")
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    if context in hints.values() and (not takes_context or parameters[0].kind is inspect.Parameter.KEYWORD_ONLY):
        raise TypeError(f"tool {f.__name__!r}: the context is its first parameter, and not given by name")
    model = create_model(f"{f.__name__}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
    if hidden := fields.keys() - model.model_fields.keys():
        raise TypeError(f"tool {f.__name__!r}: a parameter cannot be called {', '.join(sorted(hidden))}")
    return takes_context, model
