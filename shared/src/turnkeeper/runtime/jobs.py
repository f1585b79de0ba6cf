"""Messages on the queue: a new job, or a session that goes on."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.inputs import MAX_DEPTH, input_problem, is_deeper

SCHEMA = "turnkeeper.job/v1"
#: It is kept in the session's head, which is written with every step.
MAX_METADATA_BYTES = 16_384


class Job(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_: Literal["turnkeeper.job/v1"] = Field(alias="schema")
    job_id: str = Field(min_length=1, max_length=128)
    tenant_id: str = Field(min_length=1, max_length=128)
    user_id: str = Field(min_length=1, max_length=128)
    role: str | None = Field(default=None, min_length=1, max_length=64)
    agent: str = Field(min_length=1, max_length=63)
    input: str | list[dict[str, Any]]
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_validator("input")
    @classmethod
    def _can_be_said(cls, value: str | list[dict[str, Any]]) -> str | list[dict[str, Any]]:
        if problem := input_problem(value):
            raise ValueError(problem)
        return value

    @field_validator("metadata")
    @classmethod
    def _is_small(cls, value: dict[str, Any]) -> dict[str, Any]:
        if is_deeper(value, MAX_DEPTH):
            raise ValueError(f"metadata is nested at most {MAX_DEPTH} deep")
        if len(json.dumps(value)) > MAX_METADATA_BYTES:
            raise ValueError(f"metadata is at most {MAX_METADATA_BYTES} bytes of JSON")
        return value


class Continue(BaseModel):
    model_config = ConfigDict(extra="forbid")

    schema_: Literal["turnkeeper.job/v1"] = Field(alias="schema")
    continuation_token: str = Field(min_length=1, max_length=4096)


def parse(body: str) -> Job | Continue:
    """Raises InvalidRequest with ``data["error_code"]``: ``not_json``, ``unknown_schema`` or ``invalid_job``."""
    try:
        raw = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("the body is not JSON", error_code="not_json") from error
    if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
        raise InvalidRequest(f'the body needs "schema": "{SCHEMA}"', error_code="unknown_schema")
    try:
        return Continue.model_validate(raw) if "continuation_token" in raw else Job.model_validate(raw)
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
        raise InvalidRequest(where, error_code="invalid_job") from error


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def continue_body(token: str) -> str:
    return json.dumps({"schema": SCHEMA, "continuation_token": token})


def session_id_of_job(tenant_id: str, job_id: str) -> str:
    """The session of a job: derived, so that the sender knows it and a second delivery finds the first one's."""
    named = sorted_json(["turnkeeper.job", tenant_id, job_id], ascii=True, spaced=True)
    digest = hashlib.sha256(named).digest()
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    number = int.from_bytes(digest[:17])
    return "ses_" + "".join(alphabet[number >> (5 * index) & 31] for index in range(26))
