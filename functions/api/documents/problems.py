"""Errors, as the OpenAPI document describes them. They are answered without a model (:mod:`functions.api.problems`)."""

from pydantic import BaseModel, ConfigDict, Field

from functions.api.documents import Document
from turnkeeper.core.scopes import Scope
from turnkeeper.core.session import Status


class FieldError(Document):
    where: str
    why: str


class Problem(BaseModel):
    """An error (RFC 9457), with members of its own for each ``code``."""

    model_config = ConfigDict(extra="allow", defer_build=True)

    type: str
    title: str
    status: int
    detail: str
    code: str
    session_id: str | None = None


class InvalidRequestProblem(Problem):
    errors: list[FieldError] = []


class CostCapProblem(Problem):
    scope: Scope
    limit_usd: str
    spent_usd: str
    reserved_usd: str
    needed_usd: str
    contended: bool = Field(description="Only money set aside for calls in flight is in the way.")
    resets_at: str | None
    continuation_token: str | None = None


class ConflictProblem(Problem):
    session_status: Status


class InputTooLargeProblem(Problem):
    limit_bytes: int
