"""Every word of ``policy.toml`` arrives at the parts that it is for.

One policy on disk, two tenants on two plans, two roles; for each field of the policy a row says what the parts that it
concerns make of it for whom. So a field that nobody reads fails here, and so does a new one without a row.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import pytest
from pydantic import BaseModel

from fargate_worker import process as worker_process
from functions.api.app import FrontDoor
from tests.support.http import answered, event
from tests.support.kit import MODEL, WHO, MemoryKit
from tests.support.kit import POLICY as STANDARD
from tests.support.wiring import Folder
from turnkeeper.bootstrap import Kit
from turnkeeper.core.errors import AgentNotFound, UnpricedModel
from turnkeeper.core.policy import PlanLimits, PlanPolicy, Policy, RolePolicy
from turnkeeper.core.reserved_tenants import companion_of
from turnkeeper.core.scopes import SCOPES, Scope
from turnkeeper.core.session import Head
from turnkeeper.ports import Message
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.jobs import SCHEMA
from turnkeeper.runtime.store import codec

POLICY = """
default_plan = "free"
default_role = "clerk"
evals_plan = "gold"

[tenants]
acme = "gold"
initech = "barred"

[plans.free]
task_usd = "1.00"
user_daily_usd = "2.00"
user_monthly_usd = "3.00"
tenant_monthly_usd = "4.00"
agent_daily_usd = { desk = "5.00", lab = "6.00" }
tools = ["look"]
agents = ["desk"]
retention_days = 36
webhook_hosts = ["hooks.example.com", "other.example.com:8443"]
limits = { max_iterations = 11, max_tokens = 12, max_seconds = 13 }

[plans.gold]
task_usd = "10.00"
user_daily_usd = "20.00"
user_monthly_usd = "unlimited"
tenant_monthly_usd = "40.00"
agent_daily_usd = "50.00"
timezone = "Asia/Tokyo"

[plans.barred]
task_usd = "unlimited"
user_daily_usd = "unlimited"
user_monthly_usd = "unlimited"
tenant_monthly_usd = "unlimited"
denied_tools = ["buy"]

[roles.clerk]
scopes = ["shop:read"]

[roles.buyer]
scopes = ["shop:read", "shop:write"]
denied_tools = ["look"]

[roles.chief]
scopes = ["shop:read", "shop:write"]
admin = true
limits = { max_iterations = 7, max_tokens = 8, max_seconds = 9 }

[models."house-model"]
input_usd_per_mtok = "3.00"
output_usd_per_mtok = "15.00"

[models."claude-sonnet-5-5"]
input_usd_per_mtok = "0.50"
output_usd_per_mtok = "0.75"
"""

#: ``acme`` has a plan of its own, ``globex`` is not named.
GOLD_CLERK = Identity("acme", "ann", "clerk")
GOLD_CHIEF = Identity("acme", "ann", "chief")
GOLD_BUYER = Identity("acme", "ann", "buyer")
BARRED_CHIEF = Identity("initech", "ida", "chief")
FREE_CLERK = Identity("globex", "guy", "clerk")
FREE_CHIEF = Identity("globex", "guy", "chief")
#: What is tried on the sessions of ``globex``.
FREE_TRIAL = Identity(companion_of("globex"), "guy", "clerk")
NOBODY = Identity("acme", "ann", "nobody")
#: One whose token, or job, names no role.
ANYBODY = Identity("acme", "ann", "")

USD = 1_000_000_000


@pytest.fixture
def wired(deployed: Folder) -> Kit:
    deployed.policy(POLICY)
    deployed.agent("desk")
    deployed.agent("lab", model="house-model")
    process = deployed.process(identity="jwt")
    process.in_memory()
    return process.kit


# ---- what the parts have understood ----


def session(kit: Kit, who: Identity, agent: str = "desk") -> Head:
    return kit.intake.create(who, NewSession(agent=agent, input="hello", metadata={}))


def cap(scope: Scope) -> Callable[[Kit, Identity], object]:
    """The cap that a call has to fit into, as the treasury has it."""

    def ask(kit: Kit, who: Identity) -> object:
        head, terms = session(kit, who), kit.tenants.terms(who.tenant_id)
        states = [kit.treasury.task_state(head, terms), *kit.treasury.states(terms, who.user_id, [head.agent])]
        [state] = [state for state in states if state.scope == scope]
        return None if state.cap is None else state.cap // USD

    return ask


def midnight(kit: Kit, who: Identity) -> object:
    """When a user's day ends, UTC."""
    [day, *_] = kit.treasury.states(kit.tenants.terms(who.tenant_id), who.user_id, [])
    return (day.resets_at or "")[len("2026-03-02T") :]


def limits(kit: Kit, who: Identity) -> object:
    limits = session(kit, who).limits
    return limits.max_iterations, limits.max_tokens, limits.max_seconds


