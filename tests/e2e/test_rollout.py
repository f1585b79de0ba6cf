"""A rollout and a shadow on a kit on this machine: by HTTP, the command line, the stream and the sweep."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.forked import turnkeeper
from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.core.reserved_tenants import companion_of
from turnkeeper.runtime.store import codec, keys
from turnkeeper_local.kit import Home, KitSettings, LocalKit, down, up

pytestmark = [pytest.mark.emulator, pytest.mark.long]

AGENT = """
from pathlib import Path

from turnkeeper import Agent, tool

@tool(effect="once")
def pay(what: str) -> str:
    "Pay."
    with Path({ledger!r}).open("a") as ledger:
        ledger.write(what + chr(10))
    return "paid"

@tool(effect="read")
def look(what: str) -> str:
    "Look."
    return "all is there"

agent = Agent(name="desk", model="claude-sonnet-5-5", system="You are {which}.", tools=[pay, look])
"""
POLICY = """
default_plan = "standard"
default_role = "user"
evals_plan = "evals"
[plans.standard]
task_usd = "1.00"
user_daily_usd = "50.00"
user_monthly_usd = "500.00"
tenant_monthly_usd = "5000.00"
[plans.evals]
task_usd = "0.50"
user_daily_usd = "5.00"
user_monthly_usd = "50.00"
tenant_monthly_usd = "500.00"
[roles.user]
scopes = []
"""
#: The stream has to come, and the sweep, which runs every minute.
PATIENCE_SECONDS = 180.0


class Shop:
    def __init__(self, folder: Path) -> None:
        self.project, self.home, self.ledger = folder / "project", Home(folder / "home"), folder / "ledger"
        (self.project / "agents" / "desk").mkdir(parents=True)
        (self.project / "policy.toml").write_text(POLICY)
        self.settings = dataclasses.replace(
            KitSettings.from_environment({"TURNKEEPER_PORT": "0"}), project=self.project
        )
        self.kit: LocalKit | None = None

    def write(self, which: str) -> None:
        text = AGENT.format(which=which, ledger=str(self.ledger))
        (self.project / "agents" / "desk" / "agent.py").write_text(text)

    def up(self) -> None:
        self.kit = up(self.settings, home=self.home)

    def begin(self, user: str, text: str = "[[say hello]]") -> dict[str, Any]:
        assert self.kit is not None
        identity = {"x-tenant-id": "acme", "x-user-id": user, "x-user-role": "user"}
        body = {"agent": "desk", "input": text}
        made = httpx2.post(f"{self.kit.api_url}/v1/sessions", json=body, headers=identity, timeout=60)
        shown = httpx2.get(f"{self.kit.api_url}/v1/sessions/{made.json()['session_id']}", headers=identity, timeout=30)
        return dict(shown.json())

    def cli(self, *arguments: str) -> Any:
        environment = {**os.environ, "TURNKEEPER_HOME": str(self.home.path), "TURNKEEPER_PROJECT": str(self.project)}
        done = turnkeeper(*arguments, "--json", environment=environment, timeout_seconds=90)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def head(self, tenant: str, session: str) -> dict[str, Any] | None:
        kit = self.kit
        assert kit is not None
        requests = Aws(region=kit.region, endpoint_url=kit.aws_endpoint_url).table_requests
        item = DynamoTable(requests, kit.table_name).get(keys.head_key(tenant, session))
        return None if item is None else codec.flattened(item)


def test_half_of_the_users_have_the_candidate_and_a_shadow_pays_nothing(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.write("old")
    try:
        shop.up()
        old = shop.begin("first")["version"]
        shop.write("new")
        rollout = shop.cli("rollout", "set", "desk", "--share", "50")["rollout"]
        assert rollout["stable"] == old
        shop.up()  # It is deployed, and half of the users have it.
        had = {f"user-{number}": shop.begin(f"user-{number}")["version"] for number in range(30)}
        assert set(had.values()) == {old, rollout["candidate"]}
        assert 5 <= sum(version == old for version in had.values()) <= 25
        assert {user: shop.begin(user)["version"] for user in list(had)[:10]} == dict(list(had.items())[:10])

        shop.cli("rollout", "set", "desk", "--version", rollout["candidate"][:8], "--share", "100", "--shadow")
        time.sleep(6)  # until every process has read it
        paid = shop.begin("ann", '[[tool pay {"what": "rent"}]] [[say done]]')
        assert paid["version"] == old
        name, until = f"{paid['session_id']}-t1-shadow", time.monotonic() + PATIENCE_SECONDS
        shadow = shop.head(companion_of("acme"), name)
        while (shadow is None or shadow["status"] != "idle") and time.monotonic() < until:
            time.sleep(2)
            shadow = shop.head(companion_of("acme"), name)
        assert shadow is not None and shadow["status"] == "idle", shadow
        assert shadow["version"] == rollout["candidate"]
        assert shop.ledger.read_text() == "rent\n"
        records = shop.cli("audit", "show", name, "--tenant", companion_of("acme"))["records"]
        assert [one["outcome"] for one in records if one["kind"] == "tool_call"] == ["ok"]
        chain = shop.cli("audit", "show", "--tenant", "!deployment")["records"]
        assert [one["kind"] for one in chain] == ["rollout", "rollout"]
    finally:
        down(shop.home, forget=True)
