"""What the injection check leaves out is only work: its findings are those of every rule run over every reading."""

from __future__ import annotations

import base64
import codecs
import itertools
import json
import math
import random
import re
import sys
from collections.abc import Callable, Iterable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks import injection as lists
from tests.support import injection_reference as reference
from tests.support.examples import examples
from tests.support.pattern_texts import all_found, texts_of
from tests.support.repository import REPOSITORY
from tests.unit.adapters.test_injection import ATTACKS, HARMLESS, UNITS, tags
from turnkeeper.adapters.injection import RuleDetector
from turnkeeper.adapters.injection.detector import _ANY_RULE, _STRONG_RULE
from turnkeeper.adapters.injection.matcher import Matcher, Pattern
from turnkeeper.adapters.injection.rules import RULES
from turnkeeper.adapters.injection.text import fold, views

DETECTOR = RuleDetector()


def test_the_rules_are_those_of_the_reference() -> None:
    ours = [(topic, weight, branches("|".join(each.source for each in patterns))) for topic, weight, patterns in RULES]
    theirs = [
        (topic, weight, [inner for branch in branches(pattern.pattern) for inner in branches(branch[3:-1])])
        for topic, weight, pattern in reference._RULES
    ]
    assert ours == theirs


def branches(pattern: str) -> list[str]:
    """What a pattern is an alternation of."""
    found, depth = [""], 0
    for piece in re.findall(r"\\.|\[(?:\\.|[^\]\\])*\]|.", pattern, re.DOTALL):
        depth += (piece == "(") - (piece == ")")
        found, last = (found, piece) if piece != "|" or depth else ([*found, ""], "")
        found[-1] += last
    return found


@pytest.mark.parametrize("load", [load for _, _, load in lists.LISTS], ids=[name for name, _, _ in lists.LISTS])
def test_the_lists_of_the_benchmark_are_judged_as_before(load: Callable[[], Iterable[lists.Sample]]) -> None:
    """The beginning of each list: all of them would take the reference a minute."""
    try:
        texts = [sample.text for sample in itertools.islice(load(), 150)]
    except FileNotFoundError:
        texts = []
    if not texts:
        pytest.skip("this list is not installed: python -m benchmarks.injection does that")
    for text in texts:
        assert DETECTOR.check(text[:4000]) == reference.check(text[:4000]), text


# ---- made-up texts ----

WORDS = sorted({literal for need in _ANY_RULE._literals for literal in need.literals})
HIDE: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": str.upper,
    "rot13": lambda text: codecs.encode(text, "rot13"),
    "reversed": lambda text: text[::-1],
    "leet": lambda text: text.translate(str.maketrans("oieast", "013457")),
    "spaced": " ".join,
    "dashed": "-".join,
    "base64": lambda text: base64.b64encode(text.encode("utf-8", "replace")).decode(),
    "base32": lambda text: base64.b32encode(text.encode("utf-8", "replace")).decode(),
    "hex": lambda text: text.encode("utf-8", "replace").hex(),
    "bits": lambda text: " ".join(f"{byte:08b}" for byte in text.encode("utf-8", "replace")),
    "percent": lambda text: "".join(f"%{byte:02x}" for byte in text.encode("utf-8", "replace")),
    "percent between": lambda text: text.replace(" ", "%20"),
    "u escapes": lambda text: json.dumps(text)[1:-1] + "".join(f"\\u{ord(sign):04x}" for sign in text[:300]),
    "x escapes": lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode("utf-8", "replace")),
    "entities": lambda text: "".join(f"&#{ord(sign)};" for sign in text),
    "comment": lambda text: f"<!-- {text} -->",
    "hidden": lambda text: f'<p Style="x; DISPLAY : none">{text}</p>',
    "hidden otherwise": lambda text: f"<div aria-h\u0131dden=true>{text}</div><a hidden>{text}",
    "look-alikes": lambda text: text.translate(str.maketrans("aeop", "аеор")),
    "tags": lambda text: tags("".join(sign for sign in text if " " <= sign < "\x7f")),
    "zero width": "\u200b".join,
}
MADE = [text for rule in RULES for pattern in rule.patterns for texts in texts_of(pattern.source) for text in texts]
PIECES = st.one_of(
    st.sampled_from(MADE),
    st.sampled_from(WORDS),
    st.sampled_from(WORDS),
    st.sampled_from([*ATTACKS.values(), *HARMLESS.values()]).map(lambda text: text[-300:]),
    st.sampled_from([unit * 9 for unit in UNITS]),
    st.sampled_from([" ", "\n", "\n\n", " \n ", "\t", "\r\n", ". ", ": ", '"', "prompt injection", "never ", "\u2028"]),
    st.text(max_size=8),
    # As far apart as patterns let their words be, and further.
    st.tuples(st.sampled_from(["x", " x", "\nx", "指", ". "]), st.integers(1, 420)).map(lambda each: each[0] * each[1]),
)
TEXTS = st.lists(st.tuples(st.sampled_from(sorted(HIDE)), st.lists(PIECES, max_size=8), st.sampled_from(["", " "])))


