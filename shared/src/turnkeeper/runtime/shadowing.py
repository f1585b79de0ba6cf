"""The tools of a shadow: what reads, reads as for the session that it shadows; what changes something is played from
that session's record, and never runs.

All ways in (a first run, a resume, a handoff, a crash) pass here, since no runner has tools but those that its engine
gives it; and the dry ones are in no grant, so that a runner of a version that does not know shadows has none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.companion import CompanionOf
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.tools import UPDATE_PLAN, Tool, ToolBody, ToolContext, ToolDenied, ToolError
from turnkeeper.core.trajectory import Call, calls_of
from turnkeeper.runtime.store.records import Records

NOT_RUN = "(dry run: not run)"


def in_shadow(
    about: CompanionOf, granted: Mapping[str, Tool], of_agent: Mapping[str, Tool], records: Records
) -> dict[str, Tool]:
    """The tools that a shadow has.

    Args:
        granted: those that policy and grant leave it.
        of_agent: all of its agent.
    """
    recorded = cache(lambda: _recorded(about, records))
    named = dict.fromkeys([*granted, *(name for name in about.dry_tools if name in of_agent)])
    return {name: _for_shadow(of_agent[name], name in granted, about, recorded) for name in named}


def _for_shadow(tool: Tool, granted: bool, about: CompanionOf, recorded: Callable[[], Mapping[bytes, Call]]) -> Tool:
    """By what the tool does as it is deployed here, whatever it did when the shadow was made."""
    if granted and (tool.effect == "read" or tool.name == UPDATE_PLAN):
        return replace(tool, body=_as_of(tool.body, about.tenant_id))
    return replace(tool, body=_dry(tool.name, recorded))


def _as_of(body: ToolBody, tenant_id: str) -> ToolBody:
    def read(ctx: ToolContext, arguments: Mapping[str, Any], /) -> Any:
        return body(replace(ctx, tenant_id=tenant_id), arguments)

    return read


def _dry(name: str, recorded: Callable[[], Mapping[bytes, Call]]) -> ToolBody:
    def play(_: ToolContext, arguments: Mapping[str, Any], /) -> Any:
        call = recorded().get(_key(name, arguments))
        match call.outcome if call is not None else None:
            case "ok":
                return call.result if call is not None else NOT_RUN
            case "error":
                raise ToolError(call.result if call is not None else NOT_RUN)
            case "denied":
                raise ToolDenied(call.result if call is not None else NOT_RUN)
        return NOT_RUN

    return play


def _recorded(about: CompanionOf, records: Records) -> dict[bytes, Call]:
    """The calls of the turn that is shadowed; none where it was erased."""
    try:
        entries = records.load(about.tenant_id, about.session_id).entries
    except SessionNotFound:
        return {}
    kept = [entry for entry in entries if about.first_seq <= entry.seq <= about.last_seq]
    return {_key(call.tool, call.arguments): call for call in calls_of(kept)}


def _key(tool: str, arguments: Any) -> bytes:
    return sorted_json([tool, dict(arguments) if isinstance(arguments, Mapping) else arguments])
