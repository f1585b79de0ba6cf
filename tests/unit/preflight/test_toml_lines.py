"""Keys and tables of a TOML file are found on the lines on which they stand, however they are written."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnkeeper.preflight.toml_lines import TomlLines, syntax_error

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=8)
VALUES = st.sampled_from(
    ["1", '"a # b"', "'[x]'", '"""\nmany\n[not.a.table]\nkey = 1\n"""', "[\n  1, # one\n  2,\n]", "true"]
)
BETWEEN = st.sampled_from(["", "\n", "# a = 1\n", "  # [x]\n\n"])


def quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@given(st.dictionaries(NAMES, st.dictionaries(NAMES, st.tuples(BETWEEN, VALUES), max_size=4), max_size=4), BETWEEN)
def test_every_table_and_every_key_is_found(tables: dict[str, dict[str, tuple[str, str]]], between: str) -> None:
    text, lines = "", {}
    for table, keys in tables.items():
        text += between
        lines[(table,)] = text.count("\n") + 1
        text += f"[{quoted(table)}]\n"
        for key, (gap, value) in keys.items():
            text += gap
            lines[table, key] = text.count("\n") + 1
            text += f"{quoted(key)} = {value}\n"
    assert set(tomllib.loads(text)) == set(tables)
    found = TomlLines(text)
    assert {path: found.line(path) for path in lines} == lines
    for table in tables:
        assert found.line((table, "what is not there\n")) == lines[(table,)]


TEXT = """\
a.b = 1
[x."y.z"]
caps = {
  one = "1",
  two = { three = 3 } }

[[m.n]]
q = 1
[[m.n]]
q = 2
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("a", "b"), 1),
        (("x", "y.z", "caps"), 3),
        (("x", "y.z", "caps", "one"), 4),
        (("x", "y.z", "caps", "two", "three"), 5),
        (("x", "y.z", "other"), 2),
        (("m", "n", 0, "q"), 8),
        (("m", "n", 1, "q"), 10),
        (("nothing",), None),
        ((), None),
    ],
)
def test_dotted_keys_inline_tables_and_arrays_of_tables(path: tuple[Any, ...], line: int | None) -> None:
    try:
        tomllib.loads(TEXT)
        text = TEXT
    except tomllib.TOMLDecodeError:  # line breaks in inline tables came with TOML 1.1
        text = TEXT.replace("{\n  one", "{ one").replace(",\n  two", ", two")
        line = None if line is None else 3 if line in (4, 5) else line - 2 if line > 5 else line
    assert TomlLines(text).line(path) == line


@pytest.mark.parametrize(
    ("text", "line"), [("a = 1\nb = = 2\nc = 3\n", 2), ("a = 1\nb = [\n1,\n", 3), ("a = 1\nb = 2\nb = 3", 3)]
)
def test_the_line_of_a_syntax_error(text: str, line: int) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as refused:
        tomllib.loads(text)
    words, found = syntax_error(refused.value, text)
    assert found == line and words and "(at" not in words
    assert TomlLines(text).line(("a",)) == 1
