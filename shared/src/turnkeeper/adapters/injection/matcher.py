"""Finds the matches of many patterns in a text, as ``finditer`` would, in little more than one pass over it.

An automaton (Aho-Corasick) finds every literal that some pattern needs (``anchors``) at once. A pattern whose literals
are not all there is not run. One whose literals are there is run at the places where these allow a match to begin, and
nowhere else. What is found is exactly what the patterns alone would find: the filter leaves work out, never a match.

The work is bounded by the text, whatever stands in it: of each pattern no place is tried twice, and a try takes what
the pattern's own bounded repetitions allow.
"""

from __future__ import annotations

import functools
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
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


class Matcher:
    """The patterns of a group exclude one another, as those of one pattern joined by ``|`` do: where one of them has
    matched, the next match of its group begins behind it at the earliest; at the same place the first one counts.
    """

    def __init__(self, groups: Sequence[Sequence[Pattern]]) -> None:
        self._groups = groups
        numbers: dict[Need, int] = {}
        for pattern in (pattern for group in groups for pattern in group):
            for need in pattern.needs.needs:
                numbers.setdefault(need, len(numbers))
        of: dict[str, list[int]] = {}
        for need, number in numbers.items():
            for literal in need.literals:
                of.setdefault(literal, []).append(number)
        self._numbers = numbers
        #: By literal, the needs that it meets; the same as bits, since all patterns ask of every text.
        self._met = tuple(tuple(met) for met in of.values())
        self._bits = tuple(sum(1 << number for number in met) for met in self._met)
        self._asked = tuple(
            (group, pattern, sum(1 << numbers[need] for need in pattern.needs.needs))
            for group, patterns in enumerate(groups)
            for pattern in patterns
        )
        self._automaton = AhoCorasick(of, store_patterns=False)

    def find(self, text: str, words: str, *, most: int) -> Iterator[Found]:
        """The matches of each group in their order, the first ``most`` of each. ``words`` are those of the text
        (:func:`words_of`)."""
        tries = self.tries(text, words)
        for group, patterns in enumerate(self._groups):
            streams = [_Stream(pattern, text, tries[pattern]) for pattern in patterns if pattern in tries]
            for start, end in _in_turn(streams, most) if streams else ():
                yield Found(group, start, end)

    def tries(self, text: str, words: str) -> dict[Pattern, list[tuple[int, int]]]:
        """From where to where each pattern is tried, in order. Those that cannot match are left out."""
        hits = self._automaton.find_matches_as_indexes(words, overlapping=True)
        present = 0
        for literal in {hit[0] for hit in hits}:
            present |= self._bits[literal]
        live = [pattern for _, pattern, asked in self._asked if not asked & ~present]
        if not live:
            return {}
        wanted = {self._numbers[need] for pattern in live for need in pattern.needs.needs}
        places: dict[int, list[int]] = {number: [] for number in wanted}
        for literal, start, _ in hits:
            for number in self._met[literal]:
                if number in wanted:
                    places[number].append(start)
        moved = _moved(text) if len(words) != len(text) else None
        for starts in places.values():
            starts.sort()
            if moved:
                starts[:] = [start + moved[1][bisect_right(moved[0], start)] for start in starts]
        tries = {pattern: self._windows(pattern.needs.needs, places) for pattern in live}
        return {pattern: windows for pattern, windows in tries.items() if windows}

    def _windows(self, needs: Sequence[Need], places: dict[int, list[int]]) -> list[tuple[int, int]]:
        first, *rest = needs
        others = [(places[self._numbers[need]], need.low, need.high) for need in rest]
        windows: list[tuple[int, int]] = []
        for place in places[self._numbers[first]]:
            low, high = max(0, place - first.high), place - first.low
            if high < low or not _all_near(others, low, high):
                continue
            if windows and low <= windows[-1][1] + 1:
                windows[-1] = (windows[-1][0], max(high, windows[-1][1]))
            else:
                windows.append((low, high))
        return windows


def _all_near(others: Sequence[tuple[list[int], int, int]], low: int, high: int) -> bool:
    for places, least, most in others:
        at = bisect_left(places, low + least)
        if at == len(places) or places[at] > high + most:
            return False
    return True


class _Stream:
    """The matches of one pattern from some place on, looked for in its windows only."""

    def __init__(self, pattern: Pattern, text: str, windows: list[tuple[int, int]]) -> None:
        self._compiled, self._text, self._windows = pattern.compiled, text, windows
        self._reach = None if pattern.needs.width is None else pattern.needs.width + _BEYOND
        self._next = 0

    def after(self, place: int) -> tuple[int, int] | None:
        """The first match that begins here or further on. Places only grow from call to call."""
        while self._next < len(self._windows):
            low, high = self._windows[self._next]
            found = self._within(max(low, place), high) if high >= place else None
            if found:
                return found.span()
            self._next += 1
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
