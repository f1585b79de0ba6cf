"""Tables of a stage's file: what is said in more than one line about one thing."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from turnkeeper_infra.config.shapes import Arn, KeyArn, SecretArn, shaped

SECRET_NAME = re.compile(r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|DSN)$", re.IGNORECASE)


class TableOfSettings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Statement(TableOfSettings):
    """What the runners may do besides; `actions` and `resources` as IAM has them, none of them a bare star."""

    sid: Annotated[str, shaped(r"[A-Za-z0-9]{1,60}", "letters and digits")]
    actions: tuple[Annotated[str, shaped(r"[a-z0-9-]+:[A-Za-z0-9]+", "one action, without a star")], ...]
    resources: tuple[Arn, ...]


class RunnerSecret(TableOfSettings):
    """A secret that the runners may read; a variable names it, so that a tool can fetch it."""

    variable: str
    arn: SecretArn
    kms_key_arn: KeyArn | None = None
    """The key that it is encrypted with, where that is a customer's."""


class ToolSecret(TableOfSettings):
    """A secret that tools may ask for by its name."""

    arn: SecretArn
    kms_key_arn: KeyArn | None = None
    """The key that it is encrypted with, where that is a customer's."""


class ReplyQueue(TableOfSettings):
    """A queue that jobs may have their results sent to."""

    arn: Annotated[str, shaped(r"arn:[^:\s]+:sqs:[a-z0-9-]+:\d{12}:[\w-]{1,80}(\.fifo)?", "the ARN of an SQS queue")]
    kms_key_arn: KeyArn | None = None
    """The key that it is encrypted with, where that is a customer's."""


def by_arn(value: object) -> object:
    """An ARN alone stands for a secret that no key of a customer's is on."""
    return {"arn": value} if isinstance(value, str) else value


class Runners(TableOfSettings):
    """What the two that run tools (turn Lambda and worker) are given besides."""

    variables: dict[str, str] = Field(default_factory=dict)
    secrets: tuple[RunnerSecret, ...] = ()
    policies: tuple[Statement, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> Self:
        named = [*self.variables, *(secret.variable for secret in self.secrets)]
        for name in named:
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or named.count(name) > 1:
                raise ValueError(f"{name!r} cannot be a variable's name, or is one twice")
            if name.startswith(("TURNKEEPER_", "AWS_", "POWERTOOLS_", "LAMBDA_", "ECS_")):
                raise ValueError(f"{name} belongs to the kit or to AWS; choose another prefix")
        for name in self.variables:
            if SECRET_NAME.search(name):
                raise ValueError(f"{name} looks like a secret; name its ARN in runners.secrets instead")
        return self


MemoryMb = Annotated[int, Field(ge=256, le=10_240)]


class Memory(TableOfSettings):
    """Megabytes of each Lambda; docs/cost.md says what each was measured to need."""

    front_door: MemoryMb = 256
    turn: MemoryMb = 1024
    observer: MemoryMb = 256
    scorer: MemoryMb = 512
    sweep: MemoryMb = 256
    traces: MemoryMb = 512
    deliver: MemoryMb = 256
    stream: MemoryMb = 512
