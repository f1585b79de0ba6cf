"""What values of a stage's file look like, and how they are written on the command line."""

from __future__ import annotations

import json
import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator


def listed(value: object) -> object:
    """A list in TOML is one; on the command line it is words with commas between."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def parsed(value: object) -> object:
    """A table in TOML is one; on the command line it is JSON."""
    return json.loads(value) if isinstance(value, str) else value


def switch(value: object) -> object:
    """True or false, and on the command line these words: what else might mean a no would mean it by luck."""
    if isinstance(value, str) and value.lower() not in {"true", "false"}:
        raise ValueError(f"must be true or false, not {value!r}")
    return value


def no_switch(value: object) -> object:
    """What is a number is not said by true, which would be 1."""
    if isinstance(value, bool):
        raise ValueError(f"must be a number, not {str(value).lower()}")
    return value


def shaped(pattern: str, what: str) -> AfterValidator:
    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"must be {what}, not {value!r}")
        return value

    return AfterValidator(check)


def one_of(*values: int) -> AfterValidator:
    def check(value: int) -> int:
        if value not in values:
            raise ValueError(f"must be one of {', '.join(map(str, values))}, not {value}")
        return value

    return AfterValidator(check)


ARN = r"arn:[^:\s]+:{service}:[^:\s]*:[^:\s]*:\S+"
PRINCIPAL = r"arn:P+:(?:iam|sts)::P+:[\w+=,.@/-]+".replace("P", r"(?:[\w-]|\$\{AWS::\w+\})")
Arn = Annotated[str, shaped(ARN.format(service=r"[a-z0-9-]+"), "an ARN")]
KeyArn = Annotated[
    str, shaped(r"arn:[^:\s]+:kms:[^:\s]+:\d{12}:key/[\w-]+", "the ARN of a KMS key (not of an alias of one)")
]
SecretArn = Annotated[
    str, shaped(ARN.format(service="secretsmanager") + r"-\w{6}", "a secret's whole ARN, with its random end")
]
Principal = Annotated[str, shaped(PRINCIPAL, "the ARN of a role or a user; `${AWS::AccountId}` stands for ours")]
ValueName = Annotated[str, shaped(r"[a-z][a-z0-9_]{0,62}", "lower case letters, digits and '_', at most 63")]
Word = Annotated[str, shaped(r"\S+", "a word")]
Words = Annotated[tuple[Word, ...], BeforeValidator(listed)]
