"""Commands that an operator gives to table and queue directly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.kit import MemoryKit
from tests.unit.cli.conftest import Cli, new_session
from tests.unit.cli.fake_api import FakeApi, Request, problem
from turnkeeper.core.lifecycle import leaving
from turnkeeper.core.policy import policy_of
from turnkeeper.core.scopes import SCOPES
from turnkeeper.core.session import Stop
from turnkeeper.runtime.jobs import session_id_of_job
from turnkeeper.runtime.store import codec, keys
from turnkeeper.table import Key, Put, Update
from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.jobs import one_job
from turnkeeper_local.cli.text import plain, short, usd

# ---- tenants ----


def test_a_tenant_nobody_touched_has_its_plans_caps(cli: Cli, kit: MemoryKit) -> None:
    document = cli("tenant", "show", "acme", "--json").document
    assert (document["plan"], document["paused"], document["overrides"]) == ("standard", False, {})
    assert document["caps"]["user_daily"] == "20.000000"


def test_plan_and_caps_are_set_together(cli: Cli, kit: MemoryKit) -> None:
    arguments = ["--plan", "short", "--cap", "task=0.50", "--cap", "tenant_monthly=unlimited"]
    document = cli("tenant", "set", "acme", *arguments, "--json").document
    assert document["plan"] == "short"
    assert document["overrides"] == {"task": "0.500000", "tenant_monthly": "unlimited"}
    assert document["caps"]["user_monthly"] == "unlimited"
    shown = cli("tenant", "show", "acme").stdout
    assert "plan short" in shown
    assert "set for the tenant" in shown


@pytest.mark.parametrize("given", ["task", "tasks=1", "task=", "task=-1", "task=1,5", "=1", "task=NaN"])
def test_a_cap_that_makes_no_sense_is_wrong_usage(cli: Cli, kit: MemoryKit, given: str) -> None:
    result = cli("tenant", "set", "acme", "--cap", given, "--json")
    assert result.exit_code == 2
    assert cli("tenant", "show", "acme", "--json").document["overrides"] == {}


def test_a_scope_that_agents_hold_is_set_for_all_and_shown_for_each(cli: Cli, kit: MemoryKit) -> None:
    caps = {row.plan_key: "1.00" for row in SCOPES.values()}
    by_agent = {"support": "0.50", "analyst": "unlimited"}
    kit.policy = policy_of({"default_plan": "plan", "plans": {"plan": {**caps, "agent_daily_usd": by_agent}}})
    shown = cli("tenant", "show", "acme", "--json").document
    assert shown["caps"]["agent_daily"] == {"support": "0.500000", "analyst": "unlimited"}
    assert re.search(r"agent_daily support +\$0\.50 +plan", cli("tenant", "show", "acme").stdout)
    document = cli("tenant", "set", "acme", "--cap", "agent_daily=5", "--json").document
    assert document["caps"]["agent_daily"] == document["overrides"]["agent_daily"] == "5.000000"
    assert re.search(r"agent_daily +\$5\.00 +set for the tenant", cli("tenant", "show", "acme").stdout)
    assert cli("tenant", "set", "acme", "--cap", "agent_daily=plan", "--json").document["caps"] == shown["caps"]


def test_a_time_zone_is_set_and_given_back(cli: Cli, kit: MemoryKit) -> None:
    assert cli("tenant", "show", "acme", "--json").document["timezone"] == "UTC"
    assert cli("tenant", "set", "acme", "--timezone", "Europe/Zurich", "--json").document["timezone"] == "Europe/Zurich"
    assert "Europe/Zurich" in cli("tenant", "show", "acme").stdout
    assert cli("tenant", "set", "acme", "--timezone", "plan", "--json").document["timezone"] == "UTC"
    changes = [item["detail"] for item in kit.sessions.audit("acme", None)]
    assert changes == [{"timezone": "Europe/Zurich"}, {"timezone": "plan"}]


@pytest.mark.parametrize("name", ["Zurich", "europe/zurich", "", "+01:00"])
def test_a_time_zone_that_there_is_not_is_wrong_usage(cli: Cli, kit: MemoryKit, name: str) -> None:
    result = cli("tenant", "set", "acme", "--timezone", name, "--json")
    assert result.exit_code == 2
    assert "Europe/Zurich" in result.document["error"]["detail"]
    assert cli("tenant", "show", "acme", "--json").document["timezone"] == "UTC"


def test_nothing_to_set_is_wrong_usage(cli: Cli, kit: MemoryKit) -> None:
    assert cli("tenant", "set", "acme").exit_code == 2


def test_a_plan_that_policy_does_not_have_is_refused(cli: Cli, kit: MemoryKit) -> None:
    result = cli("tenant", "set", "acme", "--plan", "gold", "--json")
    assert result.exit_code == 1
    assert "standard" in result.document["error"]["detail"]


def test_pause_and_unpause(cli: Cli, kit: MemoryKit) -> None:
    assert cli("tenant", "pause", "acme", "--json").document["paused"] is True
    assert "paused" in cli("tenant", "show", "acme").stdout
    assert cli("tenant", "unpause", "acme", "--json").document["paused"] is False


def test_sessions_of_0_1_are_put_into_the_index(cli: Cli, kit: MemoryKit) -> None:
    key = keys.head_key("local", new_session(kit))
    kit.table.update(Update(key, set={"tenant_key": keys.tenant_pk("local")}, remove=("status_key",)))
    assert cli("tenant", "index", "local", "--json").document == {"tenant_id": "local", "sessions": 1}
    assert "0 sessions" in cli("tenant", "index", "local").stdout
    assert len(kit.table.query(keys.by_status("local", "running"), index="by_status").items) == 1


# ---- rollouts ----


def test_a_rollout_is_set_shown_ended_and_audited(cli: Cli, kit: MemoryKit) -> None:
    new_session(kit)
    stable = cli("rollout", "show", "plain", "--json").document["rollouts"][0]["versions"][0]["version"]
    kit.__dict__["catalog"].agents["plain"] = replace(kit.catalog.agents["plain"], system="You talk more.")
    document = cli("rollout", "set", "plain", "--share", "12.5", "--tenants", "acme,globex", "--json").document
    rollout = document["rollout"]
    assert (rollout["stable"], rollout["share_percent"], rollout["tenants"]) == (stable, 12.5, ["acme", "globex"])
    assert "12.5 % of the users of acme, globex have" in cli("rollout", "show", "plain").stdout
    assert cli("rollout", "promote", "plain", "--json").document["rollout"]["state"] == "promoted"
    aborted = cli("rollout", "abort", "plain", "--reason", "it was rude", "--json").document["rollout"]
    assert (aborted["state"], aborted["reason"]) == ("aborted", "it was rude")
    shown = cli("audit", "show", "--tenant", "!deployment", "--json").document
    assert [one["detail"]["state"] for one in shown["records"]] == ["running", "promoted", "aborted"]
    # Whoever set it is seldom who ended it, and not at that time.
    assert f"ended {aborted['ended_at']}, by operator:test; it was rude" in cli("rollout", "show", "plain").stdout
    assert "rollout" in cli("audit", "show", "--tenant", "!deployment").stdout
    assert cli("audit", "verify", "--tenant", "!deployment").exit_code == 0


@pytest.mark.parametrize("tenants", ["", " , "])
def test_a_rollout_for_tenants_without_a_name_is_not_one_for_all(cli: Cli, kit: MemoryKit, tenants: str) -> None:
    new_session(kit)
    kit.__dict__["catalog"].agents["plain"] = replace(kit.catalog.agents["plain"], system="You talk more.")
    assert cli("rollout", "set", "plain", "--share", "100", "--tenants", tenants).exit_code == 2
    assert kit.rollouts.store.get("plain") is None


def test_a_shadow_needs_a_plan_of_its_own(cli: Cli, kit: MemoryKit) -> None:
    new_session(kit)
    kit.__dict__["catalog"].agents["plain"] = replace(kit.catalog.agents["plain"], system="You talk more.")
    refused = cli("rollout", "set", "plain", "--share", "5", "--shadow", "--json")
    assert refused.exit_code == 1
    assert "evals_plan" in refused.document["error"]["detail"]
    kit.policy = kit.policy.model_copy(update={"evals_plan": "short"})
    kit.__dict__.pop("rollouts")
    assert cli("rollout", "set", "plain", "--share", "5", "--shadow", "--json").document["rollout"]["shadow"] is True
    assert "5 % of turns are done again by" in cli("rollout", "show", "plain").stdout


# ---- audit ----


def test_every_change_is_on_the_tenants_chain_and_verifies(cli: Cli, kit: MemoryKit) -> None:
    cli("tenant", "set", "local", "--cap", "task=1.00")
    cli("tenant", "pause", "local")
    cli("tenant", "unpause", "local")
    new_session(kit)
    result = cli("audit", "verify", "--json")
    assert result.exit_code == 0
    chains = {chain["session_id"]: chain["records"] for chain in result.document["chains"]}
    assert chains == {None: 3, "ses_1": 2}
    assert "intact" in cli("audit", "verify").stdout


def test_audit_show_tells_who_did_what(cli: Cli, kit: MemoryKit) -> None:
    new_session(kit)
    records = cli("audit", "show", "ses_1", "--json").document["records"]
    assert [record["kind"] for record in records] == ["session_created", "grant"]
    assert "session_created" in cli("audit", "show", "ses_1").stdout
    assert cli("audit", "show", "ses_none", "--json").document["error"]["code"] == "session_not_found"


def test_an_altered_record_is_named_with_the_reason(cli: Cli, kit: MemoryKit) -> None:
    new_session(kit, session_id="ses_1")
    new_session(kit, session_id="ses_2")
    key = keys.audit_key("local", "ses_1", 2)
    kit.table.update(Update(Key(key.pk, key.sk), set={"actor": "somebody else"}))
    result = cli("audit", "verify", "--json")
    assert (result.exit_code, result.document["ok"]) == (1, False)
    (problem,) = next(one for one in result.document["chains"] if one["session_id"] == "ses_1")["problems"]
    assert (problem["kind"], problem["first"]) == ("altered", 2)
    assert next(one for one in result.document["chains"] if one["session_id"] == "ses_2")["problems"] == []
    shown = cli("audit", "verify", "ses_1")
    assert shown.exit_code == 1
    assert "altered 2: its contents do not have its hash" in shown.stdout
    assert cli("audit", "verify", "ses_2").exit_code == 0


def test_a_chain_that_lost_its_end_is_truncated(cli: Cli, kit: MemoryKit) -> None:
    new_session(kit)
    head = kit.sessions.head("local", "ses_1")
    longer = codec.head_item(replace(head, audit_seq=head.audit_seq + 1))
    kit.table.write([Put(keys.head_key("local", "ses_1"), longer)])
    result = cli("audit", "verify", "ses_1", "--json")
    assert result.exit_code == 1
    assert [one["kind"] for one in result.document["chains"][0]["problems"]] == ["truncated"]


# ---- resume ----


def test_an_operator_raises_the_limit_and_starts_the_runner(cli: Cli, kit: MemoryKit, api: FakeApi) -> None:
    new_session(kit)
    stopped(kit, "ses_1")
    api.session("ses_1", status="idle")
    result = cli("resume", "ses_1", "--max-iterations", "7", "--clear-flags", "--json")
    assert result.exit_code == 0
    head = kit.sessions.head("local", "ses_1")
    assert (head.status, head.limits.max_iterations, head.stop) == ("running", 7, None)
    assert kit.turns.started == [("local", "ses_1")]
    record = kit.sessions.audit("local", "ses_1")[-1]
    assert (record["kind"], record["actor"]) == ("operator_action", "operator:test")
    assert record["detail"] == {
        "action": "resume",
        "max_iterations": 7,
        "before": 25,
        "clear_flags": True,
        "up_to_seq": 2,
    }
    assert cli("audit", "verify", "--json").exit_code == 0


def test_an_operator_lets_a_session_go_on_with_another_model(cli: Cli, kit: MemoryKit, api: FakeApi) -> None:
    new_session(kit)
    stopped(kit, "ses_1")
    before = kit.sessions.head("local", "ses_1")
    api.session("ses_1", status="idle")
    assert cli("resume", "ses_1", "--model", "claude-haiku-4-5", "--json").exit_code == 0
    head = kit.sessions.head("local", "ses_1")
    assert head.version is not None
    assert (head.status, kit.sessions.spec("local", head.version).model) == ("running", "claude-haiku-4-5")
    changed, resumed = kit.sessions.audit("local", "ses_1")[-2:]
    assert (changed["kind"], changed["actor"], resumed["kind"]) == ("version", "operator:test", "operator_action")
    assert changed["detail"] == {"agent": head.agent, "before": before.version, "after": head.version}


def test_a_session_that_runs_cannot_be_resumed(cli: Cli, kit: MemoryKit, api: FakeApi) -> None:
    new_session(kit)
    api.session("ses_1", status="running")
    result = cli("resume", "ses_1", "--max-iterations", "7", "--json")
    assert result.document["error"]["code"] == "session_busy"
    assert [record["kind"] for record in kit.sessions.audit("local", "ses_1")] == ["session_created", "grant"]


def stopped(kit: MemoryKit, session_id: str) -> None:
    head = kit.sessions.claim("local", session_id, "owner", "lambda")
    kit.sessions.commit(head, leaving.rest(head, kit.clock.now(), (), Stop(reason="iteration_limit")))


def test_an_admin_lets_another_users_session_go_on(cli: Cli, kit: MemoryKit, api: FakeApi) -> None:
    """Its token is its user's; an operator's resume goes by the table."""
    new_session(kit, user="u1")
    stopped(kit, "ses_1")
    told = api.session("ses_1", status="stopped", user_id="u1", continuation_token=None)

    def looked_at(request: Request) -> None:
        if kit.turns.started:
            told.update(status="idle")

    api.override = looked_at
    result = cli("resume", "ses_1")
    assert result.exit_code == 0
    assert "session of user u1" in result.stderr
    assert kit.turns.started == [("local", "ses_1")]
    assert kit.sessions.head("local", "ses_1").status == "running"
    record = kit.sessions.audit("local", "ses_1")[-1]
    assert (record["kind"], record["actor"], record["detail"]["action"]) == (
        "operator_action",
        "operator:test",
        "resume",
    )
    assert cli("resume", "ses_1", "--json").document["error"]["status"] == "idle"


# ---- jobs ----


def test_submit_prints_the_session_that_the_job_will_be(cli: Cli, kit: MemoryKit) -> None:
    result = cli("submit", "analyst", "count them", "--job-id", "j1", "--json")
    (submitted,) = result.document["submitted"]
    assert submitted["session_id"] == session_id_of_job("local", "j1")
    (message,) = kit.queue.receive(most=10, wait_seconds=0, visibility_seconds=1)
    assert json.loads(message.body) == {
        "schema": "turnkeeper.job/v1",
        "agent": "analyst",
        "tenant_id": "local",
        "user_id": "dev",
        "role": "admin",
        "input": "count them",
        "job_id": "j1",
    }
    assert cli("submit", "analyst", "again", "--job-id", "j1").stdout.strip() == submitted["session_id"]


def test_a_file_of_jobs_says_more_about_each(cli: Cli, kit: MemoryKit, tmp_path: Path) -> None:
    lines = [
        {"input": "a\u2028b", "job_id": "j1"},
        {"input": [{"type": "text", "text": "b"}], "agent": "support", "tenant_id": "acme", "metadata": {"n": 1}},
    ]
    file = tmp_path / "jobs.jsonl"
    file.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n\n")
    submitted = cli("submit", "analyst", "--file", str(file), "--user", "u1", "--json").document["submitted"]
    assert [job["tenant_id"] for job in submitted] == ["local", "acme"]
    messages = kit.queue.receive(most=10, wait_seconds=0, visibility_seconds=1)
    assert sorted((message.group or "", json.loads(message.body)["agent"]) for message in messages) == [
        ("acme", "support"),
        ("local", "analyst"),
    ]


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "3", '{"input": 3}', '{"inputs": "x"}', '{"input": "x", "job_id": ""}', '{"continuation_token": "x"}'],
)
def test_one_bad_line_sends_nothing(cli: Cli, kit: MemoryKit, tmp_path: Path, line: str) -> None:
    file = tmp_path / "jobs.jsonl"
    file.write_text('{"input": "fine"}\n' + line)
    result = cli("submit", "analyst", "--file", str(file), "--json")
    assert result.exit_code == 1
    assert result.document["error"]["line"] == 2
    assert kit.queue.receive(most=10, wait_seconds=0, visibility_seconds=1) == []


@pytest.mark.parametrize(
    "arguments", [[], ["support"], ["support", "x", "--file", "f"], ["--file", "f", "--job-id", "j"]]
)
def test_submit_takes_a_text_or_a_file(cli: Cli, kit: MemoryKit, arguments: list[str]) -> None:
    assert cli("submit", *arguments).exit_code == 2


def test_jobs_of_no_id_get_one_each() -> None:
    fields = {"agent": "a", "input": "x", "tenant_id": "t", "user_id": "u"}
    assert one_job(fields).job_id != one_job(fields).job_id


@pytest.mark.parametrize("agent", ["nosuch", "analist", "broken"])
def test_a_job_for_an_agent_that_there_is_not_is_refused(cli: Cli, kit: MemoryKit, tmp_path: Path, agent: str) -> None:
    result = cli("submit", agent, "hi", "--json")
    assert (result.exit_code, result.document["error"]["code"]) == (1, "agent_not_found")
    assert agent in result.document["error"]["detail"]
    file = tmp_path / "jobs.jsonl"
    file.write_text(json.dumps({"input": "a"}) + "\n\n" + json.dumps({"input": "b", "agent": agent}))
    assert "line 3" in cli("submit", "analyst", "--file", str(file)).stderr
    assert kit.queue.bodies() == []
    assert cli("submit", agent, "hi", "--no-check").exit_code == 0
    assert len(kit.queue.bodies()) == 1


def test_an_agent_is_known_by_its_former_name_and_guessed_by_a_near_one(cli: Cli, kit: MemoryKit) -> None:
    assert cli("submit", "counter", "hi").exit_code == 0
    assert "did you mean 'analyst'?" in cli("submit", "analyts", "hi").stderr


def test_where_the_api_does_not_say_the_projects_agents_count(cli: Cli, kit: MemoryKit, api: FakeApi) -> None:
    api.override = lambda request: problem(404, "not_found", "no") if request.path.endswith("/agents") else None
    assert cli("submit", "helper", "hi").exit_code == 0
    assert "left_pad" in cli("submit", "broken", "hi").stderr
    assert cli("submit", "analyst", "hi").exit_code == 1


def test_two_jobs_of_a_file_with_one_id_are_refused(cli: Cli, kit: MemoryKit, tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    lines = [{"input": "a", "job_id": "j"}, {"input": "a", "job_id": "j", "tenant_id": "acme"}]
    file.write_text("\n".join(map(json.dumps, lines)))
    assert cli("submit", "analyst", "--file", str(file)).exit_code == 0
    file.write_text("\n".join(map(json.dumps, [*lines, lines[0]])))
    error = cli("submit", "analyst", "--file", str(file), "--json").document["error"]
    assert (error["code"], error["line"]) == ("duplicate_job", 3)
    assert "line 1" in error["detail"]


def test_a_job_that_was_submitted_before_is_said_to_be(cli: Cli, kit: MemoryKit) -> None:
    session_id = new_session(kit, session_id=session_id_of_job("local", "j1"))
    result = cli("submit", "analyst", "hi", "--job-id", "j1")
    assert (result.exit_code, result.stdout.strip()) == (0, session_id)
    assert "submitted before" in result.stderr
    assert cli("submit", "analyst", "hi", "--job-id", "j1", "--json").document["submitted"][0]["known"] is True
    assert cli("submit", "analyst", "hi", "--json").document["submitted"][0]["known"] is False


def test_a_job_that_no_queue_takes_is_refused(cli: Cli, kit: MemoryKit) -> None:
    result = cli("submit", "analyst", "-", "--json", "--job-id", "j" * 129)
    assert result.document["error"]["code"] == "invalid_job"
    with pytest.raises(CliError, match="1,048,576 bytes"):
        one_job({"agent": "a", "input": "ü" * 600_000, "tenant_id": "t", "user_id": "u"})


# ---- the rest ----


def test_texts_and_amounts_for_people() -> None:
    assert plain("a\tb\nc\x1b[31m\r\n\u202ed") == "a\tb\nc\ufffd[31m\n\ufffdd"
    assert short("one\n two  three", 9) == "one two …"
    assert [
        usd(amount)
        for amount in ("0.000000", "0.000001", "0.001234", "0.500000", "12.5", "1234.000000", "unlimited", None)
    ] == [
        "$0.00",
        "$0.000001",
        "$0.0012",
        "$0.50",
        "$12.50",
        "$1,234.00",
        "unlimited",
        "-",
    ]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from turnkeeper_local.cli.main import app; "
        "heavy = {'boto3', 'httpx2', 'pydantic', 'anthropic', 'turnkeeper.bootstrap', 'turnkeeper_local.kit'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "command",
    [
        *(["demo"], ["up"], ["down"], ["status"], ["doctor"], ["chat"], ["run"], ["submit"], ["watch"], ["sessions"]),
        *(["show"], ["cancel"], ["resume"], ["erase"], ["spend"], ["redrive"]),
        *(["dead", verb] for verb in ("list", "show", "discard")),
        *(["tenant", verb] for verb in ("set", "show", "pause", "unpause", "index")),
        *(["audit", verb] for verb in ("show", "verify")),
    ],
    ids=" ".join,
)
def test_every_command_has_help_and_takes_json(cli: Cli, command: list[str]) -> None:
    result = cli(*command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout
