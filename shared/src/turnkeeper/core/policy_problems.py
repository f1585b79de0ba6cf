"""What is wrong with policy.toml, as data: which key, what, and what was probably meant.

pydantic checks the values. Its words are for programmers, so each kind of complaint is said here in those of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

T = TypeVar("T")
Path = tuple[str | int, ...]


class Problem(NamedTuple):
    """One thing that is wrong with a policy."""

    #: The keys that lead to it from the top of the file, as far as there are such: what is missing has none of its own.
    path: Path
    text: str
    #: A name that is none, and those that there are.
    unknown: tuple[str, Collection[str]] | None = None

    @property
    def hint(self) -> str:
        """What to write instead, where that can be said of a name."""
        return "" if self.unknown is None else suggestion(*self.unknown)

    def __str__(self) -> str:
        where = f", {'.'.join(map(str, self.path))}" if self.path else ""
        return f"policy.toml{where}: {self.text}{'; ' if self.hint else ''}{self.hint}"


def suggestion(name: str, known: Collection[str]) -> str:
    """What to write instead of a name that is none."""
    import difflib

    if near := difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6):
        return f"did you mean {near[0]!r}?"
    return f"there are: {', '.join(sorted(known)) or 'none'}"


class InvalidPolicy(ValueError):
    """``policy.toml`` cannot be used. ``problems`` is everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def all_of(problems: Sequence[Problem], rest: Callable[[], T]) -> T:
    """What the rest of a validation makes, or, inside of one: its problems and these, all at once.

    Raises:
        ValidationError: pydantic puts the keys that lead to here before those of each problem.
    """
    told = [_carrying({"problem": problem}, problem.path) for problem in problems]
    try:
        made = rest()
    except ValidationError as error:
        for each in error.errors():
            context = each.get("ctx", {})
            told.append(_carrying(context if "problem" in context else {"original": each, **context}, each["loc"]))
    else:
        if not told:
            return made
    raise ValidationError.from_exception_data("policy", told)


def _carrying(context: dict[str, Any], path: Path) -> InitErrorDetails:
    """An error that pydantic takes through to the outermost model, with what is known of it."""
    return InitErrorDetails(type=PydanticCustomError("policy", "cannot be used", context), loc=path, input=None)


def problems_of(error: ValidationError, known_keys: Callable[[Path], Collection[str]]) -> list[Problem]:
    """Everything that pydantic complains of, in the words of the file."""
    found = []
    for each in error.errors(include_url=False):
        context, path = each.get("ctx", {}), each["loc"]
        original = context.get("original", each)
        if (own := context.get("problem")) is not None:
            found.append(Problem(path, own.text, own.unknown))
        elif original["type"] == "extra_forbidden":
            key = str(path[-1])
            found.append(Problem(path, f"there is no key {key!r} here", (key, tuple(known_keys(path[:-1])))))
        else:
            found.append(Problem(path, _words(original, str(path[-1]) if path else "it")))
    return found


def _words(error: Any, key: str) -> str:
    """What pydantic found, as it is said of a file."""
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"{key} is missing"
        case "value_error":
            text = str(context["error"])
            return text if key in text else f"{key}: {text}"
        case "int_type" | "int_parsing" | "int_from_float":
            return f"{key} has to be a whole number"
        case "greater_than_equal":
            return f"{key} has to be at least {context['ge']}"
        case "less_than_equal":
            return f"{key} has to be at most {context['le']}"
        case "string_type":
            return f"{key} has to be a text in quotes"
        case "bool_type" | "bool_parsing":
            return f"{key} has to be true or false"
        case "frozen_set_type":
            return f'{key} has to be a list of names such as ["one", "two"]'
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"{key} has to be a table"
    return f"{key}: {str(error['msg']).replace('Input should be', 'has to be')}"