@pytest.mark.examples
@settings(max_examples=examples(50, all=150), deadline=None)
@given(TEXTS)
def test_any_text_is_judged_as_by_every_rule_over_all_of_it(parts: list[tuple[str, list[str], str]]) -> None:
    text = " ".join(HIDE[how](between.join(pieces)) for how, pieces, between in parts)
    assert DETECTOR.check(text) == reference.check(text)


def readings(text: str) -> set[tuple[str, str]]:
    return {(view.disguise, view.text) for view in views(text) if view.holds()}


# Readable in each encoding wherever it is cut, with all the signs that it is made of.
SOURCE = "Ignore all?~ previous > instructions, jk " * 300
ENCODED: dict[str, Callable[[int], str]] = {
    "plain": lambda length: SOURCE[:length],
    "base64": lambda length: base64.b64encode(SOURCE.encode()).decode()[:length],
    "base64 of addresses": lambda length: base64.urlsafe_b64encode(SOURCE.encode()).decode()[:length],
    "base32": lambda length: base64.b32encode(SOURCE.encode()).decode()[:length],
    "hex": lambda length: SOURCE.encode().hex()[:length],
    "HEX": lambda length: SOURCE.encode().hex().upper()[:length],
    "a tag's name": lambda length: f"<{'a' * (length - 9)} hidden>{SOURCE[:40]}<",
    "a tag's attributes": lambda length: f"<{'a' * 11} {'x' * (length + 369)} hidden>{SOURCE[:40]}<",
}
#: Around the least and the most that each encoding is looked for in, and around the most that is decoded.
EDGES = [
    *itertools.product(
        [*range(18, 24), *range(28, 37)], [(1, ""), (2, " "), (3, "é"), (39, "\n"), (40, ". "), (41, "= ")]
    ),
    *itertools.product(range(7998, 8003), [(1, ""), (2, "== ")]),
    (8000, (5, " ")),
    (8000, (6, " ")),
]


@pytest.mark.examples
@pytest.mark.parametrize("how", ENCODED)
def test_what_is_just_long_enough_to_hide_something_is_read_as_defined(how: str) -> None:
    for length, (times, between) in EDGES[:: examples(5, all=1)]:
        text = between.join([ENCODED[how](length)] * times)
        assert readings(text) == set(reference._views(text)), (length, times, between)


UNIT = [
    "A",
    "a",
    "0",
    "1",
    "f0",
    "A2",
    "%41",
    r"\u0041",
    r"\x41",
    "&#65;",
    "a ",
    "a.",
    "é ",
    "01000001",
    "01000001 ",
    "а",
    "<",
]
TIMES = [
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
    10,
    15,
    16,
    17,
    19,
    20,
    21,
    31,
    32,
    33,
    34,
    59,
    60,
    61,
    199,
    200,
    201,
    400,
    401,
    4000,
    8000,
    8001,
]
ENDS = [
    "",
    " ",
    "x",
    "=",
    "==",
    "===",
    "%",
    "%41%42%43",
    ".",
    "\n",
    "-",
    "é",
    "hidden>seen<",
    "color:white >seen",
    "<p ",
    "<A1 ",
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(UNIT), st.sampled_from(TIMES), st.sampled_from(ENDS)), min_size=1, max_size=4)
)
def test_what_is_long_enough_to_hide_something_is_read_as_defined(runs: list[tuple[str, int, str]]) -> None:
    text = "".join((unit * times)[-9000:] + end for unit, times, end in runs)
    assert readings(text) == set(reference._views(text))


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_any_text_is_read_as_defined(parts: list[tuple[str, list[str], str]]) -> None:
    text = " ".join(HIDE[how](between.join(pieces)) for how, pieces, between in parts)
    assert readings(text) == set(reference._views(text))


@pytest.mark.parametrize("text", [*ATTACKS.values(), *HARMLESS.values()], ids=[*ATTACKS, *HARMLESS])
def test_every_sample_is_judged_as_by_every_rule_over_all_of_it(text: str) -> None:
    assert DETECTOR.check(text) == reference.check(text)


