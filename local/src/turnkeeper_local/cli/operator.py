"""What an operator does to a kit directly: its table, its queues. Needs credentials for them, not for the API."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import chain
from typing import Any

from turnkeeper.bootstrap import Kit
from turnkeeper.core.caps import format_cap, format_rule, parse_cap
from turnkeeper.core.errors import SessionNotFound
from turnkeeper.core.periods import zone_of
from turnkeeper.core.policy import FROM_PLAN, Terms, plan_name
from turnkeeper.core.reconciling import Reconciliation, Report, reconcile, span_of
from turnkeeper.core.rollout import BASIS_POINTS
from turnkeeper.core.scopes import SCOPES, Scope
from turnkeeper.core.session import Head, Spec, Transcript
from turnkeeper.core.spending import By
from turnkeeper.core.stops import resumable
from turnkeeper.core.versions import spec_of, version_of
from turnkeeper.runtime.reports import Reports, Spending, priced
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.scores import Assessment, Sums
from turnkeeper.settings import Settings
from turnkeeper.table import StoreBusy
from turnkeeper_local.cli.audits import AuditOffice
from turnkeeper_local.cli.dead_letters import DeadLetterOffice
from turnkeeper_local.cli.deployed import Deployed
from turnkeeper_local.cli.errors import CliError
from turnkeeper_local.cli.hooks import HookOffice
from turnkeeper_local.cli.place import Place, local_json
from turnkeeper_local.cli.tokens import TokenOffice
from turnkeeper_local.cli.top.looking import Overview
from turnkeeper_project import find_project

Document = dict[str, Any]


class Operator:
    """``name`` makes who it is, for the audit trail, when something is about to be changed."""

    def __init__(self, kit: Kit, name: Callable[[], str]) -> None:
        self._kit = kit
        self._name = name

    # ---- tenants ----

    def tenant(self, tenant_id: str) -> Document:
        terms = self._kit.tenants.terms(tenant_id)
        return tenant_document(terms, plan_name(self._kit.policy, terms.tenant))

    def set_tenant(
        self,
        tenant_id: str,
        *,
        plan: str | None = None,
        caps: Mapping[Scope, int | None] | None = None,
        from_plan: Collection[Scope] = (),
        shards: int | None = None,
        paused: bool | None = None,
        timezone: str | None = None,
    ) -> Document:
        terms = self._kit.tenants.set(
            tenant_id,
            actor=self._name(),
            plan=plan,
            caps=caps,
            from_plan=from_plan,
            shards=shards,
            paused=paused,
            timezone=timezone,
        )
        return tenant_document(terms, plan_name(self._kit.policy, terms.tenant))

    def token_office(self) -> TokenOffice:
        return TokenOffice(self._kit, self._name)

    def audit_office(self) -> AuditOffice:
        return AuditOffice(self._kit)

    def hook_office(self) -> HookOffice:
        return HookOffice(self._kit, self._name)

    def index_tenant(self, tenant_id: str) -> Document:
        return {"tenant_id": tenant_id, "sessions": self._kit.sessions.lists.take_in(tenant_id)}

    # ---- sessions ----

    def resume(
        self,
        tenant_id: str,
        session_id: str,
        *,
        max_iterations: int | None = None,
        clear_flags: bool = False,
        model: str | None = None,
    ) -> Head:
        """Let a stopped session go on under other limits or with another model, and start its runner; one that waits
        for its user only has its flags cleared. Goes onto the session's audit chain, with the deed."""
        kit = self._kit
        head = kit.sessions.head(tenant_id, session_id)
        if (
            clear_flags
            and max_iterations is None
            and model is None
            and head.resting
            and not head.ended
            and not resumable(head, "operator")
        ):
            return kit.intake.clear_flags(head, actor=self._name())
        after = kit.intake.resume(
            head, max_iterations=max_iterations, clear_flags=clear_flags, model=model, actor=self._name()
        )
        kit.dispatch.send(after)
        return after

    def transcript(self, tenant_id: str, session_id: str) -> tuple[Transcript, Spec]:
        """All of a session, with what its model is sent around it."""
        transcript = self._kit.sessions.load(tenant_id, session_id)
        return transcript, self._kit.sessions.spec_of(transcript)

    def assessments(self, tenant_id: str, session_id: str) -> list[Assessment]:
        return self._kit.scores.of_session(tenant_id, session_id)

    def worst(self, tenant_id: str, *, below: float) -> Iterator[str]:
        """Sessions with a score below this, worst first."""
        for key in self._kit.scores.worst_first(tenant_id, below=below):
            if (owner := keys.session_of_pk(key.pk)) is not None:
                yield owner[1]

    def sums(self, agent: str, since: datetime, until: datetime) -> dict[str, Sums]:
        """What the turns of an agent's versions add up to, over all tenants."""
        return self._kit.scores.sums(agent, since, until)

    # ---- rollouts ----

    def set_rollout(
        self,
        agent: str,
        *,
        share_percent: float,
        candidate: str | None = None,
        stable: str | None = None,
        tenants: tuple[str, ...] = (),
        shadow: bool = False,
    ) -> Document:
        """As :meth:`Rollouts.set`, with the agent as it is in this project."""
        self._kit.rollouts.set(
            self._kit.catalog.get(agent),
            actor=self._name(),
            share_percent=share_percent,
            candidate=candidate,
            stable=stable,
            tenants=tenants,
            shadow=shadow,
        )
        return self._rollout(agent)

    def end_rollout(self, agent: str, *, promoted: bool, reason: str | None = None) -> Document:
        if promoted:
            self._kit.rollouts.promote(agent, actor=self._name())
        else:
            self._kit.rollouts.abort(agent, actor=self._name(), reason=reason)
        return self._rollout(agent)

    def rollouts(self, agent: str | None = None) -> list[Document]:
        return [self._rollout(name) for name in ([agent] if agent else sorted(self._kit.catalog.agents))]

    def _rollout(self, agent: str) -> Document:
        rollouts, now = self._kit.rollouts, self._kit.clock.now()
        rollout = rollouts.store.get(agent)
        own = version_of(spec_of(self._kit.catalog.get(agent)))
        sums = self._kit.scores.sums(agent, now - timedelta(days=7), now + timedelta(hours=1))
        named = {own: ["here"]}
        for version, mark in ((rollout.stable, "stable"), (rollout.candidate, "candidate")) if rollout else ():
            named.setdefault(version, []).append(mark)
        return {
            "agent": agent,
            "rollout": rollout
            and {
                "state": rollout.state,
                "stable": rollout.stable,
                "candidate": rollout.candidate,
                "share_percent": rollout.share * 100 / BASIS_POINTS,
                "tenants": list(rollout.tenants),
                "shadow": rollout.shadow,
                "set_at": rollout.set_at,
                "set_by": rollout.set_by,
                "ended_at": rollout.ended_at,
                "ended_by": rollout.ended_by,
                "reason": rollout.reason,
            },
            "held_back": bool(
                rollout and rollout.state == "running" and own not in (rollout.stable, rollout.candidate)
            ),
            "versions": [
                {
                    "version": version,
                    "first_seen": seen,
                    "marks": named.get(version, []),
                    "turns": sums[version].turns if version in sums else 0,
                }
                for version, seen in sorted(rollouts.store.versions(agent), key=lambda one: one[1])
            ],
        }

    # ---- money ----

    def spend_report(self, tenant_id: str | None, by: By, first: date | None, last: date | None) -> Spending:
        """Of one tenant, or of all."""
        tenants = [tenant_id] if tenant_id is not None else self._reports.tenant_ids()
        return self._reports.spend(tenants, by, first, last, of_many=tenant_id is None)

    def reconcile(self, report: Report) -> Reconciliation:
        """The calls of all tenants, held against what the provider says."""
        reports, (first, last) = self._reports, span_of(report)
        calls = chain.from_iterable(reports.calls(tenant, first, last) for tenant in reports.tenant_ids())
        return reconcile(report, calls, lambda used: priced(used, self._kit.prices), self._kit.clock.now())

    @cached_property
    def _reports(self) -> Reports:
        return Reports(self._kit.table, self._kit.tenants, self._kit.clock)

    def newest(self, tenant_id: str) -> Iterator[str]:
        return self._kit.sessions.lists.ids(tenant_id)

    # ---- jobs ----

    def submit(self, body: str, *, tenant_id: str) -> None:
        self._kit.queue.send(body, group=tenant_id)

    def is_known(self, tenant_id: str, session_id: str) -> bool:
        """Whether there is, or was, a session of this id."""
        try:
            self._kit.sessions.head(tenant_id, session_id)
        except SessionNotFound:
            return False
        return True

    def deployed(self, place: Place) -> Deployed:
        return Deployed(place, lambda: self._kit.catalog)

    def dead_letter_office(self, place: Place) -> DeadLetterOffice:
        return DeadLetterOffice(self._kit, self._name, self.deployed(place))

    def overview(self, place: Place, tenant_id: str | None) -> Overview:
        return Overview(self._kit, place, self.queue_depths, tenant_id)

    def queue_depths(self) -> dict[str, int]:
        """Messages on the queue, being worked on, and on the dead-letter queue; about right, as the queue counts."""
        return self._kit.dead_letters.depths()


