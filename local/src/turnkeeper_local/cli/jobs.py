"""Jobs as they go onto the queue, checked before any is sent."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from turnkeeper.adapters.sqs import MAX_MESSAGE_BYTES
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.runtime.jobs import SCHEMA, Job, parse, session_id_of_job
from turnkeeper_local.cli.deployed import Deployed
from turnkeeper_local.cli.errors import CliError


@dataclass(frozen=True, slots=True)
class Submission:
    job_id: str
    tenant_id: str
    agent: str
    user_id: str
    body: str
    #: Its id was made up here.
    is_new: bool = False
    #: Of the file that it came from.
    line: int | None = None

    @property
    def session_id(self) -> str:
        return session_id_of_job(self.tenant_id, self.job_id)

    def document(self) -> dict[str, str]:
        return {
            "job_id": self.job_id,
            "session_id": self.session_id,
            "tenant_id": self.tenant_id,
            "agent": self.agent,
        }


def one_job(fields: Mapping[str, Any]) -> Submission:
    """A job from its fields; those that are None are left out, and a job without an id gets one.

    Raises:
        CliError: the worker could never do it; says why.
    """
    values = {name: value for name, value in fields.items() if value is not None}
    is_new = "job_id" not in values
    values.setdefault("job_id", f"cli-{uuid.uuid4().hex}")
    body = json.dumps({"schema": SCHEMA, **values}, ensure_ascii=False)
    try:
        job = parse(body)
    except InvalidRequest as error:
        raise CliError(f"not a job: {error.detail}", code="invalid_job") from error
    if not isinstance(job, Job):
        raise CliError("a continuation is not a job", code="invalid_job")
    if len(body.encode(errors="replace")) > MAX_MESSAGE_BYTES:
        raise CliError(f"a job is at most {MAX_MESSAGE_BYTES:,} bytes", code="input_too_large")
    return Submission(job.job_id, job.tenant_id, job.agent, job.user_id, body, is_new)


def read_jobs(file: Path, common: Mapping[str, Any]) -> list[Submission]:
    """One job a line; empty lines are skipped.

    Raises:
        CliError: the file cannot be read, or a line is no job; says which line.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CliError(f"{file} cannot be read: {error}", code="unreadable") from error
    jobs: list[Submission] = []
    seen: dict[tuple[str, str], Submission] = {}
    # Not splitlines(): JSON strings may hold the other characters that it takes for line ends.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise CliError("not a JSON object", code="invalid_job")
            job = replace(one_job({**common, **fields}), line=number)
            if (other := seen.setdefault((job.tenant_id, job.job_id), job)) is not job:
                raise CliError(f"job_id {job.job_id!r} is also that of line {other.line}", code="duplicate_job")
            jobs.append(job)
        except (ValueError, CliError) as error:
            code = error.code if isinstance(error, CliError) else "invalid_job"
            raise CliError(f"{file}, line {number}: {error}", code=code, line=number) from error
    if not jobs:
        raise CliError(f"{file} holds no jobs", code="invalid_job")
    return jobs


def check_agents(jobs: Iterable[Submission], deployed: Deployed) -> None:
    """Raises CliError for the first job whose agent its tenant does not have: the worker could only set it aside."""
    for job in jobs:
        why_not = deployed.why_not(job.agent, tenant_id=job.tenant_id, user_id=job.user_id)
        if why_not is not None:
            where = f"line {job.line}: " if job.line is not None else ""
            raise CliError(
                f"{where}{why_not}",
                code="agent_not_found",
                hint="nothing was sent; --no-check sends it anyway, for an agent that is deployed in a moment",
                agent=job.agent,
            )