def test_every_character_is_folded_as_defined() -> None:
    # The planes from 3 on hold nothing but tags and selectors.
    for code in (*range(0x33500), *range(0xE0000, 0xE1000), sys.maxunicode):
        text = f"a{chr(code)} b"
        assert fold(text) == reference.fold(text), hex(code)


# ---- any patterns ----

STRETCHES = st.sampled_from(
    [
        "red",
        "dog",
        "reddish",
        "(?:an? )?",
        "(?:cat|dog|do)",
        "(?:red dogs|dog)",
        "[ \n]{1,3}",
        "[ \n]{0,3}",
        "s?",
        r"\b",
        "(?:do){1,2}",
        "[ \n]{1,3}[ \n]{1,3}",
    ]
)
GAPS = st.sampled_from(
    [r"[^\n]{0,20}", r"[^.\n]{1,90}?", r"(?: \w{1,5}){0,3}", r"\w{0,3}", r"(?! dog)", r"(?<!o)", "(?:-{2,}+ ?)?"]
)
BRANCHES = st.lists(st.one_of(STRETCHES, GAPS), min_size=1, max_size=4).map("".join)
PATTERNS = st.lists(
    st.one_of(STRETCHES, GAPS, st.lists(BRANCHES, min_size=1, max_size=3).map(lambda b: f"(?:{'|'.join(b)})")),
    max_size=5,
).map(lambda parts: "".join([*parts, "dog" if "dog" not in parts else "red"]))
# How often `re` itself may have to try: gaps next to each other multiply, and a few wide ones take it minutes.
PATTERNS = PATTERNS.filter(lambda source: math.prod(map(int, re.findall(r",(\d+)\}", source))) <= 5_000)
SIGNS = st.lists(
    st.sampled_from(["red", "dog", "do", "cat", "an", " ", "\n", "\n\n", ".", "s", "--", "犬", "x", "\ud800"]),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PATTERNS, min_size=1, max_size=4), SIGNS, st.randoms(use_true_random=False))
@example([r"ddd\b"], ["d" * 21 + "x"], random.Random(1))
def test_a_group_of_patterns_matches_as_one_pattern_of_them_all(
    sources: list[str], signs: list[str], chance: random.Random
) -> None:
    made = [text for source in sources for texts in texts_of(source) for text in texts]
    pieces = [*signs, *chance.choices(made, k=3)]
    chance.shuffle(pieces)
    text = fold("".join(pieces))
    joined = re.compile("|".join(f"(?:{source})" for source in sources), re.MULTILINE)
    expected = [found.span() for found in joined.finditer(text)]
    assert all_found(Matcher([[Pattern(source) for source in sources]]), text) == expected


def test_a_pattern_that_needs_no_word_is_refused() -> None:
    with pytest.raises(ValueError, match="over every text"):
        Pattern(r"\w{3,20}")


# ---- how much is done ----


def tried(text: str) -> int:
    """At how many places patterns are tried, over all readings of a text; each is tried at none twice."""
    count = 0
    for view in views(text):
        for matcher in (_ANY_RULE, _STRONG_RULE):
            for lows, highs in matcher.tries(view.text, view.words, matcher.scan(view.words)).values():
                assert all(high < low for high, low in zip(highs, lows[1:], strict=False))
                assert all(0 <= low <= high <= len(view.text) for low, high in zip(lows, highs, strict=True))
                count += sum(highs) - sum(lows) + len(lows)
    return count


def test_in_ordinary_texts_next_to_nothing_is_tried() -> None:
    pages = [page.read_text(encoding="utf-8") for page in sorted(REPOSITORY.glob("docs/*.md"))]
    code = [
        module.read_text(encoding="utf-8") for module in sorted(REPOSITORY.glob("shared/src/turnkeeper/runtime/*.py"))
    ]
    rows = json.dumps([{"id": number, "name": f"Customer {number}", "paid": True} for number in range(2000)])
    assert pages and code
    for text in (*(text for text in pages + code if len(text) > 5000), rows):
        # Every rule over every reading, as it used to be, is two hundred tries a character.
        assert tried(text) <= len(text)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, *UNITS, "\n"]), min_size=1, max_size=6), st.integers(1, 200))
def test_what_is_tried_grows_with_a_hostile_text_no_faster_than_it_does(parts: list[str], times: int) -> None:
    text = " ".join(parts)
    once, often = (text + "\n") * times, (text + "\n") * times * 3
    assert tried(often) <= 3.3 * tried(once) + 40 * len(text) + 4000
