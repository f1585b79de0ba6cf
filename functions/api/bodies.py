"""What callers send: every body as a model. The OpenAPI document is made from the same models."""

from __future__ import annotations

from pydantic import Field

from turnkeeper.core.agent import Placement
from turnkeeper.core.inputs import AgentName, Body, Input, Metadata, Token


class CreateSession(Body):
    agent: AgentName
    input: Input
    metadata: Metadata
    placement: Placement | None = None


class PostTurn(Body):
    input: Input


class RaisedLimits(Body):
    max_iterations: int = Field(ge=1, le=1_000, description="Model calls of the turn, those made so far included.")


class ContinueSession(Body):
    continuation_token: Token
    limits: RaisedLimits | None = None
