"""What there is to call."""

from typing import Literal

from pydantic import Field

from functions.api.documents import Document
from turnkeeper.core.agent import Placement


class AgentDocument(Document, title="Agent"):
    name: str
    model: str
    placement: Placement
    formerly: list[str] = Field(description="Names that it had before, and still answers to.")


class AgentList(Document):
    agents: list[AgentDocument]


class Health(Document):
    status: Literal["ok"] = "ok"
