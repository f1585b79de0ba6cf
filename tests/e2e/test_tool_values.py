"""Secrets and settings of tools on a kit on this machine: the same for both runners, and the values nowhere else."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import boto3
import httpx2
import pytest

from turnkeeper_local.kit import Home, KitSettings, LocalKit, down, up
from turnkeeper_local.kit.values import SECRETS_FILE, SETTINGS_FILE, set_secret

pytestmark = [pytest.mark.emulator, pytest.mark.long]

SECRET = "k-of-the-crm-2026"
AGENT = """
from turnkeeper import Agent, ToolContext, prompts, tool

@tool
def sync(ctx: ToolContext) -> str:
    "Sync."
    key = ctx.secret("crm")
    return f"<{key}> of {len(key)} at {ctx.setting('crm_url')}"

agent = Agent(
    name="desk", model="claude-sonnet-5-5", system=prompts("prompts"), tools=[sync], secrets=["crm"],
    settings=["crm_url"],
)
"""
POLICY = """
default_plan = "standard"
default_role = "user"
[plans.standard]
task_usd = "1.00"
user_daily_usd = "5.00"
user_monthly_usd = "50.00"
tenant_monthly_usd = "500.00"
[roles.user]
scopes = []
"""
IDENTITY = {"x-tenant-id": "acme", "x-user-id": "ann", "x-role": "user"}
ASK = {"agent": "desk", "input": "[[tool sync {}]] [[say done]]"}


def told(kit: LocalKit, session_id: str) -> str:
    """What came of the session's call, once it rests."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = httpx2.get(f"{kit.api_url}/v1/sessions/{session_id}/events", headers=IDENTITY, timeout=30)
        if found.status_code == 200 and found.json()["status"] == "idle":
            [event] = [one for one in found.json()["events"] if one["type"] == "tool_results"]
            return str(event["results"][0]["content"][0]["text"])
        time.sleep(0.2)
    raise AssertionError("the session does not come to rest")


def on_lambda(kit: LocalKit) -> str:
    made = httpx2.post(f"{kit.api_url}/v1/sessions", json=ASK, headers=IDENTITY, timeout=30)
    return told(kit, made.json()["session_id"])


def on_the_worker(kit: LocalKit) -> str:
    body = {**ASK, "placement": "background"}
    made = httpx2.post(f"{kit.api_url}/v1/sessions", json=body, headers=IDENTITY, timeout=30)
    return told(kit, made.json()["session_id"])


def holding(folder: Path, text: str) -> list[str]:
    return [str(file) for file in folder.rglob("*") if file.is_file() and text.encode() in file.read_bytes()]


def prompts_kept(kit: LocalKit) -> list[Any]:
    table = boto3.resource(
        "dynamodb",
        endpoint_url=kit.aws_endpoint_url,
        region_name=kit.region,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    ).Table(kit.table_name)
    items = table.scan()["Items"]
    return [json.loads(bytes(item["data"])) for item in items if str(item["sk"]).startswith("ASKED#")]


def test_both_runners_have_them_and_no_file_of_the_kit_does(tmp_path: Path) -> None:
    project, home = tmp_path / "project", Home(tmp_path / "home")
    (project / "agents" / "desk" / "prompts").mkdir(parents=True)
    (project / "policy.toml").write_text(POLICY)
    (project / "agents" / "desk" / "agent.py").write_text(AGENT)
    (project / "agents" / "desk" / "prompts" / "acme.md").write_text("For {user_id} of Acme.")
    (project / SETTINGS_FILE).write_text('crm_url = "https://crm.example/?a=1,b=2"\n')
    set_secret(project, "crm", SECRET)
    settings = dataclasses.replace(KitSettings.from_environment({"TURNKEEPER_PORT": "0"}), project=project)
    expected = "<[redacted:secret crm]> of {} at https://crm.example/?a=1,b=2"
    try:
        kit = up(settings, home=home)
        assert [on_lambda(kit), on_the_worker(kit)] == [expected.format(len(SECRET))] * 2
        assert prompts_kept(kit) == ["For ann of Acme."] * 2
        (project / SETTINGS_FILE).write_text('crm_url = "https://other.example"\n')
        kit = up(settings, home=home)
        assert (
            on_lambda(kit) == on_the_worker(kit) == f"<[redacted:secret crm]> of {len(SECRET)} at https://other.example"
        )
        down(home)
        assert holding(tmp_path, SECRET) == [str(project / SECRETS_FILE)]
    finally:
        down(home, forget=True)
