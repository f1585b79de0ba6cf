"""What a process is told by its environment: read once, checked, frozen."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

PREFIX = "TURNKEEPER_"


def _paths(value: object) -> object:
    return tuple(part for part in value.split(":") if part) if isinstance(value, str) else value


def _words(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _table(value: object) -> object:
    try:
        return json.loads(value) if isinstance(value, str) else value
    except RecursionError as error:
        raise ValueError("nested too deep") from error


_Table = Annotated[Mapping[str, str], BeforeValidator(_table)]


class Settings(BaseModel):
    """Settings of every process of the kit; each comes from ``TURNKEEPER_<NAME>``. Those that a process does not use
    may be absent: what needs one says so when it is wired."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Where state is kept without AWS: ``postgresql://...``, or ``sqlite:///file`` (``sqlite:////file`` from the root).
    #: With it, what is named below of AWS is not used, save the bucket.
    database_url: SecretStr | None = None
    #: Whether a process makes or changes the database's tables when it starts; ``None``: SQLite's only.
    database_migrate: bool | None = None
    #: Connections of a process to PostgreSQL at most.
    database_connections: int = Field(default=10, ge=2, le=1_000)
    #: Contents above this size are kept outside of the database: in this folder, which all processes share, or in the
    #: bucket. Where neither is named, all are kept in the database.
    database_blob_bytes: int = Field(default=1024 * 1024, ge=0, le=64 * 1024 * 1024)
    blob_folder: Path | None = None
    #: Without AWS: a file of keys that sign tokens, one a line, the current one first; or the key itself.
    signing_key_file: Path | None = None
    signing_key: SecretStr | None = None
    #: Without AWS: a file that holds the model's key; else it is in ``ANTHROPIC_API_KEY``.
    model_key_file: Path | None = None
    #: Without AWS: a folder of files that hold the secrets of tools, each called as ``tool_secrets`` says.
    secrets_folder: Path | None = None
    #: Without AWS: who is told of alerts, by a POST of JSON; they are logged in any case.
    alert_url: SecretStr | None = None

    table: str | None = None
    bucket: str | None = None
    queue_url: str | None = None
    dlq_url: str | None = None
    turn_function: str | None = None
    signing_secret_id: str | None = None
    model_secret_id: str | None = None
    model_provider: Literal["anthropic", "bedrock"] = "anthropic"
    model_url: str | None = Field(default=None, pattern=r"^https?://\S+$")
    alert_topic_arn: str | None = None

    #: How long the turn Lambda works before it hands off; what is left of its timeout is for writing that down.
    turn_seconds: float = Field(default=840, gt=0, le=870)
    lease_seconds: float = Field(default=60, ge=1, le=43_200)
    #: Where a turn begins whose agent leaves it open: on the turn Lambda, or on a worker that has a slot free.
    auto_placement: Literal["latency", "economy"] = "latency"
    #: How long a call that begins a turn waits for its end, where it does not say so.
    default_wait_seconds: int = Field(default=20, ge=0, le=25)
    #: State is written in the forms of decision 0141. Off while a release is deployed that cannot read them.
    compact_writes: bool = True
    #: Sessions that a worker runs at once, in all its processes. One that is not told takes what its machine holds.
    worker_concurrency: int = Field(default=16, ge=1, le=1_000)
    #: Processes of a worker; ``None``: one for each core that it may use, or for each 64 of its sessions.
    worker_processes: int | None = Field(default=None, ge=1, le=64)
    #: The worker's ECS service as ``cluster/service``. Where it is named, whoever sends to the queue wakes it.
    worker_service: str | None = Field(default=None, pattern=r"^[^/]+/[^/]+$")
    worker_max_tasks: int = Field(default=10, ge=1, le=5_000)
    #: How long the worker may take between SIGTERM and its end; below the stop timeout of whoever kills it then.
    stop_seconds: float = Field(default=110, gt=0, lt=120)
    #: Turns that the front door runs itself, at a time, where it is a process of its own (docs/shapes.md). 0: all go
    #: onto the queue.
    front_door_turns: int = Field(default=16, ge=0, le=1_000)
    #: How often the sweep runs, where no schedule of AWS's starts it.
    sweep_seconds: float = Field(default=60, ge=1, le=3_600)
    health_port: int = Field(default=8080, ge=0, le=65_535)
    health_host: str = "127.0.0.1"
    #: Where the worker serves the gateway; 0: any free port; ``None``: it does not.
    gateway_port: int | None = Field(default=None, ge=0, le=65_535)
    gateway_host: str = "127.0.0.1"
    #: How long a call through the gateway waits for money in flight.
    gateway_wait_seconds: float = Field(default=30, ge=0, le=300)

    #: Whether what inputs name by address is fetched once, when they come in; else the model API does so, each time.
    fetch_contents: bool = True

    #: Programs of agents on the Claude Agent SDK that a worker runs at a time; each takes about 250 MB. ``None``: 4
    #: where each has a user of its own, else 1, since programs of one user see each other's files.
    agent_sdk_slots: int | None = Field(default=None, ge=1, le=1_000)
    #: Where their sessions' folders are: scratch space, at the same place on every worker.
    agent_sdk_folder: Path = Path("/tmp/turnkeeper-agents")  # noqa: S108 - a folder of its own, for one user
    #: Where the worker is root, the first user that programs run as: one a slot, numbered on from it. ``None``: the
    #: worker's own.
    agent_sdk_user: int | None = Field(default=None, ge=1, le=2**31)

    #: Where traces of turns are sent, by OTLP over HTTP; nobody makes any where this is not said.
    otlp_endpoint: str | None = Field(default=None, pattern=r"^https?://\S+$")
    #: A secret that holds the headers which the receiver wants, as a JSON object.
    otlp_secret_id: str | None = None
    #: Where turns wait whose traces are to be made.
    traces_queue_url: str | None = None
    #: Agents whose traces may hold contents, without secrets; ``*`` for all.
    trace_contents: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    #: What traces call this deployment.
    deployment: str = "local"

    #: Where turns wait whose end is to be told; nobody is told of any where this is not said.
    words_queue_url: str | None = None
    #: The bus of the account that each turn's end is put on.
    event_bus: str | None = None
    #: A secret with the keys that secrets of webhooks are made of.
    hook_secret_id: str | None = None
    #: Queues that jobs may have their results sent to: a JSON object of their names, each with its URL.
    reply_queues: _Table = Field(default_factory=dict)
    #: Networks beside the public ones that webhooks may lead into. For a kit on one's own machine: no stack names any.
    webhook_networks: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()

    #: Folders of agents beside ``agents/``, relative to the root.
    agents: Annotated[tuple[Path, ...], BeforeValidator(_paths)] = ()
    #: Where ``agents/`` and ``policy.toml`` are.
    root: Path = Path()

    #: Secrets that tools may ask for: a JSON object of their names, each with where it is in Secrets Manager.
    tool_secrets: _Table = Field(default_factory=dict)
    #: Settings that tools may ask for, a JSON object.
    tool_settings: _Table = Field(default_factory=dict)

    identity: Literal["jwt", "iam", "local"] = "iam"
    trusted_principals: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    jwt_tenant_claim: str = Field(default="tenant_id", pattern=r"^\S+$")
    jwt_user_claim: str = Field(default="sub", pattern=r"^\S+$")
    jwt_role_claim: str = Field(default="role", pattern=r"^\S+$")
    #: Whose tokens the front door takes where it checks them itself, since nobody in front of it does (with identity
    #: ``jwt``), and for whom they have to be.
    jwt_issuer: str | None = Field(default=None, pattern=r"^https?://\S+$")
    jwt_audience: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    #: Origins whose pages may call the front door from a browser.
    cors_origins: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    #: Where the front door listens as a server; 0: any free port.
    api_port: int = Field(default=8000, ge=0, le=65_535)
    api_host: str = "127.0.0.1"
    #: A socket that listens there already, handed on by whoever starts the process and the next one: no caller is
    #: refused in between.
    api_fd: int | None = Field(default=None, ge=3)
    #: Addresses of proxies whose word about a caller's address is taken; nobody's, unless it is said.
    forwarded_allow_ips: Annotated[tuple[str, ...], BeforeValidator(_words)] = ()
    #: How long a stream stays open; who reads on connects again.
    stream_seconds: float = Field(default=840, ge=1, le=870)
    #: How many streams a process of the front door holds open at most, of one user a quarter of them.
    stream_readers: int = Field(default=2_000, ge=1)
    #: Whether requests come through the Lambda Web Adapter: then its word is taken for who signed them.
    web_adapter: bool = False

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """Settings from the environment; empty values count as absent.

        Raises:
            pydantic.ValidationError: names each setting that is missing or makes no sense.
        """
        values = {
            name: environment[f"{PREFIX}{name.upper()}"]
            for name in cls.model_fields
            if environment.get(f"{PREFIX}{name.upper()}")
        }
        values.setdefault("root", environment.get("LAMBDA_TASK_ROOT", "."))
        return cls.model_validate(values)
