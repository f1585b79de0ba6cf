"""The transcript, and who may read it."""

from typing import Any, Literal

from pydantic import Field

from functions.api.documents import Document
from functions.api.documents.sessions import Watch
from turnkeeper.core.denials import Denial
from turnkeeper.core.lost_runners import OpenCall
from turnkeeper.core.session import EntryType, Flag, LeftOut, RunnerKind, Status, Stop
from turnkeeper.core.tools import Outcome


class ToolResult(Document):
    tool_use_id: str
    tool: str
    is_error: bool
    outcome: Outcome
    duration_ms: int
    content: list[dict[str, Any]] = Field(description="What the tool returned, without the wrapping for the model.")
    flag: Flag | None = Field(default=None, description="Why the result, or the call, looks suspicious.")
    denial: Denial | None = Field(default=None, description="denied: why the call did not reach its tool.")


class Event(Document):
    """One entry of the transcript. Which members there are depends on ``type``."""

    seq: int
    type: EntryType
    at: str
    content: list[dict[str, Any]] | None = Field(default=None, description="user, assistant: the content blocks.")
    by_kit: bool | None = Field(default=None, description="user: written by the kit itself, not by the user.")
    removed_tools: list[str] | None = Field(
        default=None, description="user: granted tools that the agent has no more. The session does not get them back."
    )
    model: str | None = Field(default=None, description="assistant, compaction")
    usage: dict[str, Any] | None = Field(
        default=None, description="assistant, compaction: as the provider reported it."
    )
    stop_reason: str | None = Field(default=None, description="assistant")
    duration_ms: int | None = Field(default=None, description="assistant")
    request_id: str | None = Field(default=None, description="assistant: the provider's.")
    attempts: int | None = Field(default=None, description="assistant: where it took more than one.")
    cost_usd: str | None = Field(
        default=None,
        description="assistant, compaction, runner_lost; also status, for calls that no answer came of. All of them "
        "add up.",
    )
    in_doubt_usd: str | None = Field(
        default=None,
        description="runner_lost, and wherever some of the cost is in doubt: how much of it may not have been spent.",
    )
    runner_id: str | None = Field(default=None, description="runner_lost: which one, as its logs name it.")
    last_heard_at: str | None = Field(default=None, description="runner_lost: when it last extended its lease.")
    taken_over_by: Literal["lambda", "fargate", "sweep"] | None = Field(
        default=None, description="runner_lost: the next runner; the sweep puts the session on its way to one."
    )
    taken_over_by_id: str | None = Field(default=None, description="runner_lost")
    open_calls: list[OpenCall] | None = Field(
        default=None, description="runner_lost: tool calls that it may have made. Results that follow tell of each."
    )
    results: list[ToolResult] | None = Field(default=None, description="tool_results")
    notes: list[str] | None = Field(default=None, description="tool_results: what the kit told the model beside them.")
    left_out: list[LeftOut] | None = Field(
        default=None, description="repair, rewind, compaction: what the model is not sent any more."
    )
    summary: str | None = Field(default=None, description="compaction: what the model is sent in its place.")
    reason: str | None = Field(default=None, description="repair, rewind, compaction: why. status: what it waits for.")
    status: Status | None = Field(default=None, description="status: where the session went.")
    stop: Stop | None = Field(default=None, description="status: why, where it came to rest.")
    runner: RunnerKind | None = Field(default=None, description="status; runner_lost: what kind the lost one was.")

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json", exclude_none=True)


class EventPage(Watch):
    events: list[Event]
    last_seq: int = Field(description="Ask for what comes after this one next.")
    status: Status
    more: bool = Field(description="There are more that did not fit: ask again at once.")

    def dump(self) -> dict[str, Any]:
        events = [event.dump() for event in self.events]
        return {"events": events, **self.model_dump(mode="json", exclude={"events"})}


class StreamTokenDocument(Document, title="StreamToken"):
    token: str = Field(description="For the query of this session's stream and events, and for nothing else.")
    expires_at: str
