"""What has to stand in a text for a pattern to be able to match in it: read off the pattern itself.

A pattern such as ``\\b(?:send|post)\\b[^\\n]{0,60}\\bto the attacker`` can match only where ``send`` or ``post`` stands
and, four to 64 characters behind where that begins, ``to the attacker``. Literals like these are found for all patterns
in one pass over a text (``matcher``), so that a pattern costs nothing where it cannot match.

Blanks and line ends are one kind here and any number of them is one blank, since that is how texts are scanned. No
literal begins with one: where a literal begins is then a place of the text as it is, too.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

#: What ``re`` reads patterns with. Its name is private and has been the same since Python 3.11; hypothesis uses it too.
_parser: Final[Any] = importlib.import_module("re._parser")
_re: Final[Any] = importlib.import_module("re._constants")

#: More spellings of one stretch than this are not listed: the stretch is taken as two.
_MAX_SPELLINGS: Final = 200
#: A shorter one stands everywhere. Counted in UTF-8, since two letters of Chinese say as much as a word.
_MIN_BYTES: Final = 3
_MIN_BYTES_FIRST: Final = 2
#: Signs that are rare by themselves, where text has no addresses.
_RARE: Final = frozenset("@")
_MAX_NEEDS: Final = 4
#: A literal that is a letter longer is worth a window of so many more places.
_WIDE: Final = 24

_REPEATS: Final = frozenset({_re.MAX_REPEAT, _re.MIN_REPEAT, _re.POSSESSIVE_REPEAT})
_NO_WIDTH: Final = frozenset({_re.AT, _re.ASSERT, _re.ASSERT_NOT})


class Need(NamedTuple):
    """One of ``literals`` begins between ``low`` and ``high`` characters after each match of the pattern does."""

    literals: frozenset[str]
    low: int
    high: int

    def spelled(self, spell: Callable[[str], str]) -> Need:
        """The same of a text that is read otherwise: somewhere in it, since a reading may turn it round."""
        return Need(frozenset(map(spell, self.literals)), 0, 0)


class Needs(NamedTuple):
    #: All of them have to be there. The first says best where a match may begin.
    needs: tuple[Need, ...]
    #: The longest that a match can be; ``None`` where there is no end to it.
    width: int | None


def needs_of(pattern: str) -> Needs:
    """What every match of the pattern holds."""
    tree = _parser.parse(pattern)
    width = tree.getwidth()[1]
    found = sorted(_walk(tree, 0, 0), key=lambda need: _rarity(need) - (need.high - need.low) // _WIDE, reverse=True)
    first = next((need for need in found if _rarity(need) >= _MIN_BYTES_FIRST), None)
    others = [need for need in found if need is not first and _rarity(need) >= _least(need)]
    needs = () if first is None else (first, *others[: _MAX_NEEDS - 1])
    return Needs(needs, width if width < _re.MAXREPEAT else None)


def _rarity(need: Need) -> int:
    return min(_MIN_BYTES if literal in _RARE else len(literal.encode()) for literal in need.literals)


def _least(need: Need) -> int:
    """Two letters are worth looking for where they say to the place where a match begins."""
    exact = need.low == need.high and all(literal[0].isalpha() for literal in need.literals)
    return _MIN_BYTES_FIRST if exact else _MIN_BYTES


def _tightness(need: Need) -> tuple[bool, bool, int]:
    """One branch with a wide window makes that of all of them wide."""
    return _rarity(need) >= _MIN_BYTES, need.high - need.low < _WIDE, _rarity(need)


def _walk(nodes: Any, low: int, high: int) -> Iterator[Need]:
    """The needs of nodes that stand one behind the other, the first of them so far behind the match's start."""
    run: frozenset[str] = frozenset()
    run_low, run_high = low, high
    for op, argument in nodes:
        least, most = _parser.SubPattern(_parser.State(), [(op, argument)]).getwidth()
        spellings = _spellings(op, argument)
        if run and spellings and len(run) * len(spellings) <= _MAX_SPELLINGS:
            run = _joined(run, spellings)
        else:
            if run:
                yield Need(_shortest(run), run_low, run_high)
            begins = spellings is not None and all(spelled and spelled[0] != " " for spelled in spellings)
            run, run_low, run_high = spellings if spellings and begins else frozenset(), low, high
            if spellings is None:
                yield from _inside(op, argument, low, high)
        low, high = low + least, high + most
    if run:
        yield Need(_shortest(run), run_low, run_high)


def _inside(op: Any, argument: Any, low: int, high: int) -> Iterator[Need]:
    if op is _re.SUBPATTERN:
        yield from _walk(argument[3], low, high)
    elif op in _REPEATS and argument[0] >= 1:
        yield from _walk(argument[2], low, high)
    elif op is _re.BRANCH:
        best = [max(_walk(branch, low, high), key=_tightness, default=None) for branch in argument[1]]
        needs = [need for need in best if need is not None]
        if len(needs) == len(best):
            literals = frozenset[str]().union(*(need.literals for need in needs))
            yield Need(_shortest(literals), min(need.low for need in needs), max(need.high for need in needs))


def _spellings(op: Any, argument: Any) -> frozenset[str] | None:
    """All that a node can match, where that is a short list. Blanks are one, however many."""
    if op is _re.LITERAL:
        return frozenset({_letter(argument)})
    if op is _re.IN and all(kind is _re.LITERAL for kind, _ in argument):
        return frozenset(_letter(value) for _, value in argument)
    if op is _re.SUBPATTERN:
        return _all_spellings(argument[3]) if not (argument[1] or argument[2]) else None
    if op is _re.BRANCH:
        branches = [_all_spellings(branch) for branch in argument[1]]
        listed = [spelled for spelled in branches if spelled is not None]
        whole = frozenset[str]().union(*listed)
        return whole if len(listed) == len(branches) and len(whole) <= _MAX_SPELLINGS else None
    if op in _REPEATS:
        least, most, item = argument
        once = _all_spellings(item)
        if once is None or (most != 1 and once != {" "}):
            return None
        return once if least else once | {""}
    return frozenset({""}) if op in _NO_WIDTH else None


def _all_spellings(nodes: Any) -> frozenset[str] | None:
    whole = frozenset({""})
    for op, argument in nodes:
        spellings = _spellings(op, argument)
        if spellings is None or len(whole) * len(spellings) > _MAX_SPELLINGS:
            return None
        whole = _joined(whole, spellings)
    return whole


def _letter(code: int) -> str:
    return " " if chr(code) == "\n" else chr(code)


def _joined(first: frozenset[str], then: frozenset[str]) -> frozenset[str]:
    return frozenset(a + (b[1:] if a[-1:] == b[:1] == " " else b) for a in first for b in then)


def _shortest(literals: frozenset[str]) -> frozenset[str]:
    """Without those that begin with another."""
    return frozenset(
        literal for literal in literals if not any(literal[:size] in literals for size in range(1, len(literal)))
    )
