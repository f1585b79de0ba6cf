"""What is driven: a kit of the run's own, the local kit that is up, or one that is deployed."""

from __future__ import annotations

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.outside import PATIENCE_SECONDS, Caller, Stack, good, running_stack
from turnkeeper_local.cli.api import SigV4
from turnkeeper_local.cli.place import Place
from turnkeeper_local.kit import Home, LocalKit

#: Lambda has little time, so that long turns move; leases are short, so that the dead are soon followed.
RESTLESS = {"TURNKEEPER_TURN_SECONDS": "6", "TURNKEEPER_LEASE_SECONDS": "5"}
#: The agents of tests/e2e/agents that the scripted kinds of traffic talk with.
SCRIPTED = {"handy", "tasker", "endless", "brief", "short"}


@dataclass
class Target:
    """A kit under load. Tenants of a run are of no other: their names hold its mark."""

    stack: Stack
    #: Everything on it is of this run, and its processes may be killed.
    own: bool
    #: Whether it has the test agents and the stand-in model, so that everything can be asked for.
    scripted: bool
    #: Where the tools of the test agents write down what they did.
    effects: Path
    #: Talked with where nothing is scripted.
    agent: str = "handy"
    mark: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def local(self) -> bool:
        """Whether its processes are on this machine."""
        return not isinstance(self.stack, DeployedStack)

    def tenant(self, name: str) -> str:
        return f"soak-{self.mark}-{name}"

    def caller(self, tenant: str, user: str) -> Caller:
        return self.stack.caller(self.tenant(tenant), user)


class DeployedStack(Stack):
    """A kit in an account, found as every command finds it, with the credentials that AWS tools use."""

    def __init__(self, place: Place, url: str | None) -> None:
        self.place = place
        outputs = place.outputs
        kit = LocalKit(
            api_url=(url or place.api_url).rstrip("/"),
            queue_url=outputs["QueueUrl"],
            dlq_url=outputs["DlqUrl"],
            table_name=outputs["TableName"],
            region=str(place.session.region_name),
            aws_endpoint_url="",
            model_url="",
            gateway_url=None,
            stream_url=None,
            worker_pid=0,
            console_url=None,
        )
        super().__init__(kit, Home(Path(os.devnull)))

    def http(self, headers: Mapping[str, str]) -> httpx2.Client:
        credentials = self.place.session.get_credentials()
        assert credentials is not None, "there are no AWS credentials"
        auth = SigV4(credentials, self.kit.region)
        return httpx2.Client(base_url=self.kit.api_url, headers=headers, timeout=PATIENCE_SECONDS, auth=auth)

    def cli(self, *arguments: str, exit_code: int | None = 0) -> Any:
        return super().cli(*arguments, "--stack", self.place.stacks, exit_code=exit_code)

    def _make_client(self, service: str) -> Any:
        make: Any = self.place.session.client
        return make(service)


@contextlib.contextmanager
def own_kit() -> Iterator[Target]:
    """A kit in a temporary folder, and down again, however the run ends."""
    with tempfile.TemporaryDirectory(prefix="turnkeeper-load-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with running_stack(folder / "kit", **RESTLESS) as stack:
            yield Target(stack, own=True, scripted=True, effects=folder)


@contextlib.contextmanager
def running_target(place: Place, agent: str | None, url: str | None) -> Iterator[Target]:
    """A kit that is up. What its test agents can do is only asked for where it has them."""
    stack: Stack
    if place.local:
        home = Home.from_environment()
        kit = LocalKit.read(home)
        assert kit is not None, "no local kit is up"
        stack = Stack(kit, home)
    else:
        stack = DeployedStack(place, url)
    with tempfile.TemporaryDirectory(prefix="turnkeeper-load-") as name:
        target = Target(stack, own=False, scripted=False, effects=Path(name))
        if agent is not None:
            target.agent = agent
        else:
            known = {each["name"] for each in good(target.caller("plain", "u1").get("/v1/agents"))["agents"]}
            target.scripted = place.local and known >= SCRIPTED
        yield target
