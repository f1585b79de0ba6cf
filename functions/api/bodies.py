"""What callers send: every body as a model. The OpenAPI document is made from the same models."""

from typing import Self

from pydantic import Field, model_validator

from turnkeeper.core.agent import Placement
from turnkeeper.core.inputs import AgentName, Body, Input, Metadata, Token, Webhook


class CreateSession(Body):
    agent: AgentName
    input: Input
    metadata: Metadata
    placement: Placement | None = None
    webhook: Webhook | None = None


class PostTurn(Body):
    input: Input


class Rewind(Body):
    """Either of the two; without them, the latest turn."""

    turns: int | None = Field(default=None, ge=1, le=10_000, description="Take back so many of the latest turns.")
    to_seq: int | None = Field(default=None, ge=0, description="Take back everything behind this entry.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.turns is not None and self.to_seq is not None:
            raise ValueError("say either turns or to_seq")
        return self


class Fork(Body):
    at_seq: int | None = Field(default=None, ge=0, description="The last entry that is copied; without it, all are.")
    input: Input | None = None
    agent: AgentName | None = None


class RaisedLimits(Body):
    max_iterations: int = Field(ge=1, le=1_000, description="Model calls of the turn, those made so far included.")


class ContinueSession(Body):
    continuation_token: Token
    limits: RaisedLimits | None = None
