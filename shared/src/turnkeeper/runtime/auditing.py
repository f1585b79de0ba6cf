"""What goes into the audit trail of a tool call. Other records are made by :mod:`turnkeeper.core.lifecycle` with the
change that they are about; all are chained by the write that does it."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from turnkeeper.core import audit
from turnkeeper.core.audit import AuditRecord
from turnkeeper.core.called import NO_TOOL, called
from turnkeeper.core.inputs import is_deeper
from turnkeeper.core.lifecycle.change import about
from turnkeeper.core.session import Head, ToolOutcome
from turnkeeper.core.transcript import Block
from turnkeeper.ports import Clock, Ids, Redacts

#: Arguments beyond this are cut: the record's hash of the result and the transcript hold the rest.
MAX_ARGUMENT_CHARS = 4_000
MAX_STORED_DEPTH = 28


class Auditor:
    def __init__(self, clock: Clock, ids: Ids, redactor: Redacts) -> None:
        self._clock = clock
        self._ids = ids
        self._redactor = redactor

    def tool_call(
        self, head: Head, call: Block, outcome: ToolOutcome, secret_arguments: Collection[str]
    ) -> AuditRecord:
        named, arguments, salt = called(outcome.tool), call["input"], self._ids.token()
        if named == NO_TOOL:  # As long as there are arguments, they tell by what words it was called.
            arguments = {**arguments, "_tool": call["name"]}
        return AuditRecord(
            **about(head, self._clock.now(), "tool_call"),
            tool=named,
            tool_use_id=call["id"],
            arguments_redacted=self.arguments(arguments, secret_arguments),
            arguments_salt=salt,
            result_bytes=outcome.result_bytes,
            result_sha256=audit.salted(outcome.result_sha256, salt) if outcome.result_sha256 else None,
            duration_ms=outcome.duration_ms,
            outcome=outcome.outcome,
            detail=_detail(outcome, named),
        )

    def lost_call(self, head: Head, outcome: ToolOutcome) -> AuditRecord:
        """A call of which nothing can be said but how it ended."""
        known = about(head, self._clock.now(), "tool_call")
        return AuditRecord(**known, tool_use_id=outcome.tool_use_id, outcome=outcome.outcome)

    def arguments(self, arguments: Any, secret_arguments: Collection[str]) -> dict[str, Any]:
        """A call's arguments as they may be shown: without secrets, and not too long."""
        redactor = self._redactor.with_names(secret_arguments) if secret_arguments else self._redactor
        redacted = redactor.redact(arguments)
        shown = redacted if isinstance(redacted, dict) else {"input": redacted}
        text = json.dumps(shown, ensure_ascii=False, default=str)
        if len(text) > MAX_ARGUMENT_CHARS:
            return {"cut": text[:MAX_ARGUMENT_CHARS], "characters": len(text)}
        return shown if _can_be_stored(shown) else {"json": text}


def _detail(outcome: ToolOutcome, named: str) -> dict[str, Any] | None:
    """Why a call looks suspicious, and why it was denied."""
    flag = outcome.flag and outcome.flag.model_copy(update={"tool": named})
    parts = {"flag": flag, "denial": outcome.denial}
    return {name: part.model_dump(mode="json") for name, part in parts.items() if part is not None} or None


def _can_be_stored(value: Any) -> bool:
    """Whether the table takes it as it is: maps without empty names, nested 32 deep at most, the record included."""
    return not is_deeper(value, MAX_STORED_DEPTH) and _has_names(value)


def _has_names(value: Any) -> bool:
    if isinstance(value, dict):
        return all(name and _has_names(item) for name, item in value.items())
    return all(map(_has_names, value)) if isinstance(value, list) else True
