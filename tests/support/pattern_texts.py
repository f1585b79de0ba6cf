"""Texts that a regular expression was made for: each of its branches, each letter of its small sets in at least one."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Final

from turnkeeper.adapters.injection.matcher import Matcher, words_of

_parser: Final[Any] = importlib.import_module("re._parser")
_compiler: Final[Any] = importlib.import_module("re._compiler")
_re: Final[Any] = importlib.import_module("re._constants")
_SIGNS: Final = (_re.IN, _re.NOT_LITERAL, _re.ANY)
_FEW: Final = 12


@dataclass(frozen=True)
class Texts:
    """How gaps are filled: how often what may be left out or repeated is there, and by which signs."""

    #: At most; as often as a pattern asks for at least.
    times: int
    signs: str

    def of(self, pattern: str) -> list[str]:
        return self._sequence(_parser.parse(pattern))

    def _sequence(self, nodes: Any) -> list[str]:
        texts = [""]
        for op, argument in nodes:
            then = self._node(op, argument)
            most = max(len(texts), len(then))
            texts = [texts[n % len(texts)] + then[n % len(then)] for n in range(most)]
        return texts

    def _node(self, op: Any, argument: Any) -> list[str]:
        if op is _re.LITERAL:
            return [chr(argument)]
        if op is _re.SUBPATTERN:
            return self._sequence(argument[3])
        if op is _re.BRANCH:
            return [text for branch in argument[1] for text in self._sequence(branch)]
        if op in (_re.MAX_REPEAT, _re.MIN_REPEAT, _re.POSSESSIVE_REPEAT):
            least, most, item = argument
            times, texts = max(least, min(self.times, most)), self._sequence(item)
            # A gap of signs is of use as a gap. Words that may be left out are so in one text.
            sign = len(item) == 1 and item[0][0] in (*_SIGNS, _re.LITERAL)
            without = [""] if least == 0 and not sign else []
            return [*without, *(text * times for text in texts)]
        if op in _SIGNS:
            return self._letters(op, argument)
        assert op in (_re.AT, _re.ASSERT, _re.ASSERT_NOT), op
        return [""]

    def _letters(self, op: Any, argument: Any) -> list[str]:
        if op is _re.IN and all(kind is _re.LITERAL for kind, _ in argument) and len(argument) <= _FEW:
            return [chr(code) for _, code in argument]
        one = _compiler.compile(_parser.SubPattern(_parser.State(), [(op, argument)]))
        return [next(sign for sign in self.signs if one.fullmatch(sign))]


KINDS: Final = (Texts(1, " x7.["), Texts(1, "x 7.["), Texts(0, " x7.["), Texts(400, "x 7.["))


def texts_of(pattern: str) -> list[tuple[str, ...]]:
    """For each way through the pattern's branches, the same words with this and that between them. At least one of each
    should match: what stands beside a gap may ask for another one (``\\b``), or forbid it (``(?!...)``)."""
    return list(zip(*(kind.of(pattern) for kind in KINDS), strict=True))


def all_found(matcher: Matcher, folded: str) -> list[tuple[int, int]]:
    """Where the matches are, as ``finditer`` would give them."""
    found: list[tuple[int, int]] = []

    def told(_group: int, start: int, end: int) -> int:
        found.append((start, end))
        return end

    matcher.find(folded, words_of(folded), told)
    return found
