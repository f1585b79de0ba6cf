"""Every rule of the injection check finds what it was written for, and its filter lets all of that through."""

from __future__ import annotations

import itertools
import re

import pytest

from tests.support.pattern_texts import all_found, texts_of
from turnkeeper.adapters.injection.matcher import Matcher, Pattern
from turnkeeper.adapters.injection.rules import ABOUT, RULES
from turnkeeper.adapters.injection.text import fold

PATTERNS = [pytest.param(pattern, id=f"{rule.topic} {n}") for rule in RULES for n, pattern in enumerate(rule.patterns)]
PATTERNS.append(pytest.param(ABOUT, id="about"))
#: What stands around a text, so that it lies at the edges of what is searched and away from them.
AROUND = (("", ""), ("x", "x"), (".\n \n", "\n\n."), (". é", " \n"), ("犬\n", "犬"))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_way_through_a_pattern_is_found_in_a_text_made_for_it(pattern: Pattern) -> None:
    matcher = Matcher([[pattern]])
    missed = [texts for texts in texts_of(pattern.source) if not any(all_found(matcher, fold(text)) for text in texts)]
    assert missed == []


@pytest.mark.parametrize("pattern", PATTERNS)
def test_in_texts_made_for_a_pattern_the_filter_finds_what_the_pattern_alone_does(pattern: Pattern) -> None:
    matcher, alone = Matcher([[pattern]]), re.compile(pattern.source, re.MULTILINE)
    for text in itertools.chain.from_iterable(texts_of(pattern.source)):
        for before, behind in AROUND:
            folded = fold(before + text + behind)
            assert all_found(matcher, folded) == [found.span() for found in alone.finditer(folded)]
