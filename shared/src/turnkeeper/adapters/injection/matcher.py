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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from ahocorasick_rs import AhoCorasick

from turnkeeper.adapters.injection.anchors import Need, Needs, needs_of

#: A pattern may look ahead this far behind its match.
_BEYOND: Final = 64
#: Places next to each other up to this many are tried one by one; of more, the pattern's own search is faster.
_FEW: Final = 12
_LINE_ENDS = re.compile(r"\n[ \n]*")


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


class Found(NamedTuple):
    #: Which of the groups, and where.
    group: int
    start: int
    end: int


class Scan(NamedTuple):
    """The literals that stand in a text, found in one pass."""

    #: Number of the literal and where it begins and ends, in the text's words.
    hits: Sequence[tuple[int, int, int]]
    #: The needs that they meet, as bits.
    met: int


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
        self._groups = groups
        self._patterns = [pattern for group in groups for pattern in group]
        numbers: dict[Need, int] = {}
        asked = [_bits(pattern.needs.needs, numbers) for pattern in self._patterns]
        self._asked = list(zip(asked, self._patterns, strict=True))
        self._read = {
            name: [_bits([need.spelled(spell) for need in pattern.needs.needs], numbers) for pattern in patterns]
            for name, (spell, patterns) in (readings or {}).items()
        }
        literals: dict[str, int] = {}
        met: dict[int, int] = defaultdict(int)
        for need, number in numbers.items():
            for literal in need.literals:
                met[literals.setdefault(literal, len(literals))] |= 1 << number
        self._literals = literals
        #: By literal, the needs that it meets: as bits, since all patterns ask of every text.
        self._met = tuple(met.values())
        self._automaton = AhoCorasick(literals, store_patterns=False)

    def scan(self, words: str) -> Scan:
        """``words`` are those of a text (:func:`words_of`)."""
        hits = self._automaton.find_matches_as_indexes(words, overlapping=True)
        met = 0
        for literal in {hit[0] for hit in hits}:
            met |= self._met[literal]
        return Scan(hits, met)

    def may_match(self, reading: str, scan: Scan) -> bool:
        """Whether all words of some pattern stand in the text as this reading spells them."""
        return any(not asked & ~scan.met for asked in self._read[reading])

    def find(self, text: str, words: str, *, most: int, scan: Scan | None = None) -> Iterator[Found]:
        """The matches of each group in their order, the first ``most`` of each."""
        tries = self.tries(text, words, scan or self.scan(words))
        for group, patterns in enumerate(self._groups if tries else ()):
            streams = [_Stream(pattern, text, tries[pattern]) for pattern in patterns if pattern in tries]
            for start, end in _in_turn(streams, most) if streams else ():
                yield Found(group, start, end)

    def tries(self, text: str, words: str, scan: Scan) -> dict[Pattern, Stretches]:
        """Where each pattern is tried. Those that cannot match are left out."""
        live = [pattern for asked, pattern in self._asked if not asked & ~scan.met]
        needs = {need for pattern in live for need in pattern.needs.needs}
        wanted = {self._literals[literal] for need in needs for literal in need.literals}
        places: dict[int, list[int]] = defaultdict(list)
        for literal, start, _ in scan.hits if live else ():
            if literal in wanted:
                places[literal].append(start)
        if places and len(words) != len(text):
            behind, by = _moved(text)
            for starts in places.values():
                starts[:] = [start + by[bisect_right(behind, start)] for start in starts]
        found = {need: self._places(need, places) for need in needs}
        tries = {
            pattern: _where_all([(need, found[need]) for need in pattern.needs.needs], len(text)) for pattern in live
        }
        return {pattern: stretches for pattern, stretches in tries.items() if stretches[0]}

    def _places(self, need: Need, of: Mapping[int, list[int]]) -> list[int]:
        numbers = [self._literals[literal] for literal in need.literals]
        return sorted(itertools.chain.from_iterable(of[number] for number in numbers if number in of))


def _bits(needs: Iterable[Need], numbers: dict[Need, int]) -> int:
    return sum(1 << numbers.setdefault(need, len(numbers)) for need in set(needs))


def _where_all(needs: list[tuple[Need, list[int]]], size: int) -> Stretches:
    """Where a match may begin for all needs to be met. Those that leave the fewest stretches are asked first."""
    needs.sort(key=lambda each: min(len(each[1]), size // (each[0].high - each[0].low + 1)))
    stretches: Stretches = [0], [size]
    for need, places in needs:
        stretches = _where(need, places, stretches)
    return stretches


def _where(need: Need, places: list[int], within: Stretches) -> Stretches:
    """Where in these stretches a match may begin for one of these places to be as far behind as it has to."""
    lows: list[int] = []
    highs: list[int] = []
    start = 0
    for low, high in zip(*within, strict=True):
        start = at = bisect_left(places, low + need.low, start)
        end = bisect_right(places, high + need.high, start)
        while at < end:
            last = at
            # Not place by place, since words of attacks may stand densely: as far as each one's stretch meets the next.
            while (then := bisect_right(places, places[last] - need.low + need.high + 1, last, end) - 1) > last:
                last = then
            lows.append(max(low, places[at] - need.high))
            highs.append(min(high, places[last] - need.low))
            at = last + 1
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


def _in_turn(streams: Sequence[_Stream], most: int) -> Iterator[tuple[int, int]]:
    found = [stream.after(0) for stream in streams]
    for _ in range(most):
        first = min((span for span in found if span), key=lambda span: span[0], default=None)
        if first is None:
            return
        yield first
        end = first[1]
        found = [
            span if span is None or span[0] >= end else stream.after(end)
            for span, stream in zip(found, streams, strict=True)
        ]


def words_of(text: str) -> str:
    """A folded text as literals are looked for in it: a line end is a blank, and several blanks are one.

    In a folded text no two blanks stand together without a line end.
    """
    text = _LINE_ENDS.sub(" ", text).replace("  ", " ")
    # The automaton takes UTF-8; halves of pairs stand in no literal.
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _moved(text: str) -> tuple[list[int], list[int]]:
    """Places of the words, and by how much what stands behind each of them has moved up."""
    behind: list[int] = []
    by = [0]
    for found in _LINE_ENDS.finditer(text):
        start, end = found.span()
        start -= text[start - 1 : start] == " "
        if end - start > 1:
            behind.append(start - by[-1])
            by.append(by[-1] + end - start - 1)
    return behind, by
