"""policy.toml by itself: whether it can be read, and whether every word of it means something."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from turnkeeper.adapters.price_overrides import PriceOverride, PriceTier
from turnkeeper.core.policy import Policy, policy_of
from turnkeeper.core.policy_problems import InvalidPolicy, Problem, problems_of
from turnkeeper.preflight.findings import Finding, Severity
from turnkeeper.preflight.toml_lines import TomlLines, syntax_error

NAME = "policy.toml"
_MARK = "\ufeff"


@dataclass
class PolicyFile:
    """The file, and what came of reading it."""

    lines: TomlLines
    policy: Policy | None = None
    raw: dict[str, Any] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def read(cls, root: Path) -> PolicyFile:
        try:
            data = (root / NAME).read_bytes()
        except OSError as error:
            hint = "every project has one: it says who may spend what. `turnkeeper init` writes one to begin with."
            return cls(TomlLines(""), findings=[_error("policy_missing", None, f"cannot be read: {error}", hint)])
        try:
            text = data.decode()
            raw = tomllib.loads(text)
        except UnicodeDecodeError as error:
            return cls._unread(data.count(b"\n", 0, error.start) + 1, "is no text in UTF-8", "save it as UTF-8")
        except tomllib.TOMLDecodeError as error:
            if text.startswith(_MARK):
                return cls._unread(1, "is no TOML: it begins with a byte order mark", "save it as UTF-8 without one")
            words, line = syntax_error(error, text)
            return cls._unread(line, f"is no TOML: {words}", "correct that line", TomlLines(text))
        except (ValueError, RecursionError):
            return cls._unread(None, "is no TOML: a number is too long, or lists are too deep", "look for it")
        made = cls(TomlLines(text), raw=raw)
        try:
            made.policy = policy_of(made.raw)
        except InvalidPolicy as error:
            made.findings += [made.finding(problem, "policy_key") for problem in error.problems]
        made.findings += [made.finding(problem, "policy_price") for problem in _price_problems(made.raw.get("models"))]
        return made

    @classmethod
    def _unread(cls, line: int | None, text: str, hint: str, lines: TomlLines | None = None) -> PolicyFile:
        return cls(lines or TomlLines(""), findings=[_error("policy_syntax", line, text, hint)])

    def finding(self, problem: Problem, code: str, severity: Severity = "error", hint: str = "") -> Finding:
        """A problem of the policy, with the line that its keys lead to."""
        where = ".".join(str(part) for part in problem.path[:-1])
        text = f"[{where}] {problem.text}" if where else problem.text
        hint = hint or problem.hint or "docs/money.md and docs/grants.md say what may stand there"
        return Finding(
            code=code, severity=severity, file=NAME, line=self.lines.line(problem.path), text=text, hint=hint
        )


def _price_problems(models: Any) -> list[Problem]:
    found: list[Problem] = []
    for name, entry in models.items() if isinstance(models, dict) else ():
        try:
            PriceOverride.model_validate(entry)
        except ValidationError as error:
            for problem in problems_of(error, _price_keys):
                found.append(problem._replace(path=("models", name, *problem.path)))
    return found


def _price_keys(path: tuple[str | int, ...]) -> list[str]:
    return list((PriceTier if path[:1] == ("tiers",) else PriceOverride).model_fields)


def _error(code: str, line: int | None, text: str, hint: str) -> Finding:
    return Finding(code=code, severity="error", file=NAME, line=line, text=text, hint=hint)
