"""What can be chosen about a deployment, checked before anything is built.

Chosen in the stage's file (`stages/prod.toml`) and overridden by flags (`cdk -c key=value`); `turnkeeper_infra.stages`
reads both. A value that makes no sense, or a setting that does not exist, is refused here by name.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator

from turnkeeper_infra.config.checks import check
from turnkeeper_infra.config.choices import SESSIONS_A_VCPU, Choices
from turnkeeper_infra.config.tables import Memory, ReplyQueue, Runners, RunnerSecret, Statement

CHOOSE_IDENTITY = """\
identity is not chosen: who may call the API is said in the stage's file (stages/*.toml), as one of

    identity = "jwt"                                 # tokens of an issuer, checked by API Gateway
    jwt_issuer = "https://login.example.com/"
    jwt_audience = ["turnkeeper"]

    identity = "iam"                                 # requests signed with AWS credentials
    trusted_principals = ["arn:aws:iam::111122223333:role/Backend"]"""


class ConfigError(ValueError):
    """A setting that cannot be used; says which, and what to write."""


class Config(Choices):
    """One deployment, of which all that was chosen goes together."""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Config:
        """Check settings as they were written, in TOML or on the command line.

        Raises:
            ConfigError: names each setting that cannot be used, and for one that does not exist the nearest that does.
        """
        try:
            return cls.model_validate(dict(settings))
        except ValidationError as error:
            raise ConfigError("\n".join(_told(problem) for problem in error.errors())) from None

    @model_validator(mode="before")
    @classmethod
    def _by_stage(cls, settings: dict[str, Any]) -> dict[str, Any]:
        """Defaults that follow from another choice."""
        settings = dict(settings)
        cheap = settings.get("stage") == "dev" or "vpc_id" in settings
        settings.setdefault("nat_gateways", 0 if cheap else 1)
        vcpus = str(settings.get("worker_vcpus", 1))
        if vcpus.isdecimal():
            settings.setdefault("worker_concurrency", SESSIONS_A_VCPU * int(vcpus))
        for name in ("turn_concurrency", "stream_concurrency"):
            settings.setdefault(name, 0 if settings.get("stage") == "dev" else 100)
        if str(settings.get("local")).lower() in {"1", "true", "yes"}:
            settings.setdefault("identity", "local")
        return settings

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        check(self)
        return self


def _told(problem: Any) -> str:
    """One line about one problem."""
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing" and where == "identity":
        return CHOOSE_IDENTITY
    if problem["type"] == "extra_forbidden":
        return f"{where} is no setting{_nearest(problem['loc'])}"
    if problem["type"] == "value_error":
        text = str(problem["ctx"]["error"])
        return f"{where} {text}" if where else text
    return f"{where}: {problem['msg']}, not {problem['input']!r}"


def _nearest(place: tuple[str | int, ...]) -> str:
    tables: dict[str | int, type[BaseModel]] = {
        "memory_mb": Memory,
        "runners": Runners,
        "secrets": RunnerSecret,
        "reply_queues": ReplyQueue,
        "policies": Statement,
    }
    within = [tables[part] for part in place[:-1] if part in tables]
    found = difflib.get_close_matches(str(place[-1]), (within or [Choices])[-1].model_fields, n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""
