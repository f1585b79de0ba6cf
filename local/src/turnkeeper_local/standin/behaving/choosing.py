"""Which tools fit a question, the best first.

A tool fits by the words that it shares with the question, and more so where the question holds what its arguments are
made of. One that changes something is left alone unless it is asked for by name: the stand-in is not told whether a
call may be made twice, and good behaviour means that nobody's refund is issued by a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from turnkeeper_local.standin.behaving.reading import Question, stem, stems
from turnkeeper_local.standin.behaving.values import Arguments, arguments_for

END_TASK = "end_task"

#: Points from which on a tool fits at all, and from which on it is worth a second call.
_FITS, _FITS_WELL = 2, 4
_NAME, _WORD, _DRAWN, _MADE_UP = 3, 1, 4, -2
#: Words of a question from which on the only tool that there is fits it.
_A_TASK = 2
_DEEDS = """
    add apply approve archive assign block book buy cancel charge close commit create delete deploy disable drop edit
    enable erase execute grant insert install invite issue kill merge modify move order pay post publish push put reboot
    refund remove rename replace reset restart restore revoke run schedule send set shell ship start stop submit
    terminate transfer trigger update upload write
"""
_CHANGING = frozenset(map(stem, _DEEDS.split()))
_FINAL = re.compile(r"\b(?:cannot|can't|can not) be (?:undone|reversed)\b|\birreversibl[ey]\b", re.IGNORECASE)
_NAME_WORD = re.compile(r"[A-Za-z]+")


@dataclass(frozen=True, slots=True)
class Candidate:
    name: str
    arguments: Arguments
    points: int

    @property
    def fits_well(self) -> bool:
        return self.points >= _FITS_WELL


def usable(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The request's tools that its sender runs, save ``end_task``. Those of the API's own run elsewhere."""
    tools: Sequence[Mapping[str, Any]] = request.get("tools") or ()
    return [tool for tool in tools if "input_schema" in tool and tool["name"] != END_TASK]


def fitting(tools: Sequence[Mapping[str, Any]], question: Question) -> list[Candidate]:
    """Those that fit, the best first; of two alike, the one that stands first."""
    harmless = [tool for tool in tools if is_asked_for(tool, question) or not changes_something(tool)]
    found = [made for tool in harmless if (made := _candidate(tool, question)) is not None]
    good = sorted((one for one in found if one.points >= _FITS), key=lambda one: -one.points)
    if not good and len(found) == 1 and len(question.stems) >= _A_TASK:
        return found
    return good


def changes_something(tool: Mapping[str, Any]) -> bool:
    """Whether its name begins with a deed, or its description says that it is for good."""
    words = [stem(word) for word in _NAME_WORD.findall(_spaced(str(tool["name"])))]
    return bool(words and words[0] in _CHANGING) or bool(_FINAL.search(str(tool.get("description") or "")))


def is_asked_for(tool: Mapping[str, Any], question: Question) -> bool:
    """Whether every word of its name stands in the question."""
    words = {stem(word) for word in _NAME_WORD.findall(_spaced(str(tool["name"])))}
    said = {stem(word) for word in _NAME_WORD.findall(_spaced(question.text))}
    return bool(words) and words <= said


def _spaced(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def _candidate(tool: Mapping[str, Any], question: Question) -> Candidate | None:
    made = arguments_for(tool, question)
    if made is None:
        return None
    schema = tool["input_schema"]
    named = stems(str(tool["name"]))
    described = stems(" ".join([str(tool.get("description") or ""), *(schema.get("properties") or {})])) - named
    points = (
        _NAME * len(named & question.stems)
        + _WORD * min(len(described & question.stems), 5)
        + _DRAWN * min(made.drawn, 2)
        + _MADE_UP * made.made_up
        + _NAME * is_asked_for(tool, question)
    )
    return Candidate(str(tool["name"]), made, points)
