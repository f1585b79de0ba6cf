"""Who may spend what and use what: plans, roles and tenants, from ``policy.toml`` and the tenant's item.

Limits of agent, plan and role combine to the tightest. What is not named is not allowed; what is not capped has to say
``"unlimited"``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, overload

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, model_validator

from turnkeeper.core.agent import Agent, Limits
from turnkeeper.core.canonical import sorted_json
from turnkeeper.core.money import format_usd, parse_usd
from turnkeeper.core.session import Frozen
from turnkeeper.core.tools import Tool

Scope = Literal["task", "user_daily", "user_monthly", "tenant_monthly"]
SCOPES: tuple[Scope, ...] = ("task", "user_daily", "user_monthly", "tenant_monthly")

UNLIMITED = "unlimited"


def parse_cap(value: Any) -> int | None:
    """Nano-dollars of a cap; ``None`` for ``"unlimited"``.

    Raises:
        ValueError: neither an amount in dollars as a string nor ``"unlimited"``.
    """
    if value == UNLIMITED:
        return None
    if not isinstance(value, str):
        raise ValueError("a cap is a string: an amount in dollars such as '5.00', or 'unlimited'")
    return parse_usd(value)


def format_cap(nanousd: int | None) -> str:
    return UNLIMITED if nanousd is None else format_usd(nanousd)


#: Nano-dollars in code, a decimal string or ``"unlimited"`` in TOML and JSON.
Cap = Annotated[int | None, BeforeValidator(parse_cap), PlainSerializer(format_cap)]


class PlanLimits(BaseModel):
    """Upper bounds that a plan or role sets on an agent's limits."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_iterations: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    max_seconds: int | None = Field(default=None, ge=1)


class PlanPolicy(BaseModel):
    """What a tenant has bought: every scope has to be said."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task_usd: Cap
    user_daily_usd: Cap
    user_monthly_usd: Cap
    tenant_monthly_usd: Cap
    limits: PlanLimits = PlanLimits()
    #: Names of the agents' tools that tenants of this plan may be granted; ``None`` leaves it to the roles.
    tools: frozenset[str] | None = None
    #: Names of the agents that tenants of this plan may use; ``None`` for all.
    agents: frozenset[str] | None = None

    def cap(self, scope: Scope) -> int | None:
        value: int | None = getattr(self, f"{scope}_usd")
        return value


class RolePolicy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    scopes: frozenset[str] = frozenset()
    limits: PlanLimits = PlanLimits()
    #: May see the whole tenant's sessions.
    admin: bool = False

    @model_validator(mode="after")
    def _no_wildcards(self) -> RolePolicy:
        if wild := sorted(scope for scope in self.scopes if "*" in scope):
            raise ValueError(f"scopes are named one by one, without wildcards: {', '.join(wild)}")
        return self


class Policy(BaseModel):
    """``policy.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default_plan: str
    default_role: str = "user"
    plans: dict[str, PlanPolicy]
    roles: dict[str, RolePolicy] = Field(default_factory=dict)
    #: Which plan a tenant has by default; ``turnkeeper tenant set`` overrides it.
    tenants: dict[str, str] = Field(default_factory=dict)
    #: Price overrides, as the price adapter reads them.
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _plans_exist(self) -> Policy:
        for plan in (self.default_plan, *self.tenants.values()):
            if plan not in self.plans:
                raise ValueError(f"plan {plan!r} is named but not described under [plans.{plan}]")
        return self

    def role(self, name: str) -> RolePolicy:
        """What the role may do; a role that nobody described may do nothing."""
        return self.roles.get(name, RolePolicy())


class TenantRecord(Frozen):
    """A tenant's own item: what an operator has set for it."""

    tenant_id: str
    plan: str | None = None
    #: Per scope, nano-dollars or ``None`` for unlimited; absent scopes come from the plan.
    overrides: dict[Scope, int | None] = Field(default_factory=dict)
    paused: bool = False
    #: Parts that the tenant's monthly counter is split in, and the most that it ever was.
    shards: int = Field(default=1, ge=1, le=32)
    shards_high: int = 1
    #: Grows by one with each change.
    version: int = 0
    audit_seq: int = 0
    audit_hash: str = ""


