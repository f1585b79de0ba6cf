"""The script language inside a user's text. Pure: text in, ``Script`` out.

An answer is ``[[say TEXT]]``, ``[[tool NAME {json}]]`` or ``[[tool A {...} & tool B {...}]]``, or an odd one:
``[[raw {content block} & {...}]]`` is made of these blocks, whatever they hold, and ``[[raw-input NAME TEXT]]`` is a
tool call that streams TEXT as its input, JSON or not. ``[[echo]]`` says what stands around the directives. Modifiers
stand before the answer that they act on::

    [[sleep SECONDS]]    wait before the first byte          [[tokens OUT]]   output tokens to report
    [[trickle SECONDS]]  spread the stream over so long      [[stop REASON]]  stop_reason to report
    [[fail 529]]         one HTTP error of that status       [[cut]]          break the stream once
    [[fail 529 x3]]      three of them                       [[repeat N]]     play the next answer N times
    [[refuse N.M WORDS]] HTTP 400, for as long as block M of message N of the request is as it was at first

Promises, where the language leaves room:

- Text outside of directives is ignored but by ``[[echo]]``, and so is ``[[anything else]]``; only a near miss such as
  ``[[sleeep 1]]`` in a text that does hold directives is an error, because it is a typing mistake.
- Tool arguments are read by a JSON parser, so ``]]``, ``&`` and braces inside strings are just text. They may be
  left out: ``[[tool now]]`` is ``[[tool now {}]]``.
- TEXT and WORDS end at the first ``]]``, or at the last two of a longer row (``[[say a[0]]]`` says ``a[0]``); where
  they begin with a bracket they end behind the one that closes it, as JSON does. White space around them is dropped.
- Refusals go before failures and cuts, and these happen in the order written. Several sleeps or trickles add up,
  several repeats multiply, the last ``tokens`` or ``stop`` wins. ``[[repeat]]`` may stand anywhere among the modifiers.
- Modifiers without an answer after them act on the closing ``done``.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from turnkeeper_local.standin import strict_json

DONE_TEXT = "done"
#: Types of blocks that are thought and not said.
THINKING = frozenset({"thinking", "redacted_thinking"})


class DirectiveError(ValueError):
    """A directive that cannot be read. The message quotes it and says what was expected."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """``input_text`` is what is streamed in place of the arguments' JSON."""

    name: str
    arguments: dict[str, Any]
    input_text: str | None = None


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
class Refusal:
    """HTTP 400 for what stands at one place of the request, until something else stands there."""

    message: int
    block: int
    words: str


@dataclass(frozen=True, slots=True)
class ScriptedAnswer:
    """One answer of the model: a text, tool calls, or blocks as they are (``raw``); only one of these. With ``echo``
    the text is the user's."""

    text: str = ""
    echo: bool = False
    calls: tuple[ToolCall, ...] = ()
    raw: tuple[dict[str, Any], ...] = ()
    sleep_seconds: float = 0.0
    trickle_seconds: float = 0.0
    refusals: tuple[Refusal, ...] = ()
    faults: tuple[Fault, ...] = ()
    output_tokens: int | None = None
    stop_reason: str | None = None

    @property
    def block_count(self) -> int:
        """Content blocks that this answer is made of, thinking aside."""
        spoken = [block for block in self.raw if block.get("type") not in THINKING]
        return len(self.calls) + len(spoken) + int(bool(self.text) or self.echo)


DONE = ScriptedAnswer(text=DONE_TEXT)


@dataclass(frozen=True, slots=True)
class Step:
    """An answer played ``times`` times in a row; kept folded so that a large N costs nothing."""

    answer: ScriptedAnswer
    times: int = 1


@dataclass(frozen=True, slots=True)
class Script:
    steps: tuple[Step, ...]
    #: What stands around the directives.
    beside: str = field(default="", compare=False)

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