def connect(place: Place) -> Operator:
    """The operator of a kit, with the settings that its stacks say; of one on a database, with those of the
    environment."""
    if place.database_url is not None:
        kit = Kit(_database_settings(place))
        try:
            _ = kit.table
        except StoreBusy as error:
            hint = "is it there? No password of it is written down: it is in TURNKEEPER_DATABASE_URL, or in PGPASSWORD"
            raise CliError(error.detail, code=error.code, hint=hint) from error
        return Operator(kit, lambda: f"operator:{getpass.getuser()}")
    place.enter()
    outputs = place.outputs
    settings = Settings(
        table=outputs["TableName"],
        bucket=outputs["BucketName"],
        queue_url=outputs["QueueUrl"],
        dlq_url=outputs["DlqUrl"],
        turn_function=outputs["TurnFunction"],
        signing_secret_id=outputs["SigningSecretArn"],
        # Absent from stacks of an earlier version.
        words_queue_url=outputs.get("WordsQueueUrl"),
        hook_secret_id=outputs.get("HookSecretArn"),
        # Plans and agents are those of this project, as they are of whoever deployed from it.
        root=find_project().root,
    )

    def name() -> str:
        if place.local:
            return f"operator:{getpass.getuser()}"
        return str(place.session.client("sts").get_caller_identity()["Arn"])

    return Operator(Kit(settings), name)