def limit(name: str) -> Callable[[Kit, Identity], object]:
    return lambda kit, who: getattr(session(kit, who).limits, name)


def granted(kit: Kit, who: Identity) -> object:
    return session(kit, who).granted_tools


def usable(kit: Kit, who: Identity) -> object:
    """The agents that this caller is given."""
    found = set()
    for agent in kit.catalog.agents:
        with contextlib.suppress(AgentNotFound):
            found.add(session(kit, who, agent).agent)
    return found


def told(kit: Kit, who: Identity) -> object:
    """Whether word of this caller's turns may be posted to each of these."""
    hosts = ("hooks.example.com", "other.example.com:8443", "third.example.com")
    answers = []
    for host in hosts:
        body = json.dumps({"agent": "desk", "input": "hello", "webhook": f"https://{host}/turns"})
        answers.append(called(kit, who, "POST", "/v1/sessions", body).status != 400)
    return answers


def called(kit: Kit, who: Identity, method: str, target: str, body: str | None = None) -> Any:
    """What the front door answers this caller, whose token names a role where it has one."""
    claims = {"tenant_id": who.tenant_id, "sub": who.user_id, **({"role": who.role} if who.role else {})}
    made = event(method, target, headers={"prefer": "wait=0"}, body=body, authorizer={"jwt": {"claims": claims}})
    return answered(FrontDoor(kit), made)


def sees(kit: Kit, who: Identity) -> object:
    """Whether somebody sees another user's session: by its id, and in the list."""
    other = session(kit, Identity(who.tenant_id, "somebody-else", "clerk")).session_id
    listed = called(kit, who, "GET", "/v1/sessions").ok()["sessions"]
    return called(kit, who, "GET", f"/v1/sessions/{other}").status, bool(listed)


def kept(kit: Kit, who: Identity) -> object:
    """The day on which a session that came to rest on 27 November is erased."""
    rests = replace(session(kit, who), status="idle", updated_at="2026-11-27T12:00:00.000Z")
    until = codec.kept_until(rests)
    return until and until[:10]


def roles(kit: Kit, who: Identity) -> object:
    """The role that the worker takes a job for, and the front door a caller."""
    body = {"agent": "desk", "input": "hello"}
    job = {**body, "schema": SCHEMA, "job_id": f"as {who.role}", "tenant_id": who.tenant_id, "user_id": who.user_id}
    vars(kit)["engine"] = mock.Mock()
    with mock.patch.object(worker_process, "Worker") as worker:
        worker_process.worker_of(kit)
    message = Message("a message", "a receipt", json.dumps({**job, **({"role": who.role} if who.role else {})}), 1)
    taken = worker.call_args.kwargs["reader"].read(message).session_id
    created = called(kit, who, "POST", "/v1/sessions", json.dumps(body)).ok(202)["session_id"]
    return [kit.sessions.head(who.tenant_id, each).role for each in (taken, created)]


def rates(model: str) -> Callable[[Kit, Identity], object]:
    def ask(kit: Kit, _: Identity) -> object:
        rates = kit.prices.rates(model, {})
        return rates.input_nanousd, rates.output_nanousd

    return ask


# ---- the rows ----


@dataclass(frozen=True)
class Row:
    policy: type[BaseModel]
    field: str
    ask: Callable[[Kit, Identity], object]
    expected: Mapping[Identity, object]


