"""Finds the matches of many patterns in a text, as ``finditer`` would, in little more than one pass over it.

An automaton (Aho-Corasick) finds every literal that some pattern needs (``anchors``) at once. A pattern whose literals
are not all there is not run. One whose literals are there is run at the places where these allow a match to begin, and
nowhere else. What is found is exactly what the patterns alone would find: the filter leaves work out, never a match.

The work is bounded by the text, whatever stands in it: of each pattern no place is tried twice, and a try takes what
the pattern's own bounded repetitions allow.
"""

from __future__ import annotations

import functools
import itertools
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from operator import itemgetter
from typing import Final, NamedTuple

from ahocorasick_rs import AhoCorasick

from turnkeeper.adapters.injection.anchors import Need, Needs, needs_of

#: A pattern may look ahead this far behind its match.
_BEYOND: Final = 64
#: Places next to each other up to this many are tried one by one; of more, the pattern's own search is faster.
_FEW: Final = 12
_LINE_ENDS = re.compile(r"\n[ \n]*")
#: Where the words of a text have one blank in place of several.
_GAPS = re.compile(r" \n[ \n]*|\n[ \n]+")
#: The same where no line ends with a blank: several times faster.
_GAPS_OF_MOST = re.compile(r"\n[ \n]+")


class Pattern:
    """One pattern, compiled when it is first run: most never are."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.needs: Needs = needs_of(source)
        if not self.needs.needs:
            raise ValueError(f"a pattern that no word has to stand for would be run over every text: {source}")

    @functools.cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(self.source, re.MULTILINE)


class Scan(NamedTuple):
    """The literals that stand in a text, found in one pass."""

    #: Number of the literal and where it begins and ends, in the text's words.
    hits: Sequence[tuple[int, int, int]] = ()
    literals: Set[int] = frozenset()
    #: The needs that they meet, as bits.
    met: int = 0


#: Where matches may begin: the first and the last place of each stretch, in order, none of which meet.
Stretches = tuple[list[int], list[int]]


class Matcher:
    """The patterns of a group exclude one another, as those of one pattern joined by ``|`` do: where one of them has
    matched, the next match of its group begins behind it at the earliest; at the same place the first one counts.

    ``readings`` are other ways to read a text, each with how it spells what it reads as a given literal, and patterns.
    The same pass tells whether one of these may match there (:meth:`may_match`): most readings need not be made.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[Pattern]],
        readings: Mapping[str, tuple[Callable[[str], str], Sequence[Pattern]]] | None = None,
    ) -> None:
        numbers: dict[Need, int] = {}
        self._group = {pattern: number for number, group in enumerate(groups) for pattern in group}
        self._patterns = list(self._group)
        asked = [_Asked(pattern.needs.needs, numbers) for pattern in self._patterns]
        read = {
            name: [_Asked([need.spelled(spell) for need in pattern.needs.needs], numbers) for pattern in patterns]
            for name, (spell, patterns) in (readings or {}).items()
        }
        words = {literal for need in numbers for literal in need.literals}
        literals: dict[str, int] = {}
        self._literals: dict[Need, list[int]] = {}
        met: dict[int, int] = defaultdict(int)
        for need, number in numbers.items():
            # A word with a blank is the word itself where that is looked for anyway: a text has each of them once then.
            spelled = [literal.rstrip() if literal.rstrip() in words else literal for literal in need.literals]
            self._literals[need] = [literals.setdefault(literal, len(literals)) for literal in spelled]
            for literal in self._literals[need]:
                met[literal] |= 1 << number
        #: By literal, the needs that it meets: as bits, since all patterns ask of every text.
        self._met = tuple(met[literal] for literal in range(len(literals)))
        self._asked = self._by_literal(asked)
        self._read = {name: self._by_literal(each) for name, each in read.items()}
        self._automaton = AhoCorasick(literals, store_patterns=False)

    def _by_literal(self, asked: Sequence[_Asked]) -> _ByLiteral:
        by_literal: _ByLiteral = defaultdict(list)
        for number, each in enumerate(asked):
            for literal in self._literals[each.rarest]:
                by_literal[literal].append((number, each.bits))
        return by_literal

    def scan(self, words: str) -> Scan:
        """``words`` are those of a text (:func:`words_of`)."""
        hits = self._automaton.find_matches_as_indexes(words, overlapping=True)
        literals = set(map(itemgetter(0), hits))
        met = 0
        for literal in literals:
            met |= self._met[literal]
        return Scan(hits, literals, met)

    def may_match(self, reading: str, scan: Scan) -> bool:
        """Whether all words of some pattern stand in the text as this reading spells them."""
        return bool(_met(self._read[reading], scan))

    def find(self, text: str, words: str, told: Callable[[int, int, int], int], scan: Scan | None = None) -> None:
        """Tells of each group's matches in their order: which group, and from where to where. What is answered is from
        where on the next one is looked for, the match's end where it should be as ``finditer`` does."""
        tries = self.tries(text, words, scan or self.scan(words))
        for group, patterns in itertools.groupby(tries, self._group.__getitem__):
            streams = [_Stream(pattern, text, tries[pattern]) for pattern in patterns]
            _in_turn(streams, functools.partial(told, group))

    def tries(self, text: str, words: str, scan: Scan) -> dict[Pattern, Stretches]:
        """Where each pattern is tried. Those that cannot match are left out."""
        live = [self._patterns[number] for number in _met(self._asked, scan)]
        if not live:
            return {}
        places = _Places(self._literals, scan.hits)
        if len(words) != len(text):
            places.move(text)
        tries = {pattern: _where_all(pattern.needs.needs, places, len(text)) for pattern in live}
        return {pattern: stretches for pattern, stretches in tries.items() if stretches[0]}


