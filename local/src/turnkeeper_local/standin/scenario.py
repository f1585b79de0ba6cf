"""The scenario file: what the stand-in answers to conversations that carry no directives. YAML::

    slow: 0.3                     # seconds before the first byte of every answer (default 0)
    slow_per_token: 0.01          # seconds for every output token, spread over the stream (default 0)
    context_window: 50000         # tokens that a request may have (default 1000000)
    rules:                        # the first rule that fits decides; none fits: an agent on good behaviour
      - name: look an invoice up  # for the reader
        system: billing           # text within the system prompt, upper and lower case alike
        user: 'invoice (?P<id>[A-Z]+-\\d+)'   # regular expression, searched in the user's text, case ignored
        slow: 1.5                 # these two in place of the ones above
        slow_per_token: 0
        thinking: First the invoice, then the answer.   # shown where the request has thinking on
        redacted_thinking: ...    # the same, as a redacted_thinking block
        answers:                  # one text, or a list; played one after another, then `done`
          - '[[tool get_invoice {"invoice_id": "${id}"}]]'
          - '[[sleep 0.5]] [[say Found: ${result}]]'
          - A text without directives is said as it is.

A rule needs ``answers``; ``system`` and ``user`` both default to fitting anything. ``${name}`` stands for a named
group of ``user``, ``${user}`` for the user's text and ``${result}`` for the latest tool result (both shortened).
They are filled in after the directives have been read, so what users and tools say is never read as a directive.

Which answers have been played is known from the conversation, as with directives. Directives in a user's text go
before every rule; the file's slowness applies to them and to what no rule answers as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from turnkeeper_local.standin.directives import DirectiveError, Script, ScriptedAnswer, Step, parse
from turnkeeper_local.standin.reply import NO_THINKING, Thinking

SHORT_CHARACTERS = 200
CONTEXT_WINDOW_TOKENS = 1_000_000
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_BUILT_IN = frozenset({"user", "result"})


class ScenarioError(ValueError):
    """The file cannot be used. The message says where and why."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How slow every answer is."""

    first_byte_seconds: float = 0.0
    token_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    script: Script
    system: str = ""
    user: re.Pattern[str] | None = None
    pace: Pace | None = None
    thinking: Thinking = NO_THINKING

    def match(self, system: str, user: str) -> dict[str, str] | None:
        """The named groups where this rule fits the conversation, else None."""
        if self.system.lower() not in system.lower():
            return None
        if self.user is None:
            return {}
        found = self.user.search(user)
        return None if found is None else {key: value or "" for key, value in found.groupdict().items()}


@dataclass(frozen=True, slots=True)
class Scenario:
    pace: Pace = Pace()
    rules: tuple[Rule, ...] = ()
    context_window: int = CONTEXT_WINDOW_TOKENS

    def find(self, system: str, user: str) -> tuple[Rule, dict[str, str]] | None:
        """The first rule that fits, with the values of its groups."""
        for rule in self.rules:
            if (groups := rule.match(system, user)) is not None:
                return rule, groups
        return None


def shorten(text: str) -> str:
    return text if len(text) <= SHORT_CHARACTERS else text[:SHORT_CHARACTERS].rstrip() + "…"


def fill(answer: ScriptedAnswer, values: Mapping[str, str]) -> ScriptedAnswer:
    """``answer`` with every ``${name}`` of ``values`` replaced, in its text and in strings of tool arguments."""
    return replace(
        answer,
        text=_fill_text(answer.text, values),
        calls=tuple(replace(call, arguments=_fill_value(call.arguments, values)) for call in answer.calls),
    )