ROWS = (
    Row(Policy, "default_plan", cap("task"), {FREE_CLERK: 1, GOLD_CLERK: 10}),
    Row(Policy, "evals_plan", cap("task"), {FREE_TRIAL: 10}),
    Row(Policy, "tenants", cap("user_daily"), {FREE_CLERK: 2, GOLD_CLERK: 20}),
    Row(Policy, "plans", cap("tenant_monthly"), {FREE_CLERK: 4, GOLD_CLERK: 40}),
    Row(Policy, "default_role", roles, {ANYBODY: ["clerk", "clerk"], GOLD_CHIEF: ["chief", "chief"]}),
    Row(Policy, "roles", granted, {GOLD_CHIEF: ("look", "buy"), GOLD_CLERK: ("look",), NOBODY: ()}),
    Row(Policy, "models", rates("house-model"), {GOLD_CLERK: (3 * 5 * USD // 4, 15 * USD)}),
    Row(Policy, "models", rates("claude-sonnet-5-5"), {GOLD_CLERK: (5 * USD // 8, 3 * USD // 4)}),
    Row(PlanPolicy, "task_usd", cap("task"), {FREE_CLERK: 1, GOLD_CLERK: 10}),
    Row(PlanPolicy, "user_daily_usd", cap("user_daily"), {FREE_CLERK: 2, GOLD_CLERK: 20}),
    Row(PlanPolicy, "user_monthly_usd", cap("user_monthly"), {FREE_CLERK: 3, GOLD_CLERK: None}),
    Row(PlanPolicy, "tenant_monthly_usd", cap("tenant_monthly"), {FREE_CLERK: 4, GOLD_CLERK: 40}),
    Row(PlanPolicy, "agent_daily_usd", cap("agent_daily"), {FREE_CLERK: 5, GOLD_CLERK: 50}),
    Row(PlanPolicy, "timezone", midnight, {FREE_CLERK: "00:00:00.000Z", GOLD_CLERK: "15:00:00.000Z"}),
    Row(PlanPolicy, "retention_days", kept, {FREE_CLERK: "2027-01-02", GOLD_CLERK: None}),
    Row(PlanPolicy, "limits", limits, {FREE_CLERK: (11, 12, 13), GOLD_CLERK: (25, 8192, 21600)}),
    Row(PlanPolicy, "tools", granted, {FREE_CHIEF: ("look",), GOLD_CHIEF: ("look", "buy")}),
    Row(PlanPolicy, "denied_tools", granted, {BARRED_CHIEF: ("look",), GOLD_CHIEF: ("look", "buy")}),
    Row(PlanPolicy, "agents", usable, {FREE_CLERK: {"desk"}, GOLD_CLERK: {"desk", "lab"}}),
    Row(PlanPolicy, "webhook_hosts", told, {FREE_CLERK: [True, True, False], GOLD_CLERK: [False] * 3}),
    Row(RolePolicy, "scopes", granted, {GOLD_CHIEF: ("look", "buy"), GOLD_CLERK: ("look",)}),
    Row(RolePolicy, "denied_tools", granted, {GOLD_BUYER: ("buy",), GOLD_CHIEF: ("look", "buy")}),
    Row(RolePolicy, "limits", limits, {GOLD_CHIEF: (7, 8, 9), GOLD_CLERK: (25, 8192, 21600)}),
    Row(RolePolicy, "admin", sees, {GOLD_CHIEF: (200, True), GOLD_CLERK: (404, False)}),
    Row(PlanLimits, "max_iterations", limit("max_iterations"), {FREE_CLERK: 11, GOLD_CHIEF: 7, GOLD_CLERK: 25}),
    Row(PlanLimits, "max_tokens", limit("max_tokens"), {FREE_CLERK: 12, GOLD_CHIEF: 8, GOLD_CLERK: 8192}),
    Row(PlanLimits, "max_seconds", limit("max_seconds"), {FREE_CLERK: 13, GOLD_CHIEF: 9, GOLD_CLERK: 21600}),
)


def test_every_field_has_a_row() -> None:
    fields = {(policy, name) for policy in (Policy, PlanPolicy, RolePolicy, PlanLimits) for name in policy.model_fields}
    caps = {(PlanPolicy, scope.plan_key) for scope in SCOPES.values()}
    assert {(row.policy, row.field) for row in ROWS} == fields - {(PlanPolicy, "caps")} | caps


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.policy.__name__}.{row.field}")
def test_the_field_arrives(row: Row, wired: Kit) -> None:
    assert {who: row.ask(wired, who) for who in row.expected} == row.expected


# ---- prices of one's own ----


def test_a_model_that_only_the_policy_prices_may_be_used(deployed: Folder) -> None:
    deployed.policy(POLICY)
    deployed.agent("lab", model="house-model")
    priced, unpriced = deployed.process(), deployed.process()
    for process in (priced, unpriced):
        process.in_memory()
    assert session(priced.kit, GOLD_CLERK, "lab").status == "queued"
    deployed.policy(POLICY.replace("house-model", "another"))
    with pytest.raises(UnpricedModel):
        session(unpriced.kit, GOLD_CLERK, "lab")


def test_a_turn_is_billed_at_the_policys_price() -> None:
    """The whole way: from the file's table to what the session has cost."""

    def cost(models: Mapping[str, Any]) -> int:
        kit = MemoryKit(runner="none", policy={**STANDARD, "models": models})
        head = kit.run(kit.intake.create(WHO, NewSession(agent="plain", input="[[say hello]]", metadata={})))
        assert head.status == "idle"
        return head.account.cost_nanousd

    assert cost({MODEL: {"input_usd_per_mtok": "0", "output_usd_per_mtok": "0"}}) == 0
    dear = cost({MODEL: {"input_usd_per_mtok": "200", "output_usd_per_mtok": "200"}})
    assert dear == 2 * cost({MODEL: {"input_usd_per_mtok": "100", "output_usd_per_mtok": "100"}}) > 0


def test_a_price_that_cannot_be_used_is_named_before_any_call(deployed: Folder) -> None:
    deployed.policy(POLICY.replace('"15.00"', "15.00"))
    with pytest.raises(ValueError, match=r'policy\.toml: models\."house-model": output_usd_per_mtok'):
        _ = deployed.process().kit.prices
