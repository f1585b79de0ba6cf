"""What is read of a Dockerfile, and that nothing of it is skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import clean_root
from tests.support.dockerfile import FLAGS, DockerfileError, Instruction, read, substitute
from tests.support.image_build import Builder
from tests.support.repository import REPOSITORY


def test_continued_lines_are_one_and_comments_are_none_also_in_between() -> None:
    text = "# first\nARG A=1\nRUN one \\\n    # why\n    && two\n\nCOPY --from=build /a /b\n"
    assert read(text) == [
        Instruction(2, "ARG", "A=1"),
        Instruction(3, "RUN", "one     && two"),
        Instruction(7, "COPY", "/a /b", {"from": "build"}),
    ]


def test_the_workers_own_has_nothing_that_is_not_known() -> None:
    instructions = read((REPOSITORY / "fargate_worker" / "Dockerfile").read_text())
    assert {instruction.name for instruction in instructions} <= FLAGS.keys()
    assert [instruction.name for instruction in instructions].count("FROM") == 2


@pytest.mark.parametrize(
    "text",
    [
        "VOLUME /data",
        "ADD https://example.com/a /a",
        'CMD ["python"]',
        "ONBUILD RUN true",
        "nonsense",
        "COPY --chown=1:1 a /a",
        "COPY --link a /a",
        "RUN --mount=type=secret,id=a true",
        "RUN <<EOF\ntrue\nEOF",
        "FROM --platform=linux/arm64 python:3.13",
        "# escape=`\nFROM python:3.13",
        "RUN true \\",
    ],
)
def test_what_is_not_known_is_refused_with_its_line(text: str) -> None:
    with pytest.raises(DockerfileError, match=r"^line \d"):
        read(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("RUN true", "only ARG may stand before the first FROM"),
        ("FROM alpine:3", "not an official Python image"),
        ("FROM ${OTHER}", "is not set"),
        ("FROM python:3.13\nCOPY --from=nobody /a /b", "no such stage"),
        ("FROM python:3.13\nCOPY missing /b", "is not in what is copied from"),
        ("FROM python:3.13\nCOPY ../secret /b", "a pattern that is not known"),
        ("FROM python:3.13\nENV A 1", "not NAME=VALUE"),
        ("FROM python:3.13\nUSER nobody", "not two numbers"),
        ("FROM python:3.13\nENTRYPOINT python -m x", "not in exec form"),
        ("FROM python:3.13\nHEALTHCHECK NONE", "not a CMD"),
        ("FROM python:3.13\nHEALTHCHECK CMD curl localhost", "not in exec form"),
        ("FROM python:3.13\nWORKDIR /app", "no stage with an ENTRYPOINT"),
    ],
)
def test_what_cannot_be_played_is_refused(tmp_path: Path, text: str, why: str) -> None:
    base = clean_root.Base(Path("/usr"), "3.13", tmp_path)
    with pytest.raises(DockerfileError, match=why):
        Builder(base, tmp_path, tmp_path, tmp_path / "build").build(text)


@pytest.mark.parametrize("text", ["$MISSING", "${A:-b}", "$", "a$-"])
def test_a_variable_that_is_not_set_or_of_another_form_is_refused(text: str) -> None:
    instruction = Instruction(1, "WORKDIR", text)
    assert substitute(instruction, "/$A/${A}b", {"A": "x"}) == "/x/xb"
    with pytest.raises(DockerfileError, match="not set"):
        substitute(instruction, text, {"A": "x"})
