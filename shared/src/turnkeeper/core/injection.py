"""Does a tool result read like instructions to a model? A flag for people and policies, never the defence itself.

The defence is that a session holds few tools, that each is guarded, and that results are wrapped as data. This check
makes attempts visible and can hold back writes that follow one. It reads surface language in a dozen languages, sees
through the common disguises, and misses what is put politely and without any of the usual words; ``docs/security.md``
has the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from turnkeeper.core.injection_rules import ABOUT, NEGATED, REPORTED, RULES, Rule
from turnkeeper.core.injection_text import View, marks, views
from turnkeeper.core.tools import Effect

#: A text scores from 0 to 1000; from here on it is flagged.
FLAG_AT: Final = 500
#: Signals count together only this near to each other: a long document holds a little of everything.
_NEAR_CHARS: Final = 800
_MAX_HITS_PER_RULE: Final = 50
_MAX_REASONS: Final = 8
_HIDING_BONUS: Final = 250
_QUOTES: Final = frozenset("\"'`“”„‟‘’‚«»‹›「」『』《》")
#: Read out of every text, so a chance match there is far likelier than a disguise.
_SPECULATIVE: Final = frozenset({"rot13", "reversed", "digits for letters"})
_STRONG: Final = tuple(rule for rule in RULES if rule.topic in {"override", "prompt leak"} and rule.weight >= FLAG_AT)


class Finding(BaseModel):
    """Why a text, or a sequence of calls, is suspicious."""

    model_config = ConfigDict(frozen=True)

    score: int = Field(ge=0, le=1000)
    #: Topics and disguises, strongest first. Never words of the text itself: reasons go to logs and to the console.
    reasons: tuple[str, ...]


class NextCall(NamedTuple):
    """A call that the model asks for, as the sequence check needs it."""

    tool: str
    effect: Effect


class _Hit(NamedTuple):
    start: int
    topic: str
    weight: int


def check_injection(text: str) -> Finding | None:
    """A finding if the text reads like instructions to a model, else None.

    The first 400,000 characters are examined: check what is shown to the model, after it was limited. Pure and
    deterministic: the same text always gives the same finding.
    """
    if not text.strip():
        return None
    best = 0
    reasons: dict[str, int] = {}
    for name, weight in marks(text):
        best = max(best, weight)
        reasons[name] = weight
    plain = 0
    for view in views(text):
        score, topics = _score(view)
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
    return Finding(score=min(1000, best), reasons=tuple(strongest[:_MAX_REASONS]))


def suspicious_sequence(flagged: Iterable[Finding | None], next_calls: Iterable[NextCall]) -> Finding | None:
    """A finding if calls that change something follow results that were flagged.

    ``flagged`` holds the findings of the results that the model has seen since the last user message; ``next_calls``
    what it asks for now. Reading on is not suspicious; writing is, and the more so where it cannot be taken back.
    """
    worst = max((finding.score for finding in flagged if finding), default=0)
    if worst == 0:
        return None
    writes = sorted({call for call in next_calls if call.effect != "read"})
    if not writes:
        return None
    final = any(call.effect == "once" for call in writes)
    reasons = tuple(f"{call.effect} tool {call.tool} after a flagged result" for call in writes[:_MAX_REASONS])
    return Finding(score=min(1000, worst + (250 if final else 100)), reasons=reasons)


def _score(view: View) -> tuple[int, dict[str, int]]:
    """The best neighbourhood's score, and its topics with their weights."""
    # A whole text read backwards or letter-shifted is nearly always noise: only the plainest signs count there.
    rules = _STRONG if view.disguise in _SPECULATIVE else RULES
    hits = sorted(_hits(view.text, rules))
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


def _hits(text: str, rules: Iterable[Rule]) -> list[_Hit]:
    about = ABOUT.search(text) is not None
    hits: list[_Hit] = []
    for rule in rules:
        for number, found in enumerate(rule.pattern.finditer(text)):
            if number >= _MAX_HITS_PER_RULE:
                break
            weight = _weight(rule.weight, text, found.start(), found.end(), about)
            hits.append(_Hit(found.start(), rule.topic, weight))
    return hits


def _weight(weight: int, text: str, start: int, end: int, about: bool) -> int:
    before = text[max(0, start - 24) : start]
    if NEGATED.search(before):
        return weight * 3 // 10
    quoted = _quoted(text, start, end)
    if about and (quoted or REPORTED.search(before)):
        return weight * 3 // 10
    return weight


def _quoted(text: str, start: int, end: int) -> bool:
    """Whether the phrase stands between quotation marks of its own line."""
    line_start = max(text.rfind("\n", 0, start) + 1, start - 80)
    line_end = text.find("\n", end, end + 160)
    left = text[line_start:start]
    right = text[end : line_end if line_end >= 0 else end + 160]
    return any(sign in _QUOTES for sign in left) and any(sign in _QUOTES for sign in right)