def _database_settings(place: Place) -> Settings:
    root, key = find_project().root, local_json().parent / "signing-key"
    # Whoever only looks makes no tables.
    told = {"TURNKEEPER_DATABASE_MIGRATE": "false", "TURNKEEPER_DATABASE_URL": place.database_url}
    told["TURNKEEPER_ROOT"] = str(root)
    if place.local and key.exists():
        told["TURNKEEPER_SIGNING_KEY_FILE"] = str(key)
    return Settings.from_environment({**os.environ, **{name: value for name, value in told.items() if value}})


def tenant_document(terms: Terms, plan: str) -> Document:
    """Caps as a plan of policy.toml says them: an amount, or a table of amounts by agent."""
    tenant, caps = terms.tenant, terms.caps
    return {
        "tenant_id": tenant.tenant_id,
        "plan": plan,
        "paused": tenant.paused,
        "timezone": caps.timezone,
        "caps": {scope: format_rule(rule) for scope, rule in caps.rules.items()},
        "overrides": {scope: format_cap(cap) for scope, cap in tenant.overrides.items()},
        "shards": tenant.shards,
    }


def parse_caps(options: Sequence[str]) -> tuple[dict[Scope, int | None], set[Scope]]:
    """``SCOPE=USD``, ``SCOPE=unlimited`` or ``SCOPE=plan``, each as an option gives it: the caps, and the scopes whose
    cap is the plan's again.

    Raises:
        ValueError: no such scope or amount; the text says which there are.
    """
    caps: dict[Scope, int | None] = {}
    from_plan: set[Scope] = set()
    for option in options:
        name, separator, amount = option.partition("=")
        scope = next((scope for scope in SCOPES if scope == name.strip()), None)
        if scope is None or not separator:
            raise ValueError(f"{option!r} is not SCOPE=USD, with a scope of {', '.join(SCOPES)}")
        if amount.strip() == FROM_PLAN:
            from_plan.add(scope)
        else:
            caps[scope] = parse_cap(amount.strip())
    return caps, from_plan


def parse_timezone(option: str | None) -> str | None:
    """The option as it is.

    Raises:
        ValueError: neither ``plan`` nor the name of a time zone.
    """
    if option not in {None, FROM_PLAN}:
        zone_of(option or "")
    return option