_OPEN = re.compile(r"\[\[\s*([A-Za-z]+(?:-[A-Za-z]+)*)(?=\s|\])")
_ARGUMENT = re.compile(r"([^\[\]]*)\]\]")
_TEXT_END = re.compile(r"\]{2,}")
_BRACKETED = re.compile(r"\s*(?=[\[{])")
_BRACKETED_END = re.compile(r"\s*\]\](?!\])")
_BRACKET_OR_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_TOOL_NAME = re.compile(r"\s*([A-Za-z0-9_-]{1,128})(?![^\s{&\]])\s*")
_TOOL_NEXT = re.compile(r"\s*(?:(\]\])|&\s*tool(?=\s))")
_RAW_NEXT = re.compile(r"\s*(?:(\]\])|&\s*(?:raw\s*)?(?=\{))")
_RAW_NAME = re.compile(r"\s*([^\s\[\]]{1,128})(?=\s|\])")
_SPACE = re.compile(r"\s*")
_SECONDS = re.compile(r"\d{1,6}(?:\.\d{1,9})?|\.\d{1,9}")
_COUNT = re.compile(r"\d{1,9}")
_FAIL = re.compile(r"([45]\d\d)(?:\s+x\s*(\d{1,9}))?")
_REFUSED = re.compile(r"(\d{1,6})\.(\d{1,6})\s+(\S.*)", re.DOTALL)
_REASON = re.compile(r"[A-Za-z0-9_-]{1,64}")

_FORMS = {
    "say": "[[say TEXT]]",
    "echo": "[[echo]]",
    "tool": "[[tool NAME {json args}]]",
    "raw": "[[raw {json content block} & {...}]]",
    "raw-input": "[[raw-input NAME TEXT]]",
    "refuse": "[[refuse N.M WORDS]], with the numbers of a message and of a block in it, from 0",
    "sleep": "[[sleep SECONDS]]",
    "trickle": "[[trickle SECONDS]]",
    "fail": "[[fail STATUS]] or [[fail STATUS xTIMES]], with a status from 400 to 599",
    "cut": "[[cut]]",
    "tokens": "[[tokens OUT]]",
    "stop": "[[stop REASON]]",
    "repeat": "[[repeat N]], with N of 1 or more",
}


_JSON = strict_json.decoder()


