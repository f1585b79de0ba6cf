"""The script language inside a user's text. Pure: text in, ``Script`` out.

An answer is ``[[say TEXT]]``, ``[[tool NAME {json}]]`` or ``[[tool A {...} & tool B {...}]]``. Modifiers stand
before the answer that they act on::

    [[sleep SECONDS]]    wait before the first byte          [[tokens OUT]]   output tokens to report
    [[trickle SECONDS]]  spread the stream over so long      [[stop REASON]]  stop_reason to report
    [[fail 529]]         one HTTP error of that status       [[cut]]          break the stream once
    [[fail 529 x3]]      three of them                       [[repeat N]]     play the next answer N times

Promises, where the language leaves room:

- Text outside of directives is ignored, and so is ``[[anything else]]``; only a near miss such as
  ``[[sleeep 1]]`` in a text that does hold directives is an error, because it is a typing mistake.
- Tool arguments are read by a JSON parser, so ``]]``, ``&`` and braces inside strings are just text. They may be
  left out: ``[[tool now]]`` is ``[[tool now {}]]``.
- ``[[say]]`` ends at the first ``]]``, or at the last two of a longer row (``[[say a[0]]]`` says ``a[0]``); a TEXT
  that is one JSON value ends where that ends. White space around TEXT is dropped.
- Failures and cuts happen in the order written. Several sleeps or trickles add up, several repeats multiply, the
  last ``tokens`` or ``stop`` wins. ``[[repeat]]`` may stand anywhere among the modifiers.
- Modifiers without an answer after them act on the closing ``done``.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

DONE_TEXT = "done"


class DirectiveError(ValueError):
    """A directive that cannot be read. The message quotes it and says what was expected."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """``times`` HTTP errors, one for each request that is made while they last."""

    status: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Cut:
    """One stream that breaks in the middle."""

    times: int = 1


Fault = Failure | Cut


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """One answer of the model: a text or tool calls, never both."""

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    sleep_seconds: float = 0.0
    trickle_seconds: float = 0.0
    faults: tuple[Fault, ...] = ()
    output_tokens: int | None = None
    stop_reason: str | None = None

    @property
    def block_count(self) -> int:
        """Content blocks that this answer is made of, thinking aside."""
        return len(self.calls) if self.calls else int(bool(self.text))


DONE = ScriptedAnswer(text=DONE_TEXT)


@dataclass(frozen=True, slots=True)
class Step:
    """An answer played ``times`` times in a row; kept folded so that a large N costs nothing."""

    answer: ScriptedAnswer
    times: int = 1


@dataclass(frozen=True, slots=True)
class Script:
    steps: tuple[Step, ...]

    def answer_at(self, position: int) -> ScriptedAnswer:
        """The answer after ``position`` answers have been played; ``done`` once it is played out."""
        for step in self.steps:
            if position < step.times:
                return step.answer
            position -= step.times
        return DONE


def parse(text: str) -> Script | None:
    """Read the script in ``text``; None where it holds no directive.

    Raises:
        DirectiveError: a directive is malformed.
    """
    reader = _Reader(text)
    reader.read()
    return reader.script()


_OPEN = re.compile(r"\[\[\s*([A-Za-z]+)(?=\s|\])")
_ARGUMENT = re.compile(r"([^\[\]]*)\]\]")
_SAY_END = re.compile(r"\]{2,}")
_JSON_BEGIN = re.compile(r"\s*[\[{]")
_JSON_END = re.compile(r"\s*\]\](?!\])")
_TOOL_NAME = re.compile(r"\s*([A-Za-z0-9_-]{1,128})(?![^\s{&\]])\s*")
_TOOL_NEXT = re.compile(r"\s*(?:(\]\])|&\s*tool(?=\s))")
_SECONDS = re.compile(r"\d{1,6}(?:\.\d{1,9})?|\.\d{1,9}")
_COUNT = re.compile(r"\d{1,9}")
_FAIL = re.compile(r"([45]\d\d)(?:\s+x\s*(\d{1,9}))?")
_REASON = re.compile(r"[A-Za-z0-9_-]{1,64}")

_FORMS = {
    "say": "[[say TEXT]]",
    "tool": "[[tool NAME {json args}]]",
    "sleep": "[[sleep SECONDS]]",
    "trickle": "[[trickle SECONDS]]",
    "fail": "[[fail STATUS]] or [[fail STATUS xTIMES]], with a status from 400 to 599",
    "cut": "[[cut]]",
    "tokens": "[[tokens OUT]]",
    "stop": "[[stop REASON]]",
    "repeat": "[[repeat N]], with N of 1 or more",
}


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Not strict: a line break typed into a string is what a person at a console does.
_JSON = json.JSONDecoder(strict=False, parse_constant=_refuse_constant)


@dataclass(slots=True)
class _Reader:
    text: str
    steps: list[Step] = field(default_factory=list)
    pending: ScriptedAnswer = field(default_factory=ScriptedAnswer)
    repeat: int = 1
    found: bool = False
    modified: bool = False
    near_misses: list[tuple[int, str]] = field(default_factory=list)

    def read(self) -> None:
        position = 0
        while opening := _OPEN.search(self.text, position):
            name = opening[1]
            if name in _FORMS:
                self.found = True
                position = self._directive(name, opening.start(), opening.end())
            else:
                if close := difflib.get_close_matches(name.lower(), _FORMS, n=1, cutoff=0.8):
                    self.near_misses.append((opening.start(), close[0]))
                position = opening.end()

    def script(self) -> Script | None:
        if not self.found:
            return None
        if self.near_misses:
            start, meant = self.near_misses[0]
            self._refuse(start, f"unknown directive; did you mean {_FORMS[meant]}?")
        if self.modified:
            self._play(DONE_TEXT, ())
        return Script(tuple(self.steps))

    def _directive(self, name: str, start: int, position: int) -> int:
        """Take in the directive whose name ends at ``position``; returns where the directive ends."""
        if name == "say":
            text, position = self._say(start, position)
            self._play(text, ())
            return position
        if name == "tool":
            calls, position = self._tools(start, position)
            self._play("", calls)
            return position
        match = _ARGUMENT.match(self.text, position)
        if match is None:
            self._refuse(start, f"expected {_FORMS[name]}")
        self._modify(name, match[1].strip(), start)
        return match.end()

    def _play(self, text: str, calls: tuple[ToolCall, ...]) -> None:
        self.steps.append(Step(replace(self.pending, text=text, calls=calls), self.repeat))
        self.pending, self.repeat, self.modified = ScriptedAnswer(), 1, False

    def _say(self, start: int, position: int) -> tuple[str, int]:
        if value := _JSON_BEGIN.match(self.text, position):
            begin = value.end() - 1
            try:
                _, end = _JSON.raw_decode(self.text, begin)
            except (ValueError, RecursionError):
                pass  # a text that only looks like JSON is still a text
            else:
                if close := _JSON_END.match(self.text, end):
                    return self.text[begin:end], close.end()
        closing = _SAY_END.search(self.text, position)
        if closing is None:
            self._refuse(start, f"never closed; expected {_FORMS['say']}")
        return self.text[position : closing.end() - 2].strip(), closing.end()

    def _tools(self, start: int, position: int) -> tuple[tuple[ToolCall, ...], int]:
        calls: list[ToolCall] = []
        while True:
            name = _TOOL_NAME.match(self.text, position)
            if name is None:
                self._refuse(start, f"expected a tool name: {_FORMS['tool']}")
            position = name.end()
            arguments: dict[str, Any] = {}
            if self.text[position : position + 1] == "{":
                arguments, position = self._arguments(start, position)
            calls.append(ToolCall(name[1], arguments))
            following = _TOOL_NEXT.match(self.text, position)
            if following is None:
                self._refuse(start, f"expected ']]' or '& tool NAME {{...}}' after the call of {name[1]}")
            position = following.end()
            if following[1]:
                return tuple(calls), position

    def _arguments(self, start: int, position: int) -> tuple[dict[str, Any], int]:
        try:
            value, end = _JSON.raw_decode(self.text, position)
            json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate cannot go out as UTF-8
        except UnicodeEncodeError:
            self._refuse(start, "the tool arguments hold half of a surrogate pair")
        except (ValueError, RecursionError) as error:
            self._refuse(start, f"the tool arguments are not a JSON object: {error}")
        return value, end

    def _modify(self, name: str, argument: str, start: int) -> None:
        pending = self.pending
        self.modified = True
        if name in ("sleep", "trickle") and _SECONDS.fullmatch(argument):
            if name == "sleep":
                self.pending = replace(pending, sleep_seconds=pending.sleep_seconds + float(argument))
            else:
                self.pending = replace(pending, trickle_seconds=pending.trickle_seconds + float(argument))
        elif name == "fail" and (match := _FAIL.fullmatch(argument)) and (match[2] is None or int(match[2])):
            fault = Failure(int(match[1]), int(match[2] or 1))
            self.pending = replace(pending, faults=(*pending.faults, fault))
        elif name == "cut" and not argument:
            self.pending = replace(pending, faults=(*pending.faults, Cut()))
        elif name == "tokens" and _COUNT.fullmatch(argument):
            self.pending = replace(pending, output_tokens=int(argument))
        elif name == "stop" and _REASON.fullmatch(argument):
            self.pending = replace(pending, stop_reason=argument)
        elif name == "repeat" and _COUNT.fullmatch(argument) and int(argument):
            self.repeat *= int(argument)
        else:
            self._refuse(start, f"expected {_FORMS[name]}")

    def _refuse(self, start: int, why: str) -> NoReturn:
        quoted = self.text[start : start + 60].replace("\n", " ")
        ellipsis = "…" if len(self.text) > start + 60 else ""
        raise DirectiveError(f"malformed directive at character {start}: {why}. Found: {quoted}{ellipsis}") from None
