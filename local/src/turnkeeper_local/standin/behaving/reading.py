"""What stands in a question: its words, and what looks like an identifier, a number, a quotation or a name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

_WORD = re.compile(r"[^\W\d_]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
#: Words that say nothing of what a question is about.
_EMPTY = frozenset(
    """
    a about all also am an and any are as at be been but by can could did do does for from get give go had has have he
    her here him his how i if in into is it its just let like look make many may me more most much must my need no not
    now of off on one only or other our out over please she should so some tell than thank that the their them then
    there they this those to too up us use very want was we were what when where which while who whom whose why will
    with would yes you your
    """.split()  # noqa: SIM905 - a list of words reads best as words
)
_ENDINGS = ("ings", "ing", "ies", "ied", "ers", "es", "ed", "er", "s", "y", "e")
_TOKEN = re.compile(r"[\w@+-](?:[\w.:/@+%-]*[\w/@%+-])?")
_QUOTED = re.compile(
    r"\"([^\"\n]{1,300})\"|“([^”\n]{1,300})”|‘([^’\n]{1,300})’|(?<!\w)'([^'\n]{1,300})'(?!\w)|`([^`\n]{1,300})`"
)
_NUMBER = re.compile(r"(?<![\w.-])-?\d{1,15}(?:\.\d{1,10})?(?![\w-]|\.\d)")
_NAMES = re.compile(r"(?<=[^.!?:\s] )[A-Z][\w'-]*(?: [A-Z][\w'-]*)*")
#: Characters of results that are looked through.
_MOST_RESULTS = 20_000
_RUN = re.compile(r"[A-Za-z]+|\d+|.", re.DOTALL)


def stem(word: str) -> str:
    """The word without what a plural or a tense puts at its end, so that `invoices` is `invoice`."""
    word = word.lower()
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word


def stems(text: str) -> frozenset[str]:
    """Stems of the words that say something; `get_invoice` and `getInvoice` hold the same."""
    words = _WORD.findall(_CAMEL.sub(" ", text))
    return frozenset(stem(word) for word in words if word.lower() not in _EMPTY)


def shape_of(sample: str) -> re.Pattern[str] | None:
    """What is like this sample: `INV-1001` is INV- and a number. None for a plain word, which any word is like."""
    if not re.search(r"[\d@/]", sample):
        return None
    literal = any(char.isdigit() for char in sample)
    parts = []
    for run in _RUN.findall(sample):
        if run.isdigit() and run.isascii():
            parts.append(r"\d+")
        elif run.isascii() and run.isalpha():
            parts.append(re.escape(run) if literal else "[A-Za-z]+")
        else:
            parts.append(re.escape(run))
    return re.compile("".join(parts), re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """A user's text, and the results of tools that came since, which may hold what the next tool needs."""

    text: str
    results: str = ""

    @cached_property
    def stems(self) -> frozenset[str]:
        return stems(self.text)

    @cached_property
    def quoted(self) -> list[str]:
        return [next(filter(None, match)) for match in _QUOTED.findall(self.text)]

    @cached_property
    def numbers(self) -> list[str]:
        return _NUMBER.findall(self.text)

    @cached_property
    def names(self) -> list[str]:
        """Capitalised words within a sentence, such as `Zurich`."""
        return [name for name in _NAMES.findall(self.text) if name != "I"]

    @cached_property
    def _own(self) -> list[str]:
        return _TOKEN.findall(self.text)

    @cached_property
    def _found(self) -> list[str]:
        return _TOKEN.findall(self.results[:_MOST_RESULTS])

    def holds(self, token: str) -> bool:
        """Whether it stands in the question itself."""
        return token in self._own

    def like(self, shape: re.Pattern[str]) -> Iterator[str]:
        """Tokens of this shape, those of the question first."""
        yield from (token for token in (*self._own, *self._found) if shape.fullmatch(token))