@dataclass(slots=True)
class _Reader:
    text: str
    steps: list[Step] = field(default_factory=list)
    pending: ScriptedAnswer = field(default_factory=ScriptedAnswer)
    repeat: int = 1
    found: bool = False
    modified: bool = False
    near_misses: list[tuple[int, str]] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)

    def read(self) -> None:
        position = outside = 0
        while opening := _OPEN.search(self.text, position):
            name = opening[1]
            if name in _FORMS:
                self.found = True
                self.beside.append(self.text[outside : opening.start()].strip())
                position = outside = self._directive(name, opening.start(), opening.end())
            else:
                if close := difflib.get_close_matches(name.lower(), _FORMS, n=1, cutoff=0.8):
                    self.near_misses.append((opening.start(), close[0]))
                position = opening.end()
        self.beside.append(self.text[outside:].strip())

    def script(self) -> Script | None:
        if not self.found:
            return None
        if self.near_misses:
            start, meant = self.near_misses[0]
            self._refuse(start, f"unknown directive; did you mean {_FORMS[meant]}?")
        if self.modified:
            self._play(text=DONE_TEXT)
        return Script(tuple(self.steps), " ".join(filter(None, self.beside)))

    def _directive(self, name: str, start: int, position: int) -> int:
        """Take in the directive whose name ends at ``position``; returns where the directive ends."""
        match name:
            case "say":
                text, position = self._text(name, start, position)
                self._play(text=text)
            case "echo":
                if (closing := _ARGUMENT.match(self.text, position)) is None or closing[1].strip():
                    self._refuse(start, f"expected {_FORMS[name]}")
                self._play(echo=True)
                position = closing.end()
            case "tool":
                calls, position = self._tools(start, position)
                self._play(calls=calls)
            case "raw":
                blocks, position = self._blocks(start, position)
                self._play(raw=blocks)
            case "raw-input":
                call, position = self._raw_input(start, position)
                self._play(calls=(call,))
            case "refuse":
                text, position = self._text(name, start, position)
                self._modify(name, text, start)
            case _:
                argument = _ARGUMENT.match(self.text, position)
                if argument is None:
                    self._refuse(start, f"expected {_FORMS[name]}")
                self._modify(name, argument[1].strip(), start)
                position = argument.end()
        return position

    def _play(self, **answer: Any) -> None:
        self.steps.append(Step(replace(self.pending, **answer), self.repeat))
        self.pending, self.repeat, self.modified = ScriptedAnswer(), 1, False

    def _text(self, name: str, start: int, position: int) -> tuple[str, int]:
        """A text to the end of its directive, and where that is."""
        if bracketed := _BRACKETED.match(self.text, position):
            end = _closing(self.text, bracketed.end())
            if end is not None and (close := _BRACKETED_END.match(self.text, end)):
                return self.text[bracketed.end() : end], close.end()
        closing = _TEXT_END.search(self.text, position)
        if closing is None:
            self._refuse(start, f"never closed; expected {_FORMS[name]}")
        return self.text[position : closing.end() - 2].strip(), closing.end()

    def _raw_input(self, start: int, position: int) -> tuple[ToolCall, int]:
        name = _RAW_NAME.match(self.text, position)
        if name is None:
            self._refuse(start, f"expected {_FORMS['raw-input']}")
        text, position = self._text("raw-input", start, name.end())
        return ToolCall(name[1], {}, text), position

    def _blocks(self, start: int, position: int) -> tuple[tuple[dict[str, Any], ...], int]:
        blocks: list[dict[str, Any]] = []
        if space := _SPACE.match(self.text, position):
            position = space.end()
        while True:
            block, position = self._object(start, position)
            blocks.append(block)
            following = _RAW_NEXT.match(self.text, position)
            if following is None:
                self._refuse(start, "expected ']]' or '& {...}' after a content block")
            position = following.end()
            if following[1]:
                return tuple(blocks), position

    def _tools(self, start: int, position: int) -> tuple[tuple[ToolCall, ...], int]:
        calls: list[ToolCall] = []
        while True:
            name = _TOOL_NAME.match(self.text, position)
            if name is None:
                self._refuse(start, f"expected a tool name: {_FORMS['tool']}")
            position = name.end()
            arguments: dict[str, Any] = {}
            if self.text[position : position + 1] == "{":
                arguments, position = self._object(start, position)
            calls.append(ToolCall(name[1], arguments))
            following = _TOOL_NEXT.match(self.text, position)
            if following is None:
                self._refuse(start, f"expected ']]' or '& tool NAME {{...}}' after the call of {name[1]}")
            position = following.end()
            if following[1]:
                return tuple(calls), position

    def _object(self, start: int, position: int) -> tuple[dict[str, Any], int]:
        try:
            value, end = _JSON.raw_decode(self.text, position)
        except (ValueError, RecursionError) as error:
            self._refuse(start, f"expected a JSON object: {error}")
        if not isinstance(value, dict):
            self._refuse(start, "expected a JSON object")
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
        elif name == "refuse" and (match := _REFUSED.fullmatch(argument)):
            refusal = Refusal(int(match[1]), int(match[2]), match[3])
            self.pending = replace(pending, refusals=(*pending.refusals, refusal))
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


def _closing(text: str, position: int) -> int | None:
    """Behind the bracket that closes the one at ``position``; None where brackets do not match up to there.

    Strings of JSON are passed over. No parser, since this may be no JSON, or nested deeper than a parser goes.
    """
    expected: list[str] = []
    for token in _BRACKET_OR_STRING.finditer(text, position):
        if (bracket := token[0]) in "[{":
            expected.append("]" if bracket == "[" else "}")
        elif bracket in "]}":
            if expected.pop() != bracket:
                return None
            if not expected:
                return token.end()
    return None
