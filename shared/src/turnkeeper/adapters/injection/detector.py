"""Does a text read like instructions to a model? By rules over its surface.

It reads a dozen languages, sees through the common disguises, and misses what is put politely and without any of the
usual words; ``docs/security.md`` has the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from turnkeeper.adapters.injection.matcher import Matcher, Scan
from turnkeeper.adapters.injection.rules import ABOUT, NEGATED, REPORTED, RULES
from turnkeeper.adapters.injection.text import MAX_CHARS, RESPELLED, View, any_invisible, marks, views
from turnkeeper.core.suspicion import FLAG_AT, MAX_REASONS, Finding

#: Signals count together only this near to each other: a long document holds a little of everything.
_NEAR_CHARS: Final = 800
#: Where a rule has matched with all of its weight, the same again so near by changes nothing. Where something takes
#: weight off a match, the next one may be right behind it: decoys hide nothing.
_APART_CHARS: Final = 200
_HIDING_BONUS: Final = 250
_QUOTES: Final = frozenset("\"'`“”„‟‘’‚«»‹›「」『』《》")
#: Read out of every text, so a chance match there is far likelier than a disguise.
_SPECULATIVE: Final = frozenset({*RESPELLED, "digits for letters"})
_STRONG: Final = tuple(rule for rule in RULES if rule.topic in {"override", "prompt leak"} and rule.weight >= FLAG_AT)
#: First what says that a text is about attacks, then each rule.
_ANY_RULE: Final = Matcher(
    [[ABOUT], *(rule.patterns for rule in RULES)],
    {name: (spell, [pattern for rule in _STRONG for pattern in rule.patterns]) for name, spell in RESPELLED.items()},
)
_STRONG_RULE: Final = Matcher([[ABOUT], *(rule.patterns for rule in _STRONG)])


class RuleDetector:
    """A :class:`turnkeeper.ports.InjectionDetector`. The first 400,000 characters of a text are examined."""

    def check(self, text: str) -> Finding | None:
        if not text.strip():
            return None
        best = 0
        reasons: dict[str, int] = {}
        text = text[:MAX_CHARS]
        invisible = any_invisible(text)
        for name, weight in marks(text) if invisible else ():
            best = max(best, weight)
            reasons[name] = weight
        plain = 0
        scan = Scan()
        for view in views(text, invisible=invisible):
            if view.disguise in RESPELLED and not _ANY_RULE.may_match(view.disguise, scan):
                continue
            if not view.disguise:
                scan = _ANY_RULE.scan(view.words)
            score, topics = _score(view, None if view.disguise else scan)
            if not view.disguise:
                plain = best = max(best, score)
            elif score > plain or (score and view.disguise not in _SPECULATIVE):
                if view.disguise in _SPECULATIVE and score < FLAG_AT:
                    continue
                # Instructions that were hidden weigh more than the same in the open.
                score += _HIDING_BONUS
                topics = {**topics, f"hidden: {view.disguise}": score}
            best = max(best, score)
            for topic, weight in topics.items():
                reasons[topic] = max(weight, reasons.get(topic, 0))
        if best < FLAG_AT:
            return None
        strongest = sorted(reasons, key=lambda name: (-reasons[name], name))
        return Finding(score=min(1000, best), reasons=tuple(strongest[:MAX_REASONS]))


def _score(view: View, scan: Scan | None = None) -> tuple[int, dict[str, int]]:
    """The best neighbourhood's score, and its topics with their weights."""
    # A whole text read backwards or letter-shifted is nearly always noise: only the plainest signs count there.
    rules, matcher = (_STRONG, _STRONG_RULE) if view.disguise in _SPECULATIVE else (RULES, _ANY_RULE)
    text = view.text
    about = False
    #: Where the matches begin, by the topic of the rule and what the match weighs.
    hits: list[tuple[int, str, int]] = []

    def told(group: int, start: int, end: int) -> int:
        nonlocal about
        if group == 0:
            about = True
            return len(text) + 1
        rule = rules[group - 1]
        weight = _weight(rule.weight, text, start, end, about)
        hits.append((start, rule.topic, weight))
        return end if weight < rule.weight else max(end, start + _APART_CHARS)

    matcher.find(text, view.words, told, scan)
    return _best(hits) if hits and view.holds() else (0, {})


def _best(hits: list[tuple[int, str, int]]) -> tuple[int, dict[str, int]]:
    best: tuple[int, dict[str, int]] = (0, {})
    #: By topic and weight, where the nearest one behind begins.
    nearest: dict[tuple[str, int], int] = {}
    for start, topic, weight in sorted(hits, reverse=True):
        nearest[topic, weight] = start
        topics: dict[str, int] = {}
        for (other, its_weight), place in nearest.items():
            if place - start <= _NEAR_CHARS:
                topics[other] = max(its_weight, topics.get(other, 0))
        score = _together(topics.values())
        if score >= best[0]:
            best = (score, topics)
    return best


def _together(weights: Iterable[int]) -> int:
    """The strongest counts whole, the next half, the next a quarter: two weak signals flag, one does not."""
    return sum(weight >> place for place, weight in enumerate(sorted(weights, reverse=True)))


def _weight(weight: int, text: str, start: int, end: int, about: bool) -> int:
    before = text[max(0, start - 24) : start]
    if NEGATED.search(before):
        return weight * 3 // 10
    if about and (_quoted(text, start, end) or REPORTED.search(before)):
        return weight * 3 // 10
    return weight


def _quoted(text: str, start: int, end: int) -> bool:
    """Whether the phrase stands between quotation marks of its own line."""
    line_start = max(text.rfind("\n", 0, start) + 1, start - 80)
    line_end = text.find("\n", end, end + 160)
    left = text[line_start:start]
    right = text[end : line_end if line_end >= 0 else end + 160]
    return any(sign in _QUOTES for sign in left) and any(sign in _QUOTES for sign in right)
