"""Does a text read like instructions to a model? By rules over its surface.

It reads a dozen languages, sees through the common disguises, and misses what is put politely and without any of the
usual words; ``docs/security.md`` has the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from turnkeeper.adapters.injection.matcher import Matcher, Scan
from turnkeeper.adapters.injection.rules import ABOUT, NEGATED, REPORTED, RULES
from turnkeeper.adapters.injection.text import RESPELLED, View, marks, views
from turnkeeper.core.suspicion import FLAG_AT, MAX_REASONS, Finding

#: Signals count together only this near to each other: a long document holds a little of everything.
_NEAR_CHARS: Final = 800
_MAX_HITS_PER_RULE: Final = 50
_HIDING_BONUS: Final = 250
_QUOTES: Final = frozenset("\"'`“”„‟‘’‚«»‹›「」『』《》")
#: Read out of every text, so a chance match there is far likelier than a disguise.
_SPECULATIVE: Final = frozenset({*RESPELLED, "digits for letters"})
_STRONG: Final = tuple(rule for rule in RULES if rule.topic in {"override", "prompt leak"} and rule.weight >= FLAG_AT)
_ANY_RULE: Final = Matcher(
    [rule.patterns for rule in RULES],
    {name: (spell, [pattern for rule in _STRONG for pattern in rule.patterns]) for name, spell in RESPELLED.items()},
)
_STRONG_RULE: Final = Matcher([rule.patterns for rule in _STRONG])
_ABOUT_IT: Final = Matcher([[ABOUT]])


class _Hit(NamedTuple):
    start: int
    topic: str
    weight: int


class RuleDetector:
    """A :class:`turnkeeper.ports.InjectionDetector`. The first 400,000 characters of a text are examined."""

    def check(self, text: str) -> Finding | None:
        if not text.strip():
            return None
        best = 0
        reasons: dict[str, int] = {}
        for name, weight in marks(text):
            best = max(best, weight)
            reasons[name] = weight
        plain = 0
        scan = Scan((), 0)
        for view in views(text):
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
    found = list(matcher.find(text, view.words, most=_MAX_HITS_PER_RULE, scan=scan))
    if not found or not view.holds():
        return 0, {}
    about = any(_ABOUT_IT.find(text, view.words, most=1))
    hits = sorted(
        _Hit(start, rules[group].topic, _weight(rules[group].weight, text, start, end, about))
        for group, start, end in found
    )
    best: tuple[int, dict[str, int]] = (0, {})
    for first, hit in enumerate(hits):
        topics: dict[str, int] = {}
        for other in hits[first : first + 40]:
            if other.start - hit.start > _NEAR_CHARS:
                break
            topics[other.topic] = max(other.weight, topics.get(other.topic, 0))
        score = _together(topics.values())
        if score > best[0]:
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
