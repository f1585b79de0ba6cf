"""Who may spend what and use what: plans, roles and tenants, from ``policy.toml`` and the tenant's item.

Limits of agent, plan and role combine to the tightest. What is not named is not allowed; what is not capped has to say
``"unlimited"``.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, NamedTuple, Self, overload

import pydantic
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    field_validator,
    model_validator,
)

from turnkeeper.core.agent import Agent, Limits
from turnkeeper.core.caps import NO_CAP, CapRule, Caps, caps_from, format_cap, parse_rule
from turnkeeper.core.denials import Denial
from turnkeeper.core.errors import InvalidRequest
from turnkeeper.core.periods import UTC_NAME, zone_of
from turnkeeper.core.policy_problems import InvalidPolicy, Problem, all_of, problems_of
from turnkeeper.core.reserved_tenants import is_companion
from turnkeeper.core.scopes import SCOPES, Scope
from turnkeeper.core.tools import Tool
from turnkeeper.core.values import dataclass

#: Instead of a cap or a time zone of a tenant: what its plan says counts again.
FROM_PLAN = "plan"
MAX_SHARDS = 32
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")


#: As TOML has it: ``true`` is no 1, which would erase what is kept after a day.
Whole = Annotated[int, Field(strict=True, ge=1)]


def _checked_zone(name: str) -> str:
    zone_of(name)
    return name


def _checked_host(host: str) -> str:
    if not _HOST.fullmatch(host):
        raise ValueError(f"{host!r} is no host: write hooks.example.com or hooks.example.com:8443, without a wildcard")
    return host.lower().removesuffix(":443")


class PlanLimits(BaseModel):
    """Upper bounds that a plan or role sets on an agent's limits."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    max_iterations: Whole | None = None
    max_tokens: Whole | None = None
    max_seconds: Whole | None = None


class PlanPolicy(BaseModel):
    """What a tenant has bought."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    #: Of every scope. In policy.toml each has a key of its own, as its row says: ``user_daily_usd`` and so on.
    caps: dict[Scope, CapRule]
    #: IANA name of the zone in which days and months begin and end.
    timezone: Annotated[str, AfterValidator(_checked_zone)] = UTC_NAME
    limits: PlanLimits = PlanLimits()
    #: Days after which the contents of a session at rest are erased; ``None`` keeps them until somebody erases them.
    retention_days: Annotated[Whole, Field(le=36_500)] | None = None
    #: Names of the agents' tools that tenants of this plan may be granted; ``None`` leaves it to the roles.
    tools: frozenset[str] | None = None
    #: Names of tools that nobody of this plan is granted, whatever the agent lists and the role may do.
    denied_tools: frozenset[str] = frozenset()
    #: Names of the agents that tenants of this plan may use; ``None`` for all.
    agents: frozenset[str] | None = None
    #: Hosts that word of a turn may be posted to, each by its whole name, with the port where that is not 443.
    webhook_hosts: frozenset[Annotated[str, AfterValidator(_checked_host)]] = frozenset()

    @model_validator(mode="wrap")
    @classmethod
    def _caps_of_keys(cls, plan: Any, made: ModelWrapValidatorHandler[Self]) -> Self:
        """Takes the caps from their keys. Every cap that is missing or none is told, each at its key."""
        if not isinstance(plan, Mapping):
            return made(plan)
        rest, caps = dict(plan), dict.fromkeys(SCOPES, NO_CAP)
        problems: list[Problem] = []
        if "caps" in rest:
            example = SCOPES["user_daily"].plan_key
            problems.append(Problem(("caps",), f"caps: each scope has a key of its own, such as {example}"))
        for scope, row in SCOPES.items():
            try:
                if row.plan_key in rest:
                    caps[scope] = parse_rule(row, rest.pop(row.plan_key))
                elif row.required:
                    raise ValueError(f"{row.plan_key} is missing: an amount in dollars such as '5.00', or 'unlimited'")
            except ValueError as error:
                problems.append(Problem((row.plan_key,), str(error)))
        return all_of(problems, lambda: made({**rest, "caps": caps}))


class RolePolicy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    scopes: frozenset[str] = frozenset()
    #: Names of tools that nobody of this role is granted: for those that need no scope, as Bash of another engine.
    denied_tools: frozenset[str] = frozenset()
    limits: PlanLimits = PlanLimits()
    #: May see the whole tenant's sessions.
    admin: bool = Field(default=False, strict=True)

    @field_validator("scopes")
    @classmethod
    def _no_wildcards(cls, scopes: frozenset[str]) -> frozenset[str]:
        if wild := sorted(scope for scope in scopes if "*" in scope):
            raise ValueError(f"scopes are named one by one, without wildcards: {', '.join(wild)}")
        return scopes


class Policy(BaseModel):
    """``policy.toml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    default_plan: str
    default_role: str = "user"
    plans: dict[str, PlanPolicy]
    #: The plan of those tenants that shadows and judges of other tenants' sessions are in; ``None``: there are none.
    evals_plan: str | None = None
    roles: dict[str, RolePolicy] = Field(default_factory=dict)
    #: Which plan a tenant has by default; ``turnkeeper tenant set`` overrides it.
    tenants: dict[str, str] = Field(default_factory=dict)
    #: Price overrides, as the price adapter reads them.
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _plans_exist(self) -> Self:
        named = [(("default_plan",), self.default_plan), *((("tenants", t), p) for t, p in self.tenants.items())]
        if self.evals_plan is not None:
            named.append((("evals_plan",), self.evals_plan))
        wrong = [
            Problem(path, f"plan {plan!r} is named but not described under [plans.{plan}]", (plan, tuple(self.plans)))
            for path, plan in named
            if plan not in self.plans
        ]
        return all_of(wrong, lambda: self)

    def role(self, name: str) -> RolePolicy:
        """What the role may do; a role that nobody described may do nothing."""
        return self.roles.get(name, RolePolicy())


