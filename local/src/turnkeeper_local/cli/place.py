"""Which kit a command works on: the local one that is up, one deployed in an account, or one on a database."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnkeeper_local.cli.errors import CliError, UsageError
from turnkeeper_local.databases import VARIABLE
from turnkeeper_project import find_project

if TYPE_CHECKING:
    import boto3

#: Prefix of the stacks where `cdk deploy` is given none; the local kit's is always this.
DEFAULT_STACKS = "Turnkeeper"
LOCAL_TENANT, LOCAL_USER, LOCAL_ROLE = "local", "dev", "admin"

#: Where the API of a kit on a database answers.
API = "TURNKEEPER_API_URL"

_DOWN = "bring it up with `turnkeeper up` or `turnkeeper serve`, or name a deployed kit with --stack NAME"


@dataclass(frozen=True)
class Place:
    """A kit that can be talked to."""

    #: Prefix of its stacks.
    stacks: str
    local: bool
    region: str | None = None
    endpoint_url: str | None = None
    #: What local.json says; empty for a deployed kit.
    document: dict[str, Any] = field(default_factory=dict)
    #: Where its state is, for one without AWS.
    database_url: str | None = field(default=None, repr=False)

    @cached_property
    def session(self) -> boto3.Session:
        """Credentials: the emulator's for the local kit, whatever AWS tools use for a deployed one."""
        import boto3

        if self.database_url is not None:
            raise CliError("this kit stands on a database: it has no AWS account", code="no_account")
        self.enter()
        if self.local:
            return boto3.Session("test", "test", region_name=self.region)
        return boto3.Session(region_name=self.region)

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The outputs of the state stack and the API stack.

        Raises:
            CliError: there are no such stacks.
        """
        from botocore.exceptions import ClientError

        make: Any = self.session.client
        client = make("cloudformation", endpoint_url=self.endpoint_url)
        found: dict[str, str] = {}
        for stack in (f"{self.stacks}State", f"{self.stacks}Api"):
            try:
                described = client.describe_stacks(StackName=stack)["Stacks"][0]
            except ClientError as error:
                # Whatever else went wrong, such as a token that has expired, is told as what it is.
                if error.response["Error"]["Code"] != "ValidationError":
                    raise
                where = self.session.region_name or "no region"
                raise CliError(
                    f"there is no stack {stack} in {where}: {error}",
                    code="stack_not_found",
                    hint="--stack takes the `name` in the stage's file (stages/*.toml), by default Turnkeeper",
                ) from error
            found.update({item["OutputKey"]: item["OutputValue"] for item in described.get("Outputs", [])})
        return found

    @property
    def api_url(self) -> str:
        if self.local:
            return str(self.document["api_url"])
        if self.database_url is None:
            return self.outputs["ApiUrl"].rstrip("/")
        if not (url := os.environ.get(API)):
            raise CliError(f"{API} does not say where this kit answers", code="kit_down")
        return url.rstrip("/")

    @property
    def stream_url(self) -> str | None:
        """Where it streams; ``None`` where it does not."""
        if self.database_url is not None and not self.local:
            return self.api_url
        url = self.document.get("stream_url") if self.local else self.outputs.get("StreamUrl")
        return str(url).rstrip("/") if url else None

    def tenant(self, named: str | None) -> str:
        """The tenant that is meant; only the local kit has one by default."""
        return self._named(named, LOCAL_TENANT, "--tenant")

    def user(self, named: str | None) -> str:
        return self._named(named, LOCAL_USER, "--user")

    def role(self, named: str | None) -> str | None:
        """The role of a job; without one, the policy's default."""
        return named or (LOCAL_ROLE if self.local else None)

    def _named(self, named: str | None, default: str, option: str) -> str:
        if named:
            return named
        if self.local:
            return default
        raise UsageError(f"{option} is needed for a deployed kit", code="usage")

    def enter(self) -> None:
        """Make AWS clients of this process talk to this place. Profiles, regions and endpoints of the user's are about
        an account, so for the local kit none of them counts, however broken it is."""
        if not self.local or self.database_url is not None:
            return
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(self.environment())

    def environment(self) -> dict[str, str]:
        """What makes AWS clients that know nothing of this place talk to it; nothing for a deployed kit."""
        if not self.local or self.database_url is not None:
            return {}
        assert self.region is not None
        assert self.endpoint_url is not None
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


def local_json() -> Path:
    """Where the local kit says how to reach it. Read as any other program reads it: importing the kit takes longer."""
    return Path(os.environ.get("TURNKEEPER_HOME") or find_project().root / ".turnkeeper").resolve() / "local.json"


def find(stack: str | None) -> Place:
    """The kit that is meant.

    Raises:
        CliError: no local kit is up.
    """
    if stack:
        return Place(stacks=stack, local=False)
    place, named = local_place(), os.environ.get(VARIABLE)
    if named and (place is None or place.database_url != named):
        return Place(stacks="", local=False, database_url=named)
    if place is None:
        raise CliError("no local kit is up", code="kit_down", hint=_DOWN)
    return place


def find_if_up(stack: str | None) -> Place | None:
    """The kit that is meant; ``None`` where it is the local one, and that is down."""
    return find(stack) if stack or os.environ.get(VARIABLE) else local_place()


def local_place() -> Place | None:
    """The local kit that is up, or None."""
    file = local_json()
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        region, endpoint_url = document["region"], document["aws_endpoint_url"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CliError(
            f"{file} cannot be read: {type(error).__name__}: {error}", code="kit_down", hint=_DOWN
        ) from error
    return Place(
        stacks=DEFAULT_STACKS,
        local=True,
        region=region,
        endpoint_url=endpoint_url,
        document=document,
        database_url=_with_password(document.get("database_url")),
    )


def _with_password(url: str | None) -> str | None:
    """No password is written down: the environment may name the same database with its own."""
    named = os.environ.get(VARIABLE)
    if not url or not named:
        return url
    from turnkeeper.adapters.sql.opening import without_password

    return named if without_password(named) == url else url
