"""Messages on the queue: a new job, or a session that goes on."""

import hashlib
import json
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.inputs import AgentName, Body, Input, Metadata, Token, Webhook, parse_json, read
from turnkeeper.core.reserved_tenants import is_reserved

SCHEMA = "turnkeeper.job/v1"


def _is_somebodys(tenant_id: str) -> str:
    if is_reserved(tenant_id):
        raise ValueError("a tenant's name holds no '!'")
    return tenant_id


class Job(Body):
    schema_: Literal["turnkeeper.job/v1"] = Field(alias="schema")
    job_id: str = Field(min_length=1, max_length=128)
    tenant_id: Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_is_somebodys)]
    user_id: str = Field(min_length=1, max_length=128)
    role: str | None = Field(default=None, min_length=1, max_length=64)
    agent: AgentName
    input: Input
    metadata: Metadata
    webhook: Webhook | None = None
    #: The name of a queue of the deployment that each result of the session is sent to.
    reply_to: str | None = Field(default=None, min_length=1, max_length=64)
    #: Of W3C Trace Context: the turn is part of that trace. One that cannot be read begins a trace of its own.
    traceparent: str | None = Field(default=None, max_length=512)


class Continue(Body):
    schema_: Literal["turnkeeper.job/v1"] = Field(alias="schema")
    continuation_token: Token


def parse(body: str) -> Job | Continue:
    """Raises InvalidRequest with ``data["error_code"]``: ``not_json``, ``unknown_schema`` or ``invalid_job``."""
    try:
        value = parse_json(body)
    except ValueError as error:
        raise InvalidRequest("the body is not JSON", error_code="not_json") from error
    if not isinstance(value, dict) or value.get("schema") != SCHEMA:
        raise InvalidRequest(f'the body needs "schema": "{SCHEMA}"', error_code="unknown_schema")
    try:
        return read(Continue, value) if "continuation_token" in value else read(Job, value)
    except InvalidRequest as error:
        where = "; ".join(f"{each['where']}: {each['why']}" for each in error.data["errors"][:5])
        raise InvalidRequest(where, error_code="invalid_job") from error


def continue_body(token: str) -> str:
    return json.dumps({"schema": SCHEMA, "continuation_token": token})


def session_id_of_job(tenant_id: str, job_id: str) -> str:
    """The session of a job: derived, so that the sender knows it and a second delivery finds the first one's."""
    named = sorted_json(["turnkeeper.job", tenant_id, job_id], ascii=True, spaced=True)
    digest = hashlib.sha256(named).digest()
    alphabet = "0123456789abcdefghjkmnpqrstvwxyz"
    number = int.from_bytes(digest[:17])
    return "ses_" + "".join(alphabet[number >> (5 * index) & 31] for index in range(26))