# ---- tenants ----


@pydantic.dataclasses.dataclass(frozen=True, kw_only=True)
class TenantRecord:
    """A tenant's own item: what an operator has set for it."""

    tenant_id: str
    plan: str | None = None
    #: Per scope, nano-dollars or ``None`` for unlimited; absent scopes come from the plan.
    overrides: dict[Scope, int | None] = Field(default_factory=dict)
    #: ``None``: that of the plan.
    timezone: str | None = None
    paused: bool = False
    #: Parts that the tenant's counter is split in, and the most that it ever was.
    shards: int = Field(default=1, ge=1, le=MAX_SHARDS)
    shards_high: int = 1
    #: Grows by one with each change.
    version: int = 0
    audit_seq: int = 0
    audit_hash: str = ""


@dataclass(frozen=True, kw_only=True)
class TenantChange:
    """What an operator changes of a tenant; what is ``None`` stays.

    Raises:
        InvalidRequest: shards out of range, or no such time zone.
    """

    plan: str | None = None
    caps: Mapping[Scope, int | None] | None = None
    #: Scopes whose cap is the plan's again.
    from_plan: Collection[Scope] = ()
    shards: int | None = None
    paused: bool | None = None
    #: An IANA name, or ``FROM_PLAN``.
    timezone: str | None = None

    def __post_init__(self) -> None:
        if self.shards is not None and not 1 <= self.shards <= MAX_SHARDS:
            raise InvalidRequest(f"a tenant's counter has 1 to {MAX_SHARDS} shards")
        if self.timezone not in {None, FROM_PLAN}:
            try:
                zone_of(self.timezone or "")
            except ValueError as error:
                raise InvalidRequest(str(error)) from error

    def applied(self, record: TenantRecord) -> TenantRecord:
        """The record with the change, as its next version."""
        overrides = {**record.overrides, **(self.caps or {})}
        timezone = record.timezone if self.timezone is None else self.timezone
        shards = record.shards if self.shards is None else self.shards
        return replace(
            record,
            plan=record.plan if self.plan is None else self.plan,
            overrides={scope: cap for scope, cap in overrides.items() if scope not in self.from_plan},
            timezone=None if timezone == FROM_PLAN else timezone,
            shards=shards,
            shards_high=max(record.shards_high, shards),
            paused=record.paused if self.paused is None else self.paused,
            version=record.version + 1,
        )

    def detail(self) -> dict[str, Any]:
        """What is changed, for the audit trail."""
        settings = {"plan": self.plan, "shards": self.shards, "paused": self.paused, "timezone": self.timezone}
        return {
            **{name: value for name, value in settings.items() if value is not None},
            **{SCOPES[scope].plan_key: format_cap(cap) for scope, cap in (self.caps or {}).items()},
            **{SCOPES[scope].plan_key: FROM_PLAN for scope in self.from_plan},
        }


# ---- what follows for a tenant ----


class Terms(NamedTuple):
    """Under what terms a tenant's sessions run: what an operator has set, the plan, and the caps that follow."""

    tenant: TenantRecord
    plan: PlanPolicy
    caps: Caps


def plan_name(policy: Policy, tenant: TenantRecord) -> str:
    """The plan in force. One that policy.toml no longer describes falls back to the default plan."""
    by_policy = policy.evals_plan if is_companion(tenant.tenant_id) else policy.tenants.get(tenant.tenant_id)
    name = tenant.plan or by_policy or policy.default_plan
    return name if name in policy.plans else policy.default_plan


def terms_of(policy: Policy, tenant: TenantRecord) -> Terms:
    plan = policy.plans[plan_name(policy, tenant)]
    return Terms(tenant, plan, _caps_in_force(plan, tenant))


def _caps_in_force(plan: PlanPolicy, tenant: TenantRecord) -> Caps:
    """Plan and overrides, combined. An override replaces all that the plan says of its scope, so one of a scope that
    agents hold is for every agent."""
    rules = {
        scope: CapRule(tenant.overrides[scope]) if scope in tenant.overrides else plan.caps[scope] for scope in SCOPES
    }
    return caps_from(rules, tenant.timezone or plan.timezone, tenant.shards)


