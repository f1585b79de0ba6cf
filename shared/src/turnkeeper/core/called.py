"""By what name a call is told where what was said is not: the audit trail, which outlives an erasure, and traces."""

from __future__ import annotations

from turnkeeper.core.session import Head, ToolOutcome

#: In the place of a name that is no tool's: it is words of the model's.
NO_TOOL = "_OTHER"


def called(head: Head, outcome: ToolOutcome) -> str:
    """The name of a tool that the session knows, or :data:`NO_TOOL`."""
    if outcome.denial is not None:
        is_known = outcome.denial.why != "unknown"
    else:
        is_known = outcome.began_at is not None or outcome.tool in known_tools(head)
    return outcome.tool if is_known else NO_TOOL


def known_tools(head: Head) -> frozenset[str]:
    """Those that a call of it can run, or be played from the record."""
    return frozenset((*head.granted_tools, *(head.companion.dry_tools if head.companion is not None else ())))
