"""What a session did, and what of it was taken back."""

from typing import Any

from pydantic import Field

from functions.api.documents import Document
from functions.api.documents.sessions import SessionDocument
from turnkeeper.core.branching import OnceCall


class RewoundDocument(SessionDocument, title="RewoundSession"):
    left_out: list[int] = Field(description="Entries that the model is not sent any more, by seq.")
    once_calls: list[OnceCall] = Field(description="What was done behind, and is not taken back.")


class StoryLine(Document):
    at: str
    text: str
    refs: dict[str, Any] = Field(
        description="Where it stands: `seq` (the transcript), `call` (the ledger), `audit` (the audit trail), "
        "`request_id` (the provider's; of an input, the front door's), `trace_id`, `tool_use_id`, `turn`, `scope`, "
        "`agent`."
    )
    cost_usd: str | None = Field(
        description="What the session was charged here. Those of a whole story add up to its cost."
    )


class Explanation(Document):
    session_id: str
    turn: int | None = Field(description="The turn that was asked for; null for all of the session.")
    story: list[StoryLine] = Field(description="At most 500; of a longer one the middle is left out, and said to be.")
    why_ended: str
    what_now: str = Field(description="One way on in a line, as commands (between backticks) and calls.")
