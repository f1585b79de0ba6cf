"""All that can be chosen about a deployment, and what each may be by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from turnkeeper_infra.config.shapes import (
    ARN,
    KeyArn,
    Principal,
    SecretArn,
    ValueName,
    Word,
    Words,
    listed,
    no_switch,
    one_of,
    parsed,
    shaped,
    switch,
)
from turnkeeper_infra.config.tables import Memory, ReplyQueue, Runners, ToolSecret, by_arn
from turnkeeper_project import KitSource, find_project, kit_source

Stage = Literal["prod", "dev"]
Provider = Literal["anthropic", "bedrock"]
Identity = Literal["jwt", "iam", "local"]

SESSIONS_A_VCPU = 64
"""As measured (docs/decisions/0142); a worker that nobody tells takes as many."""
_PROCESSES_A_VCPU = 5
"""As many as 4 GB hold (`turnkeeper.core.worker_size`)."""


class Choices(BaseModel):
    """One deployment. Every field is a key of the stage's file, and of the CDK context."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, shaped(r"[A-Za-z][A-Za-z0-9-]{0,60}", "letters, digits and hyphens")] = "Turnkeeper"
    """Prefix of the stack names, so that two deployments fit into one account and region."""
    stage: Stage = "prod"
    """`prod` keeps table and bucket when the stack goes and protects the table; `dev` lets everything go."""
    local: bool = False
    """For the emulator: state and API only, no authorizer, dependencies from a folder of this machine."""
    nag: bool = False
    """Check the stacks against cdk-nag's AwsSolutions while synthesizing."""
    project: Path = Field(default_factory=lambda: find_project().root)
    """The repository that holds `agents/`, `policy.toml` and `stages/`."""
    source_root: Path | None = None
    """A tree of the kit's own repository to take the kit's parts from, instead of the kit that is installed."""
    local_dependencies: Path | None = None
    """Local only: the folder that the Lambdas import their dependencies from."""

    identity: Identity
    """Where the caller's identity comes from, never from a body. Has to be chosen; `local` is the emulator's."""
    jwt_issuer: Annotated[str, shaped(r"https://\S+", "an https address")] | None = None
    """Whose tokens are accepted; API Gateway checks them."""
    jwt_audience: Words = ()
    """Whom a token has to be for: one of these."""
    jwt_tenant_claim: Word = "tenant_id"
    """The claim of a token that names the tenant."""
    jwt_user_claim: Word = "sub"
    """The claim that names the user."""
    jwt_role_claim: Word = "role"
    """The claim that names the role, or a list of which `policy.toml` describes one."""
    trusted_principals: Annotated[tuple[Principal, ...], BeforeValidator(listed)] = ()
    """IAM identity only: role ARNs that may name a tenant and a user in headers."""
    cors_origins: Annotated[
        tuple[Annotated[str, shaped(r"https?://[^/\s*]+", "an origin such as https://app.example.com")], ...],
        BeforeValidator(listed),
    ] = ()
    """Origins whose pages may call the API from a browser."""
    streaming: Annotated[bool, BeforeValidator(switch)] = False
    """Answer at an address of its own, the output `StreamUrl`, in streams that show what the model says as it does."""
    stream_public: Annotated[bool, BeforeValidator(switch)] = False
    """With IAM identity: let that address take stream tokens from anywhere, as browsers send them, instead of signed
    requests. With tokens of an issuer it is open anyway, since the application checks them."""
    stream_seconds: int = Field(300, ge=10, le=840)
    """When a stream ends with a word on where to go on. Lambda bills it to this end, also when its reader is gone."""
    stream_concurrency: int = Field(100, ge=0, le=100_000)
    """Streams that are open at once, at most, and what is reserved for them. 0 reserves nothing; that is the default in
    `dev`."""
    stream_adapter_arn: (
        Annotated[str, shaped(r"arn:[^:\s]+:lambda:[^:\s]+:\d{12}:layer:[\w-]+:\d+", "a layer version's ARN")] | None
    ) = None
    """The Lambda Web Adapter's layer for arm64, instead of the one that AWS publishes in each region of its own."""

    model_provider: Provider = "anthropic"
    """Who runs Claude: Anthropic with a key, or Bedrock in the account without one."""
    model_url: Annotated[str, shaped(r"https?://\S+", "an address such as https://api.anthropic.com")] | None = None
    model_secret_arn: SecretArn | None = None
    """An existing secret that holds the Anthropic API key, instead of the stack's own one."""
    model_secret_kms_key_arn: KeyArn | None = None
    """The key that the existing secret is encrypted with, where that is a customer's."""
    turn_seconds: int = Field(840, ge=1, le=870)
    """How long a turn works on Lambda before it is handed off to the worker."""
    turn_timeout_seconds: int = Field(900, ge=1, le=900)
    """When Lambda ends the turn runner; what lies between is for handing off."""
    turn_concurrency: int = Field(100, ge=0, le=100_000)
    """Turns that run at once in Lambda, and what is reserved for them. 0 reserves nothing; that is the default in
    `dev`, since a new account has too few to reserve any."""
    auto_placement: Literal["latency", "economy"] = "latency"
    """Where a turn begins whose agent leaves it open (`placement="auto"`): on the turn Lambda, or, where a worker has a
    slot free, there, for a twentieth of the price (docs/cost.md)."""
    default_wait_seconds: int = Field(20, ge=0, le=25)
    """How long a call that begins a turn waits for its end where it has no `Prefer: wait=N`. Each second is one of the
    front door's."""
    memory_mb: Annotated[Memory, BeforeValidator(parsed)] = Field(default_factory=Memory)
    """Memory of the Lambdas, and with it their share of a processor: 1,769 MB are one."""
    lease_seconds: int = Field(60, ge=1, le=43_200)
    """How long a runner that went silent still holds a session, and a message; heartbeats extend both."""
    compact_writes: bool = True
    """Write state in the forms that take the fewest write units. `false` for the one deployment that replaces a release
    which cannot read them."""
    worker_vcpus: Annotated[int, one_of(1, 2, 4, 8)] = 1
    """Processors of one task of the worker, each with a process of its own at least, and 4 GB of memory."""
    worker_concurrency: int = Field(SESSIONS_A_VCPU, ge=1, le=1_000)
    """Sessions that one task of the worker runs at once; 64 a processor where it is not said."""
    worker_max_tasks: int = Field(10, ge=1, le=5_000)
    """Tasks of the worker, at most."""
    worker_min_tasks: Annotated[int, Field(ge=0, le=5_000)] | None = None
    """Tasks of the worker at rest. Without it none; with `auto_placement = "economy"`, or the gateway, one."""
    worker_image: (
        Annotated[
            str,
            shaped(r"[a-z0-9][\w.:/-]*@sha256:[0-9a-f]{64}", "an image by its digest (`...@sha256:...`); a tag moves"),
        ]
        | None
    ) = None
    """An image that is built already; without it, the deploy builds one, which needs Docker."""
    agent_sdk: Annotated[bool, BeforeValidator(switch)] = False
    """Build the worker's image with the Claude Agent SDK, for agents that are written on it (178 MB)."""
    nat_gateways: int = Field(1, ge=0, le=6)
    """0 puts the worker's tasks into public subnets with an address each (cheaper, no inbound either way); in `dev`
    that is the default. Not where the network is an existing one."""
    vpc_id: Annotated[str, shaped(r"vpc-[0-9a-f]+", "a VPC's id")] | None = None
    """An existing network for the runners, instead of one of the kit's own."""
    vpc_subnet_ids: Annotated[
        tuple[Annotated[str, shaped(r"subnet-[0-9a-f]+", "a subnet's id")], ...], BeforeValidator(listed)
    ] = ()
    """Its private subnets, with a way to the model: a NAT, or an endpoint where that is Bedrock."""
    vpc_cidr: Annotated[str, shaped(r"\d+(\.\d+){3}/\d+", "an address range such as 10.0.0.0/16")] | None = None
    """The existing network's address range, from which `vpc_endpoints` may be called."""
    vpc_security_group_ids: Annotated[
        tuple[Annotated[str, shaped(r"sg-[0-9a-f]+", "a security group's id")], ...], BeforeValidator(listed)
    ] = ()
    """Security groups that the runners join besides their own, which lets nothing in."""
    vpc_functions: Literal["runners", "all", "none"] = "runners"
    """Which Lambdas stand in the existing network: the one that runs tools, all, or none."""
    vpc_endpoints: Words = ()
    """Interface endpoints to make in the network, by AWS's name of the service (`secretsmanager`, `bedrock-runtime`) or
    by the whole name of a private one (`com.amazonaws.vpce...`)."""
    kms_key_arn: KeyArn | None = None
    """A customer's key for table, bucket, queues, topic, logs and secrets. Its policy has to let the services in
    (docs/deploy.md)."""
    table_name: Annotated[str, shaped(r"[\w.-]{3,255}", "a table's name")] | None = None
    """A table to work on instead of the stack's own: one that a backup was restored into
    (docs/operations/restore.md)."""
    table_stream_arn: (
        Annotated[str, shaped(r"arn:[^:\s]+:dynamodb:[^:\s]+:\d{12}:table/\S+/stream/\S+", "a stream's ARN")] | None
    ) = None
    """The stream of `table_name`, which a restored table has only once it is given one."""
    domain_name: Annotated[str, shaped(r"([a-z0-9-]+\.)+[a-z]{2,}", "a host's name")] | None = None
    """A name of one's own for the API, through CloudFront. For tokens only: a signature names the API's own host."""
    certificate_arn: (
        Annotated[str, shaped(r"arn:[^:\s]+:acm:us-east-1:\d{12}:certificate/\S+", "a certificate's ARN, in us-east-1")]
        | None
    ) = None
    """The certificate of `domain_name`, in us-east-1."""
    web_acl_arn: (
        Annotated[
            str,
            shaped(r"arn:[^:\s]+:wafv2:us-east-1:\d{12}:global/webacl/\S+", "a web ACL's ARN, of CloudFront's scope"),
        ]
        | None
    ) = None
    """What looks at requests before the API does."""
    gateway_certificate_arn: (
        Annotated[str, shaped(r"arn:[^:\s]+:acm:[^:\s]+:\d{12}:certificate/\S+", "a certificate's ARN")] | None
    ) = None
    """Serve the gateway (docs/gateway.md) inside the network, behind a load balancer with this certificate. One task of
    the worker then always runs."""
    permissions_boundary_arn: Annotated[str, shaped(ARN.format(service="iam"), "a policy's ARN")] | None = None
    """The permissions boundary of every role, where an account demands one."""
    fetch_contents: Annotated[bool, BeforeValidator(switch)] = True
    """Fetch what inputs name by address, once, when they come in; else the model API does, at each request."""
    agents: str = ""
    """Further folders of agents, relative to the project, with colons between."""
    allow_broken: Annotated[bool, BeforeValidator(switch)] = False
    """Deploy although an agent cannot be loaded, or would fail in every turn: the others work."""
    secrets: Annotated[dict[ValueName, Annotated[ToolSecret, BeforeValidator(by_arn)]], BeforeValidator(parsed)] = (
        Field(default_factory=dict)
    )
    """What tools get by `ctx.secret(NAME)`: its ARN, or `{ arn = "...", kms_key_arn = "..." }`."""
    settings: Annotated[dict[ValueName, str], BeforeValidator(parsed)] = Field(default_factory=dict)
    """What tools get by `ctx.setting(NAME)`."""
    reply_queues: Annotated[
        dict[ValueName, Annotated[ReplyQueue, BeforeValidator(by_arn)]], BeforeValidator(parsed)
    ] = Field(default_factory=dict)
    """Queues that a job may name as its `reply_to`, by the name that it uses: each one's ARN, or
    `{ arn = "...", kms_key_arn = "..." }`."""
    traces: Annotated[
        str, shaped(r"off|cloudwatch|https?://\S+", "`off`, `cloudwatch`, or the address of an OTLP receiver")
    ] = "off"
    """Where traces of turns go: nowhere, to CloudWatch's own receiver (docs/operations/traces.md says what has to be
    switched on for it), or to a receiver that speaks OTLP over HTTP."""
    traces_secret_arn: SecretArn | None = None
    """A secret that holds the headers which the receiver wants, as a JSON object."""
    traces_secret_kms_key_arn: KeyArn | None = None
    """The key that it is encrypted with, where that is a customer's."""
    trace_contents: Words = ()
    """Agents whose traces may hold what was said, without secrets; `*` for all."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least that is logged."""
    log_retention_days: Annotated[int, one_of(7, 30, 90, 365, 731)] = 90
    """How long logs are kept: 7, 30, 90, 365 or 731 days."""
    api_rate_limit: int = Field(200, ge=1, le=1_000_000)
    """Requests a second that the API takes, over all callers."""
    api_burst_limit: int = Field(400, ge=1, le=1_000_000)
    """Requests that it takes at one moment."""
    alert_email: Annotated[str, shaped(r"[^@\s]+@[^@\s]+", "an e-mail address")] | None = None
    """Who is sent alarms and alerts, once the mail that SNS sends is confirmed."""
    spend_alarm_usd_per_hour: float = Field(20, gt=0, allow_inf_nan=False)
    """All tenants together, spent at this rate for a quarter of an hour: an alarm rings. It stops nothing; caps do."""
    runbook_url: Annotated[str, shaped(r"[^\s#]{1,500}", "an address without an anchor")] = "docs/operations/runbook.md"
    """Where whoever is woken reads what to do: each alarm names it, with its section as the anchor."""
    runners: Annotated[Runners, BeforeValidator(parsed)] = Runners()
    """What the two that run tools are given besides: the tables below."""

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_no_switches(cls, value: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        return value if cls.model_fields[info.field_name].annotation is bool else no_switch(value)

    @property
    def kit(self) -> KitSource:
        return kit_source(self.source_root)

    @property
    def agent_folders(self) -> list[Path]:
        """The project's own, then those of `agents`, relative to the project."""
        return [self.project / part for part in ("agents", *filter(None, self.agents.split(":")))]

    @property
    def worker_processes(self) -> int:
        """Of one task of the worker: one a processor, and one for each 64 of its sessions, as far as its memory
        goes."""
        wanted = -(-self.worker_concurrency // SESSIONS_A_VCPU)
        return min(max(self.worker_vcpus, wanted), _PROCESSES_A_VCPU * self.worker_vcpus, self.worker_concurrency)

    @property
    def least_tasks(self) -> int:
        """Tasks of the worker at rest."""
        least = int(self.auto_placement == "economy") if self.worker_min_tasks is None else self.worker_min_tasks
        return max(least, int(self.gateway_certificate_arn is not None))

    @property
    def keeps_data(self) -> bool:
        return self.stage == "prod" and not self.local
