"""By what name a call is told where what was said is not: in the audit trail, which outlives an erasure, stops and
traces."""

from __future__ import annotations

from turnkeeper.core.agent import TOOL_NAME

#: In the place of a name that no tool can have: it is words of the model's.
NO_TOOL = "_OTHER"


def called(name: str) -> str:
    """The name itself where a tool could have it, whether there is one: denied calls are looked for by it."""
    return name if TOOL_NAME.fullmatch(name) else NO_TOOL
