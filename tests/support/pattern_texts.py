"""Texts that a regular expression was made for: each of its branches, each letter of its small sets in at least one."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, Final

_parser: Final[Any] = importlib.import_module("re._parser")
_re: Final[Any] = importlib.import_module("re._constants")
_SIGNS: Final = (" ", "x", "7", ".", "[")
_FEW: Final = 12


def texts_of(pattern: str) -> list[str]:
    """They do not all match: what stands next to a gap may need another one (``\\b``) or forbid it (``(?!...)``)."""
    return list(dict.fromkeys(_sequence(_parser.parse(pattern))))


def _sequence(nodes: Any) -> list[str]:
    texts = [""]
    for op, argument in nodes:
        nexts = _node(op, argument)
        longer = max(len(texts), len(nexts))
        texts = [texts[n % len(texts)] + nexts[n % len(nexts)] for n in range(longer)]
    return texts


def _node(op: Any, argument: Any) -> list[str]:
    if op is _re.LITERAL:
        return [chr(argument)]
    if op is _re.SUBPATTERN:
        return _sequence(argument[3])
    if op is _re.BRANCH:
        return [text for branch in argument[1] for text in _sequence(branch)]
    if op in (_re.MAX_REPEAT, _re.MIN_REPEAT, _re.POSSESSIVE_REPEAT):
        least, _, item = argument
        once = _sequence(item)
        # A gap that may hold a blank does: what stands around it begins or ends with a word, as a rule.
        if least == 0 and once != [" "]:
            once = ["", *once]
        return [text * max(1, least) for text in once]
    if op in (_re.IN, _re.NOT_LITERAL, _re.ANY):
        return _letters(op, argument)
    assert op in (_re.AT, _re.ASSERT, _re.ASSERT_NOT), op
    return [""]


def _letters(op: Any, argument: Any) -> list[str]:
    if op is _re.IN and all(kind is _re.LITERAL for kind, _ in argument) and len(argument) <= _FEW:
        # One of blanks and line ends is a blank.
        letters = [chr(code) for _, code in argument]
        return [" "] if " " in letters and "\n" in letters else letters
    one = _parser.SubPattern(_parser.State(), [(op, argument)])
    return [next(sign for sign in _SIGNS if _matches(one, sign))]


def _matches(one: Any, sign: str) -> bool:
    compiler: Any = importlib.import_module("re._compiler")
    return compiler.compile(one).fullmatch(sign) is not None


def joined(texts: Iterable[str]) -> str:
    return "\n\n".join(texts)
