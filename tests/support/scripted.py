"""A model that says what a test wrote down, and what must hold of a session however a scenario went."""

from __future__ import annotations

import json
from collections import Counter
from functools import partial
from typing import Any

from tests.support.checks import check_totals, check_transcript
from tests.support.kit import MODEL, WHO, MemoryKit
from tests.support.traces import check_latest
from turnkeeper.core import audit
from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import ProviderError
from turnkeeper.core.session import Head
from turnkeeper.core.tools import Tool
from turnkeeper.ports import ModelRequest
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.store.tenants import audit_records
from turnkeeper.testing import script
from turnkeeper.testing.clock import ManualClock
from turnkeeper.testing.faulty_table import Crash
from turnkeeper.testing.script import Answer, answer, call, fail, say
from turnkeeper_local.standin.errors import ApiError
from turnkeeper_local.standin.validate import validate_message

#: These tests write the model's answers down as they are, most of them of one model.
reply = partial(answer, model=MODEL)
use = call


def failure(status: int | None = 529, *, retry_after: float | None = None, **more: Any) -> ProviderError:
    """One that another attempt may help against, whatever the status."""
    return fail(status, retry_after=retry_after, **{"retryable": True, **more})


class ScriptedModel(script.ScriptedModel):
    """Says the answers in their order, then ``done`` for good. What the API would refuse is an error of the test."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__(*answers, then=reply(say("done")), check=self._note_what_is_refused)
        self.refused: list[str] = []

    def _note_what_is_refused(self, request: ModelRequest) -> None:
        body = {
            **request.options,
            "model": request.model,
            "max_tokens": request.max_tokens,
            "system": request.system,
            "messages": request.messages,
        }
        if request.tools:
            body["tools"] = request.tools
        try:
            validate_message(json.loads(json.dumps(body)), beta=False)
            json.dumps(body, ensure_ascii=False).encode()
        except (ApiError, UnicodeEncodeError) as refused:
            self.refused.append(str(refused))


def scripted_kit(
    *answers: Answer, agents: list[Agent] | None = None, tools: list[Tool] | None = None, **options: Any
) -> MemoryKit:
    """A kit with this model and a clock that stands still; ``tools`` are those of an agent called ``scripted``."""
    given = list(agents or [])
    if tools is not None:
        given.append(Agent(name="scripted", model=MODEL, system="You act.", tools=tools))
    model = ScriptedModel(*answers)
    return MemoryKit(given, model=model, **{"runner": "none", "clock": ManualClock(), **options})


def begin(kit: MemoryKit, agent: str = "scripted", text: Any = "go", *, who: Identity = WHO, **more: Any) -> Head:
    return kit.intake.create(who, NewSession(agent=agent, input=text, metadata={}, **more))


def play(kit: MemoryKit, agent: str = "scripted", text: Any = "go", *, who: Identity = WHO) -> Head:
    """A session's first turn, run to where this runner leaves it, and checked."""
    head = kit.run(begin(kit, agent, text, who=who))
    check_session(kit, head)
    return head


def die_with_tools(kit: MemoryKit) -> None:
    """From now on a tool that crashes takes the runner with it, as the end of a process does."""
    run_all = kit.parallel.run_all

    def dies_with_its_tools(jobs: Any, **more: Any) -> Any:
        done = run_all(jobs, **more)
        if any(isinstance(each.error, Crash) for each in done if each is not None):
            raise Crash("dead")
        return done

    kit.parallel.run_all = dies_with_its_tools  # type: ignore[method-assign]


def check_session(kit: MemoryKit, head: Head) -> None:
    """What must hold after any scenario that has come to rest."""
    transcript = kit.sessions.load(head.tenant_id, head.session_id)
    assert not getattr(kit.model, "refused", []), kit.model.refused  # type: ignore[attr-defined]
    if not transcript.head.resting:
        return
    check_transcript(transcript.entries)
    check_totals(transcript.head, transcript.entries, kit.sessions.calls(head.tenant_id, head.session_id))
    check_audit(kit, transcript.head)
    check_latest(transcript.head, transcript.entries, kit.sessions.calls(head.tenant_id, head.session_id))


def check_audit(kit: MemoryKit, head: Head) -> None:
    """The chain verifies and holds exactly one record for each tool call, with the outcome that was told."""
    records = kit.sessions.audit(head.tenant_id, head.session_id)
    problems = audit.verify(
        audit_records(records),
        head.audit_seq,
        head.audit_hash,
        tenant_id=head.tenant_id,
        session_id=head.session_id,
    )
    assert problems == []
    entries = kit.entries(head.session_id, head.tenant_id)
    told = [(outcome.tool_use_id, outcome.outcome) for entry in entries for outcome in entry.outcomes]
    assert [(r["tool_use_id"], r["outcome"]) for r in records if r["kind"] == "tool_call"] == told


def results(kit: MemoryKit, head: Head) -> list[tuple[str, str, str]]:
    """Tool, outcome and text of every result of the session, in order."""
    found: list[tuple[str, str, str]] = []
    for entry in kit.entries(head.session_id, head.tenant_id):
        blocks = [block for block in entry.content if block["type"] == "tool_result"]
        for block, told in zip(blocks, entry.outcomes, strict=True):
            found.append((told.tool, told.outcome, "".join(part.get("text", "") for part in block["content"])))
    return found


def states(kit: MemoryKit, head: Head) -> Counter[str]:
    """How many of the session's reservations are in which state."""
    return Counter(call["state"] for call in kit.sessions.calls(head.tenant_id, head.session_id))
