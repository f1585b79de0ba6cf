"""Bodies of queue messages, and the session ids that jobs derive."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnkeeper.core.errors import InvalidRequest
from turnkeeper.runtime.jobs import SCHEMA, Continue, Job, continue_body, parse, session_id_of_job

JOB = {"schema": SCHEMA, "job_id": "j", "tenant_id": "acme", "user_id": "u1", "agent": "research", "input": "go"}


def body(**changes: Any) -> str:
    return json.dumps({name: value for name, value in (JOB | changes).items() if value is not ...})


def test_a_job() -> None:
    job = parse(body(role="user", metadata={"a": 1}))
    assert isinstance(job, Job)
    assert (job.job_id, job.tenant_id, job.role, job.metadata) == ("j", "acme", "user", {"a": 1})
    assert isinstance(parse(body(input=[{"type": "text", "text": "hi"}])), Job)


def test_a_continue() -> None:
    message = parse(continue_body("token"))
    assert isinstance(message, Continue)
    assert message.continuation_token == "token"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not_json"),
        ("{", "not_json"),
        ("[" * 100_000, "not_json"),
        ("1" * 10_000, "not_json"),
        ("null", "unknown_schema"),
        ("[]", "unknown_schema"),
        ("{}", "unknown_schema"),
        (body(schema="turnkeeper.job/v2"), "unknown_schema"),
        (body(job_id=...), "invalid_job"),
        (body(job_id=""), "invalid_job"),
        (body(job_id="x" * 129), "invalid_job"),
        (body(job_id=5), "invalid_job"),
        (body(tenant_id=""), "invalid_job"),
        (body(tenant_id="acme!evals"), "invalid_job"),
        (body(user_id=None), "invalid_job"),
        (body(agent="x" * 64), "invalid_job"),
        (body(input=...), "invalid_job"),
        (body(input=""), "invalid_job"),
        (body(input=" \n"), "invalid_job"),
        (body(input=[]), "invalid_job"),
        (body(input=["x"]), "invalid_job"),
        (body(input=[{"type": "tool_result", "tool_use_id": "x"}]), "invalid_job"),
        (body(input=[{"type": "text", "text": 5}]), "invalid_job"),
        (body(metadata="x"), "invalid_job"),
        (body(metadata={"x": "y" * 20_000}), "invalid_job"),
        (body(scopes=["admin"]), "invalid_job"),
        (body(role=["admin"]), "invalid_job"),
        (body(continuation_token="t"), "invalid_job"),
        (json.dumps({"schema": SCHEMA, "continuation_token": ""}), "invalid_job"),
        (json.dumps({"schema": SCHEMA, "continuation_token": "x" * 5_000}), "invalid_job"),
        ('{"schema": "turnkeeper.job/v1", "job_id": "\\ud800"}', "invalid_job"),
    ],
)
def test_what_cannot_work_is_told_apart(text: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(text)
    assert refused.value.data["error_code"] == code


@given(st.text())
def test_any_text_is_refused_or_understood(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=5,
    )
)
@settings(max_examples=40)
def test_any_value_in_any_field_is_refused_or_understood(value: Any) -> None:
    for name in JOB:
        try:
            assert isinstance(parse(body(**{name: value})), Job)
        except InvalidRequest as refused:
            assert refused.data["error_code"] in {"invalid_job", "unknown_schema"}


def test_the_sender_knows_the_session() -> None:
    known = session_id_of_job("acme", "job-1")
    assert re.fullmatch(r"ses_[0-9a-hjkmnp-tv-z]{26}", known)
    assert session_id_of_job("acme", "job-1") == known
    assert len({known, session_id_of_job("acme", "job-2"), session_id_of_job("acm", "ejob-1")}) == 3