@overload
def tightest(first: int, /, *others: int | None) -> int: ...
@overload
def tightest(*values: int | None) -> int | None: ...
def tightest(*values: int | None) -> int | None:
    """The smallest of the values that there are."""
    return min((value for value in values if value is not None), default=None)


def limits_of(limits: Limits, plan: PlanPolicy, role: RolePolicy) -> Limits:
    """An agent's limits, tightened by plan and role."""

    return replace(
        limits,
        max_iterations=tightest(limits.max_iterations, plan.limits.max_iterations, role.limits.max_iterations),
        max_tokens=tightest(limits.max_tokens, plan.limits.max_tokens, role.limits.max_tokens),
        max_seconds=tightest(limits.max_seconds, plan.limits.max_seconds, role.limits.max_seconds),
    )


def compose_grant(tools: Iterable[Tool], plan: PlanPolicy, role: RolePolicy) -> tuple[str, ...]:
    """Names of the tools that a session of this plan and role is given, in the agent's order.

    A tool that declares scopes needs every one of them named for the role.
    """
    denied = plan.denied_tools | role.denied_tools
    return tuple(
        tool.name
        for tool in tools
        if tool.scopes <= role.scopes and (plan.tools is None or tool.name in plan.tools) and tool.name not in denied
    )


def narrow(granted: Iterable[str], allowed_now: Iterable[str]) -> tuple[str, ...]:
    """A grant after policy has changed: it may only shrink."""
    allowed = set(allowed_now)
    return tuple(name for name in granted if name in allowed)


def misnamed_agents(policy: Policy, agents: Iterable[Agent], unknown: Collection[str] = ()) -> Iterator[Problem]:
    """Where plans speak of an agent under a name that none has: caps, which the agent that is meant then goes without,
    and the lists of agents that tenants may use.

    Args:
        unknown: further names that agents may have, such as the folders of those that could not be loaded.
    """
    names = {agent.name: agent.name for agent in agents}
    now = {old: agent.name for agent in agents for old in agent.formerly} | names
    known = tuple(sorted({*names, *unknown}))
    for plan_name, plan in policy.plans.items():
        by_key = {SCOPES[scope].plan_key: rule.by_agent for scope, rule in plan.caps.items()}
        for key, said in {**by_key, "agents": sorted(plan.agents or ())}.items():
            for name in (name for name in said if name not in known):
                path = ("plans", plan_name, key, name)
                if name not in now:
                    text = f"{key} names {name!r}, and no agent has that name"
                    yield Problem(path, text, (name, known))
                elif now[name] not in said:
                    yield Problem(
                        path,
                        f"{key} names {name!r}, which is called {now[name]!r} now and is not named there: "
                        "name it as well",
                    )


def may_use(agent: str, plan: PlanPolicy) -> bool:
    return plan.agents is None or agent in plan.agents


def policy_of(raw: Mapping[str, Any]) -> Policy:
    """Validate a parsed policy.toml.

    Raises:
        InvalidPolicy: holds everything that is wrong, each with the keys that lead to it.
    """
    try:
        return Policy.model_validate(raw)
    except ValidationError as error:
        raise InvalidPolicy(problems_of(error, _known_keys)) from None


def _known_keys(path: tuple[str | int, ...]) -> Collection[str]:
    """The keys that a table of policy.toml may have."""
    match path:
        case ():
            return Policy.model_fields
        case ("plans", _):
            return {*PlanPolicy.model_fields, *(row.plan_key for row in SCOPES.values())} - {"caps"}
        case ("roles", _):
            return RolePolicy.model_fields
        case ("plans" | "roles", _, "limits"):
            return PlanLimits.model_fields
    return ()


def denial_of(
    name: str,
    tools: Mapping[str, Tool],
    *,
    agent: str,
    plan: PlanPolicy,
    policy: Policy,
    role: str,
    turn_role: str | None,
) -> Denial:
    """Why a tool is out of reach.

    Args:
        tools: all of the session's agent, by name.
        role, turn_role: the session's, and that of whoever began the turn where it is another one.
    """
    if (tool := tools.get(name)) is None:
        return Denial(why="unknown")
    if not may_use(agent, plan) or (plan.tools is not None and name not in plan.tools) or name in plan.denied_tools:
        return Denial(why="plan")
    for each in filter(None, (role, turn_role)):
        if missing := tool.scopes - policy.role(each).scopes:
            able = sorted(known for known, described in policy.roles.items() if tool.scopes <= described.scopes)
            return Denial(why="role", missing_scopes=tuple(sorted(missing)), role=each, given_to_roles=tuple(able))
        if name in policy.role(each).denied_tools:
            return Denial(why="role", role=each)
    return Denial(why="not_granted")