class Caps(Frozen):
    """The caps in force for one tenant, in nano-dollars; ``None`` is unlimited."""

    task: int | None
    user_daily: int | None
    user_monthly: int | None
    tenant_monthly: int | None
    #: Changes whenever a cap does: the shards of the tenant's counter hold it, so that no call is admitted by caps
    #: that are no longer in force.
    fingerprint: str

    def cap(self, scope: Scope) -> int | None:
        value: int | None = getattr(self, scope)
        return value


def plan_of(policy: Policy, tenant: TenantRecord) -> PlanPolicy:
    """The plan in force. A plan that policy.toml no longer describes falls back to the default plan."""
    name = tenant.plan or policy.tenants.get(tenant.tenant_id) or policy.default_plan
    return policy.plans.get(name) or policy.plans[policy.default_plan]


def caps_of(policy: Policy, tenant: TenantRecord) -> Caps:
    """Plan and overrides, combined. An override replaces the plan's cap of its scope."""
    plan = plan_of(policy, tenant)
    caps = {scope: tenant.overrides.get(scope, plan.cap(scope)) for scope in SCOPES}
    digest = hashlib.sha256(sorted_json([tenant.shards, caps], ascii=True, spaced=True)).hexdigest()
    return Caps(**caps, fingerprint=digest[:16])


class Terms(Frozen):
    """Under what terms a tenant's sessions run: what an operator has set, the plan, and the caps that follow."""

    tenant: TenantRecord
    plan: PlanPolicy
    caps: Caps


def terms_of(policy: Policy, tenant: TenantRecord) -> Terms:
    return Terms(tenant=tenant, plan=plan_of(policy, tenant), caps=caps_of(policy, tenant))


def task_cap(caps: Caps, limits: Limits) -> int | None:
    """What one session may spend: the tighter of the plan's cap and the agent's."""
    return tightest(caps.task, parse_usd(limits.task_usd) if limits.task_usd is not None else None)


@overload
def tightest(first: int, /, *others: int | None) -> int: ...
@overload
def tightest(*values: int | None) -> int | None: ...
def tightest(*values: int | None) -> int | None:
    """The smallest of the values that there are."""
    return min((value for value in values if value is not None), default=None)


def limits_of(agent: Agent, plan: PlanPolicy, role: RolePolicy) -> Limits:
    """The agent's limits, tightened by plan and role."""

    return replace(
        agent.limits,
        max_iterations=tightest(agent.limits.max_iterations, plan.limits.max_iterations, role.limits.max_iterations),
        max_tokens=tightest(agent.limits.max_tokens, plan.limits.max_tokens, role.limits.max_tokens),
        max_seconds=tightest(agent.limits.max_seconds, plan.limits.max_seconds, role.limits.max_seconds),
    )


def compose_grant(tools: Iterable[Tool], plan: PlanPolicy, role: RolePolicy) -> tuple[str, ...]:
    """Names of the tools that a session of this plan and role is given, in the agent's order.

    A tool that declares scopes needs every one of them named for the role.
    """
    return tuple(
        tool.name for tool in tools if tool.scopes <= role.scopes and (plan.tools is None or tool.name in plan.tools)
    )


def narrow(granted: Iterable[str], allowed_now: Iterable[str]) -> tuple[str, ...]:
    """A grant after policy has changed: it may only shrink."""
    allowed = set(allowed_now)
    return tuple(name for name in granted if name in allowed)


def may_use(agent: str, plan: PlanPolicy) -> bool:
    return plan.agents is None or agent in plan.agents


def policy_of(raw: Mapping[str, Any]) -> Policy:
    """Validate a parsed policy.toml. Raises pydantic.ValidationError, which says where and why."""
    return Policy.model_validate(raw)
