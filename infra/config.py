"""What can be chosen about a deployment, read once from the CDK context.

Context values arrive as strings when they come from `cdk -c key=value` and as JSON when they come from
cdk.json; both are accepted. A value that makes no sense is refused here, by name, before anything is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

if TYPE_CHECKING:  # the bundler reads this module too, and must not start jsii for it
    from constructs import Node

REPOSITORY = Path(__file__).resolve().parent.parent

Stage = Literal["prod", "dev"]
Provider = Literal["anthropic", "bedrock"]
Identity = Literal["jwt", "iam", "local"]


class ConfigError(ValueError):
    """A context value that cannot be used."""


@dataclass(frozen=True, slots=True)
class Config:
    """One deployment. Every field has a context key of the same name."""

    name: str = "Turnkeeper"
    """Prefix of the stack names, so that two deployments fit into one account and region."""
    stage: Stage = "prod"
    """`prod` keeps table and bucket when the stack goes and protects the table; `dev` lets everything go."""
    local: bool = False
    """For the emulator: state and API only, no authorizer, dependencies from a folder of this machine."""
    nag: bool = False
    """Check the stacks against cdk-nag's AwsSolutions while synthesizing."""
    source_root: Path = REPOSITORY
    """Where `functions/`, `agents/`, `policy.toml` and `shared/` are taken from."""
    local_dependencies: Path | None = None
    """Local only: the folder that the Lambdas import their dependencies from."""

    jwt_issuer: str | None = None
    jwt_audience: tuple[str, ...] = ()
    jwt_tenant_claim: str = "tenant_id"
    jwt_user_claim: str = "sub"
    jwt_role_claim: str = "role"
    trusted_principals: tuple[str, ...] = ()
    """IAM identity only: role ARNs that may name a tenant and a user in headers."""

    model_provider: Provider = "anthropic"
    model_url: str | None = None
    model_secret_arn: str | None = None
    """An existing secret that holds the Anthropic API key; without it the stack creates one to be filled."""
    turn_seconds: int = 840
    turn_timeout_seconds: int = 900
    lease_seconds: int = 60
    """How long a runner that went silent still holds a session, and a message; heartbeats extend both."""
    worker_concurrency: int = 16
    worker_max_tasks: int = 10
    nat_gateways: int = 1
    """0 puts the worker's tasks into public subnets with an address each (cheaper, no inbound either way)."""
    fetch_contents: bool = True
    """Fetch what inputs name by address, once, when they come in; else the model API does, at each request."""
    agents: str = ""
    log_level: str = "INFO"
    log_retention_days: int = 90
    api_rate_limit: int = 200
    api_burst_limit: int = 400
    alert_email: str | None = None

    @property
    def identity(self) -> Identity:
        """Where the caller's identity comes from; never from a body."""
        if self.local:
            return "local"
        return "jwt" if self.jwt_issuer else "iam"

    @property
    def keeps_data(self) -> bool:
        return self.stage == "prod" and not self.local

    @classmethod
    def from_context(cls, node: Node) -> Config:
        """Read every key from the context of `node`; unset keys take the defaults above."""
        defaults = cls()
        read = _Reader(node)
        config = cls(
            name=read.text("name", defaults.name),
            stage=cast(Stage, read.one_of("stage", get_args(Stage), defaults.stage)),
            local=read.flag("local"),
            nag=read.flag("nag"),
            source_root=Path(read.text("source_root", str(REPOSITORY))).resolve(),
            local_dependencies=read.path("local_dependencies"),
            jwt_issuer=read.optional("jwt_issuer"),
            jwt_audience=read.words("jwt_audience"),
            jwt_tenant_claim=read.text("jwt_tenant_claim", defaults.jwt_tenant_claim),
            jwt_user_claim=read.text("jwt_user_claim", defaults.jwt_user_claim),
            jwt_role_claim=read.text("jwt_role_claim", defaults.jwt_role_claim),
            trusted_principals=read.words("trusted_principals"),
            model_provider=cast(Provider, read.one_of("model_provider", get_args(Provider), defaults.model_provider)),
            model_url=read.optional("model_url"),
            model_secret_arn=read.optional("model_secret_arn"),
            turn_seconds=read.number("turn_seconds", defaults.turn_seconds, at_most=870),
            turn_timeout_seconds=read.number("turn_timeout_seconds", defaults.turn_timeout_seconds, at_most=900),
            lease_seconds=read.number("lease_seconds", defaults.lease_seconds, at_most=43_200),
            worker_concurrency=read.number("worker_concurrency", defaults.worker_concurrency),
            worker_max_tasks=read.number("worker_max_tasks", defaults.worker_max_tasks),
            nat_gateways=read.number("nat_gateways", defaults.nat_gateways, at_least=0),
            fetch_contents=read.switch("fetch_contents", defaults.fetch_contents),
            agents=read.text("agents", ""),
            log_level=read.text("log_level", defaults.log_level),
            log_retention_days=read.number("log_retention_days", defaults.log_retention_days),
            api_rate_limit=read.number("api_rate_limit", defaults.api_rate_limit),
            api_burst_limit=read.number("api_burst_limit", defaults.api_burst_limit),
            alert_email=read.optional("alert_email"),
        )
        if config.jwt_issuer and not config.jwt_audience:
            raise ConfigError("jwt_issuer needs jwt_audience: a token for another audience must be refused")
        return config


class _Reader:
    """Typed look-ups in the CDK context."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def optional(self, key: str) -> str | None:
        value = self._node.try_get_context(key)
        return None if value is None or value == "" else str(value)

    def text(self, key: str, default: str) -> str:
        return self.optional(key) or default

    def path(self, key: str) -> Path | None:
        value = self.optional(key)
        return Path(value).resolve() if value else None

    def words(self, key: str) -> tuple[str, ...]:
        value = self._node.try_get_context(key)
        if isinstance(value, list):
            return tuple(str(item) for item in value)
        return tuple(part.strip() for part in str(value or "").split(",") if part.strip())

    def flag(self, key: str) -> bool:
        return str(self._node.try_get_context(key) or "").lower() in {"1", "true", "yes"}

    def switch(self, key: str, default: bool) -> bool:
        value = self.text(key, str(default)).lower()
        if value not in {"true", "false"}:
            raise ConfigError(f"{key} must be true or false, not {value!r}")
        return value == "true"

    def one_of(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = self.text(key, default)
        if value not in allowed:
            raise ConfigError(f"{key} must be one of {', '.join(allowed)}, not {value!r}")
        return value

    def number(self, key: str, default: int, *, at_least: int = 1, at_most: int = 1_000_000) -> int:
        value = self.optional(key)
        try:
            number = int(value) if value is not None else default
        except ValueError:
            raise ConfigError(f"{key} must be a whole number, not {value!r}") from None
        if not at_least <= number <= at_most:
            raise ConfigError(f"{key} must be between {at_least} and {at_most}, not {number}")
        return number