def load(path: Path) -> Scenario:
    """Read and check a scenario file.

    Raises:
        ScenarioError: it is not there, not YAML, or not a scenario.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScenarioError(f"{path}: {error}") from error
    try:
        return _scenario({} if value is None else value)
    except ScenarioError as error:
        raise ScenarioError(f"{path}: {error}") from error


def _scenario(value: Any) -> Scenario:
    fields = _mapping(value, "the file", ("slow", "slow_per_token", "context_window", "rules"))
    rules = fields.get("rules") or []
    if not isinstance(rules, list):
        raise ScenarioError("rules: must be a list")
    window = fields.get("context_window", CONTEXT_WINDOW_TOKENS)
    if isinstance(window, bool) or not isinstance(window, int) or window < 1:
        raise ScenarioError("context_window: must be a number of tokens")
    return Scenario(_pace(fields, "the file"), tuple(_rule(rule, index) for index, rule in enumerate(rules)), window)


def _rule(value: Any, index: int) -> Rule:
    at = f"rules.{index}"
    allowed = ("name", "system", "user", "slow", "slow_per_token", "thinking", "redacted_thinking", "answers")
    fields = _mapping(value, at, allowed)
    texts = {key: _text(fields, key, at) for key in ("name", "system", "user", "thinking", "redacted_thinking")}
    user = None
    if texts["user"]:
        try:
            user = re.compile(texts["user"], re.IGNORECASE)
        except re.error as error:
            raise ScenarioError(f"{at}.user: not a regular expression: {error}") from error
    answers = fields.get("answers")
    if isinstance(answers, str):
        answers = [answers]
    if not isinstance(answers, list) or not answers or not all(isinstance(text, str) for text in answers):
        raise ScenarioError(f"{at}.answers: must be a text or a list of texts, with at least one")
    script = _script(answers, f"{at}.answers")
    known = _BUILT_IN | (user.groupindex.keys() if user else set())
    for name in _variables(step.answer for step in script.steps):
        if name not in known:
            raise ScenarioError(f"{at}.answers: ${{{name}}} is none of {', '.join(sorted(known))}")
    paced = "slow" in fields or "slow_per_token" in fields
    return Rule(
        name=texts["name"] or at,
        script=script,
        system=texts["system"],
        user=user,
        pace=_pace(fields, at) if paced else None,
        thinking=Thinking(texts["thinking"], texts["redacted_thinking"]),
    )


def _script(answers: Iterable[str], at: str) -> Script:
    steps: list[Step] = []
    for index, text in enumerate(answers):
        try:
            script = parse(text)
        except DirectiveError as error:
            raise ScenarioError(f"{at}.{index}: {error}") from error
        steps.extend(script.steps if script else [Step(ScriptedAnswer(text=text.strip()))])
    return Script(tuple(steps))


def _mapping(value: Any, at: str, allowed: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ScenarioError(f"{at}: must be a mapping")
    if unknown := [str(key) for key in value if key not in allowed]:
        raise ScenarioError(f"{at}: unknown key {', '.join(unknown)}; known are {', '.join(allowed)}")
    return value


def _text(fields: Mapping[str, Any], key: str, at: str) -> str:
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise ScenarioError(f"{at}.{key}: must be a text")
    return value or ""


def _pace(fields: Mapping[str, Any], at: str) -> Pace:
    numbers = []
    for key in ("slow", "slow_per_token"):
        value = fields.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise ScenarioError(f"{at}.{key}: must be seconds, 0 or more")
        numbers.append(float(value))
    return Pace(*numbers)


def _fill_text(text: str, values: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: values.get(match[1], match[0]), text)


def _fill_value(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _fill_text(value, values)
    if isinstance(value, list):
        return [_fill_value(item, values) for item in value]
    if isinstance(value, dict):
        return {key: _fill_value(item, values) for key, item in value.items()}
    return value


def _variables(answers: Iterable[ScriptedAnswer]) -> Iterable[str]:
    for answer in answers:
        yield from _VARIABLE.findall(answer.text)
        for call in answer.calls:
            yield from _variables_in(call.arguments)


def _variables_in(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield from _VARIABLE.findall(value)
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _variables_in(item)