class _Places(dict[Need, list[int]]):
    """Where literals of a need begin in a text, put together when it is asked for."""

    def __init__(self, literals: Mapping[Need, list[int]], hits: Sequence[tuple[int, int, int]]) -> None:
        self._literals = literals
        of: dict[int, list[int]] = defaultdict(list)
        for literal, start, _ in hits:
            of[literal].append(start)
        self._of = of
        self._behind: list[int] = []
        self._by = [0]

    def __missing__(self, need: Need) -> list[int]:
        of, behind, by = self._of, self._behind, self._by
        found = [of[literal] for literal in self._literals[need] if literal in of]
        places = sorted(itertools.chain.from_iterable(found))
        self[need] = [place + by[bisect_right(behind, place)] for place in places] if behind else places
        return self[need]

    def stretches(self, need: Need, size: int) -> int:
        """About how many stretches it is in which the need lets a match begin: wide ones become few where many meet."""
        width = need.high - need.low + 1
        count = sum([len(self._of[literal]) for literal in self._literals[need] if literal in self._of])
        return count if width == 1 else min(2 * count, size // width)

    def move(self, text: str) -> None:
        """Hits are in the words of a text, of whose blanks some are left out: what stands behind them is further on."""
        pattern = _GAPS if " \n" in text else _GAPS_OF_MOST
        gaps = [found.span() for found in pattern.finditer(text)]
        self._by = list(itertools.accumulate([end - start - 1 for start, end in gaps], initial=0))
        self._behind = [start - by for (start, _), by in zip(gaps, self._by, strict=False)]


class _Asked:
    """What of a text a pattern asks for: all of its needs, as bits, and of them the one that the fewest texts meet."""

    def __init__(self, needs: Collection[Need], numbers: dict[Need, int]) -> None:
        self.bits = sum(1 << numbers.setdefault(need, len(numbers)) for need in set(needs))
        self.rarest = max(needs, key=lambda need: min(map(len, need.literals)))


#: By literal, the number of each pattern whose rarest need it meets, with all that it asks for.
_ByLiteral = dict[int, list[tuple[int, int]]]


def _met(asked: _ByLiteral, scan: Scan) -> list[int]:
    """The numbers of the patterns all of whose needs are met, in order: of most texts only few are looked at."""
    missing = ~scan.met
    return sorted(
        {number for literal in scan.literals & asked.keys() for number, bits in asked[literal] if not bits & missing}
    )


def _where_all(needs: Iterable[Need], places: _Places, size: int) -> Stretches:
    """Where a match may begin for all needs to be met. Those that leave the fewest stretches are asked first."""
    stretches: Stretches = [0], [size]
    for need in sorted(needs, key=lambda need: places.stretches(need, size)):
        stretches = _where(need, places[need], stretches)
        if not stretches[0]:
            break
    return stretches


def _where(need: Need, places: list[int], within: Stretches) -> Stretches:
    """Where in these stretches a match may begin for one of these places to be as far behind as it has to."""
    lows: list[int] = []
    highs: list[int] = []
    start = 0
    for low, high in zip(*within, strict=True):
        start = at = bisect_left(places, low + need.low, start)
        if start == len(places):
            break
        if low == high:
            if places[start] <= high + need.high:
                lows.append(low)
                highs.append(low)
            continue
        if need.low == need.high:
            starts = [place - need.low for place in places[at : bisect_right(places, high + need.high, at)]]
            lows += starts
            highs += starts
            continue
        while at < len(places) and places[at] <= high + need.high:
            lows.append(max(low, places[at] - need.high))
            # Not place by place, since words of attacks may stand densely: as far as each one's stretch meets the next.
            while places[at] - need.low < high:
                last = bisect_right(places, places[at] - need.low + need.high + 1, at) - 1
                if last == at:
                    break
                at = last
            highs.append(min(high, places[at] - need.low))
            if highs[-1] == high:
                break
            at += 1
    return lows, highs


class _Stream:
    """The matches of one pattern from some place on, looked for where it is tried only."""

    def __init__(self, pattern: Pattern, text: str, stretches: Stretches) -> None:
        self._compiled, self._text = pattern.compiled, text
        self._lows, self._highs = stretches
        self._reach = None if pattern.needs.width is None else pattern.needs.width + _BEYOND
        self._next = 0

    def after(self, place: int) -> tuple[int, int] | None:
        """The first match that begins here or further on. Places only grow from call to call."""
        match, text, lows = self._compiled.match, self._text, self._lows
        for at in range(bisect_left(self._highs, place, self._next), len(lows)):
            low, high = max(lows[at], place), self._highs[at]
            found = match(text, low) if low == high else self._within(low, high)
            if found:
                self._next = at
                return found.span()
        self._next = len(lows)
        return None

    def _within(self, low: int, high: int) -> re.Match[str] | None:
        if high - low < _FEW:
            for place in range(low, high + 1):
                if found := self._compiled.match(self._text, place):
                    return found
            return None
        end = len(self._text) if self._reach is None else high + self._reach
        found = self._compiled.search(self._text, low, end)
        return found if found and found.start() <= high else None


def _in_turn(streams: Sequence[_Stream], told: Callable[[int, int], int]) -> None:
    found = [stream.after(0) for stream in streams]
    while first := min((span for span in found if span), key=itemgetter(0), default=None):
        then = told(*first)
        found = [
            span if span is None or span[0] >= then else stream.after(then)
            for span, stream in zip(found, streams, strict=True)
        ]


def words_of(text: str) -> str:
    """A folded text as literals are looked for in it: a line end is a blank, and several blanks are one.

    In a folded text no two blanks stand together without a line end.
    """
    text = _LINE_ENDS.sub(" ", text).replace("  ", " ")
    # The automaton takes UTF-8; halves of pairs stand in no literal.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
