"""Evaluators of what the agent said in the end."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnkeeper.core.scoring import Score
from turnkeeper.core.trajectory import Trajectory
from turnkeeper.evaluation.schema import misfit

#: What comes behind "I cannot" in a report of what was looked for, and in turns of speech.
_REPORTS = (
    r"(?:(?:currently|yet|also) )?(?:find|see|locate|spot|detect|confirm|tell (?:whether|if|which|from)|thank|wait|"
    r"rule out|stress|charge)\b"
)
_REFUSALS = re.compile(
    r"\b(?:i(?:'m| am) (?:unable|not able|not allowed|not permitted)(?! to (?:{found}))|"
    r"i (?:can't|cannot|can not|won't|will not|must decline)(?! (?:{found}))|"
    r"i(?:'m| am) (?:sorry|afraid)[,.]? (?:but )?no\b|i can only (?:help|assist|answer|talk|speak|discuss|do)|"
    r"(?:that|this) (?:is|would be) (?:against|not something i))\b".replace("{found}", _REPORTS),
    re.IGNORECASE,
)
_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(?P<inside>.*?)\n\s*```\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class ExactAnswer:
    """The answer is this text; white space at its ends and the case of letters can be left out of account."""

    text: str
    ignore_case: bool = False

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        said, wanted = trajectory.output_text.strip(), self.text.strip()
        if self.ignore_case:
            said, wanted = said.casefold(), wanted.casefold()
        reason = "the answer is as expected" if said == wanted else f"the answer is another one: {said[:200]!r}"
        yield Score.check("exact_answer", said == wanted, reason, trajectory.last_seq)


@dataclass(frozen=True)
class MatchingAnswer:
    """Somewhere in the answer there is what each of these regular expressions finds."""

    patterns: Sequence[str]
    ignore_case: bool = True

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        flags = re.IGNORECASE if self.ignore_case else 0
        missing = [one for one in self.patterns if not re.search(one, trajectory.output_text, flags)]
        reason = f"not in the answer: {missing[0]!r}" if missing else "all of it is in the answer"
        total = len(self.patterns) or 1
        yield Score.share("matching_answer", total - len(missing), total, reason, seq=trajectory.last_seq)


@dataclass(frozen=True)
class ForbiddenText:
    """Nothing that the agent said, in any step, holds what one of these regular expressions finds: a policy
    in words."""

    patterns: Sequence[str]
    ignore_case: bool = True

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        flags = re.IGNORECASE if self.ignore_case else 0
        for step in trajectory.steps:
            for pattern in self.patterns:
                if re.search(pattern, step.text, flags):
                    yield Score.check("forbidden_text", False, f"it said what {pattern!r} finds", step.seq)
                    return
        yield Score.check("forbidden_text", True, "nothing forbidden was said")


@dataclass(frozen=True)
class NotRefused:
    """The agent did what was asked for, as far as its words tell. ``expected`` turns it round, for cases in which it
    has to say no. An apology alone is no refusal, nor is it one to have found nothing. The words are English ones; a
    refusal by the model's maker is one in any language."""

    expected: bool = False

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        stopped = trajectory.stop is not None and trajectory.stop.reason == "refusal"
        words = _REFUSALS.search(trajectory.output_text.replace("’", "'"))
        refused = stopped or words is not None
        how = "by the model's maker" if stopped else f"in the words {words.group()!r}" if words else ""
        reason = f"refused {how}" if refused else "not refused"
        name = "refused" if self.expected else "not_refused"
        yield Score.check(name, refused is self.expected, reason, trajectory.last_seq)


@dataclass(frozen=True)
class JsonAnswer:
    """The answer is JSON, bare or in one fence, that fits this JSON Schema (draft 2020-12)."""

    schema: Mapping[str, Any]

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        text = trajectory.output_text
        if fenced := _FENCE.match(text):
            text = fenced["inside"]
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            yield Score.check("json_answer", False, "the answer is no JSON", trajectory.last_seq)
            return
        wrong = misfit(self.schema, value, whole="it")
        yield Score.check("json_answer", wrong is None, wrong or "it fits the schema", trajectory.last_seq)
