"""What a command says when it cannot do what was asked."""

from __future__ import annotations

from typing import Any


class CliError(Exception):
    """The thing asked for failed. ``hint`` says what to do about it; ``data`` is for ``--json``."""

    def __init__(self, detail: str, *, code: str = "failed", hint: str | None = None, **data: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code
        self.hint = hint
        self.data = data


class UsageError(CliError):
    """The command was not used as it can be: exit code 2, as for an unknown option."""
