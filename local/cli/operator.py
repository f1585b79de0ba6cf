"""What an operator does to a kit directly: its table, its queues. Needs credentials for them, not for the API."""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from local.cli.place import REPOSITORY, Place
from turnkeeper.adapters.sqs import redrive
from turnkeeper.bootstrap import Kit
from turnkeeper.core.audit import Problem, verify
from turnkeeper.core.decide import resumable
from turnkeeper.core.policy import SCOPES, Scope, Terms, format_cap, parse_cap
from turnkeeper.core.session import Head
from turnkeeper.ports import Item
from turnkeeper.runtime.store.tenants import audit_records
from turnkeeper.settings import Settings

Document = dict[str, Any]

#: A chain that grows while it is read is read again, this often.
_READS = 5


@dataclass(frozen=True)
class Chain:
    """An audit chain as it was found. ``session_id`` is None for the tenant's own."""

    session_id: str | None
    records: Sequence[Mapping[str, Any]]
    problems: Sequence[Problem]

    def document(self) -> Document:
        found = [{**problem.model_dump(), "text": str(problem)} for problem in self.problems]
        return {"session_id": self.session_id, "records": len(self.records), "problems": found}


class Operator:
    """``name`` makes who it is, for the audit trail, when something is about to be changed."""

    def __init__(self, kit: Kit, name: Callable[[], str]) -> None:
        self._kit = kit
        self._name = name

    # ---- tenants ----

    def tenant(self, tenant_id: str) -> Document:
        return tenant_document(self._kit.tenants.terms(tenant_id), self._plan_name(tenant_id))

    def set_tenant(
        self,
        tenant_id: str,
        *,
        plan: str | None = None,
        caps: Mapping[Scope, int | None] | None = None,
        from_plan: Collection[Scope] = (),
        shards: int | None = None,
        paused: bool | None = None,
    ) -> Document:
        self._kit.tenants.set(
            tenant_id,
            actor=self._name(),
            plan=plan,
            caps=caps,
            from_plan=from_plan,
            shards=shards,
            paused=paused,
        )
        return self.tenant(tenant_id)

    def _plan_name(self, tenant_id: str) -> str:
        policy, tenant = self._kit.policy, self._kit.tenants.terms(tenant_id).tenant
        wanted = tenant.plan or policy.tenants.get(tenant_id) or policy.default_plan
        return wanted if wanted in policy.plans else policy.default_plan

    # ---- sessions ----

    def resume(self, tenant_id: str, session_id: str, *, max_iterations: int | None, clear_flags: bool) -> Head:
        """Let a stopped session go on under other limits, and start its runner. Goes onto the tenant's audit chain."""
        kit = self._kit
        head = kit.sessions.head(tenant_id, session_id)
        if resumable(head):
            # First the record, then the deed: rather one record too many than a deed without one.
            told = {"action": "resume", "session_id": session_id}
            if max_iterations is not None:
                told["max_iterations"] = str(max_iterations)
            if clear_flags:
                told["clear_flags"] = "true"
            kit.tenants.audit(tenant_id, "operator_action", self._name(), told)
        after = kit.intake.resume(head, max_iterations=max_iterations, clear_flags=clear_flags)
        kit.dispatch.send(after)
        return after

    # ---- jobs ----

    def submit(self, body: str, *, tenant_id: str) -> None:
        self._kit.queue.send(body, group=tenant_id)

    def redrive(self) -> int:
        settings = self._kit.settings
        assert settings.queue_url is not None
        assert settings.dlq_url is not None
        return redrive(self._kit.aws.sqs, dlq_url=settings.dlq_url, queue_url=settings.queue_url)

    def queue_depths(self) -> dict[str, int]:
        """Messages on the queue, being worked on, and on the dead-letter queue; about right, as SQS counts."""
        settings = self._kit.settings
        depths = {}
        for name, url in (("queue", settings.queue_url), ("dead_letters", settings.dlq_url)):
            assert url is not None
            answer = self._kit.aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
            depths[name] = int(answer["Attributes"]["ApproximateNumberOfMessages"])
            if name == "queue":
                depths["in_flight"] = int(answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"])
        return depths

    # ---- audit ----

    def audit(self, tenant_id: str, session_id: str | None) -> list[Document]:
        """The records of a session's chain, or of the tenant's own."""
        if session_id is not None:
            self._kit.sessions.head(tenant_id, session_id)
        return audit_records(self._kit.sessions.audit(tenant_id, session_id))

    def verify(self, tenant_id: str, session_id: str | None) -> Chain:
        """Check one chain against its head."""
        for attempt in range(1, _READS + 1):
            before = self._chain_head(tenant_id, session_id)
            items: list[Item] = self._kit.sessions.audit(tenant_id, session_id)
            count, digest = self._chain_head(tenant_id, session_id)
            if (count, digest) == before or attempt == _READS:
                break
        records = audit_records(items)
        problems = verify(records, count, digest, tenant_id=tenant_id, session_id=session_id)
        return Chain(session_id, records, problems)

    def verify_all(self, tenant_id: str) -> Iterator[Chain]:
        """The tenant's own chain, then those of all its sessions, newest first."""
        yield self.verify(tenant_id, None)
        for head in self.heads(tenant_id):
            yield self.verify(tenant_id, head.session_id)

    def heads(self, tenant_id: str) -> Iterator[Head]:
        cursor = None
        while True:
            heads, cursor = self._kit.sessions.list(tenant_id, None, status=None, limit=100, cursor=cursor)
            yield from heads
            if cursor is None:
                return

    def _chain_head(self, tenant_id: str, session_id: str | None) -> tuple[int, str]:
        if session_id is None:
            tenant = self._kit.tenants.terms(tenant_id).tenant
            return tenant.audit_seq, tenant.audit_hash
        head = self._kit.sessions.head(tenant_id, session_id)
        return head.audit_seq, head.audit_hash


def connect(place: Place) -> Operator:
    """The operator of a kit, with the settings that its stacks say."""
    os.environ.update(place.environment())
    outputs = place.outputs
    settings = Settings(
        table=outputs["TableName"],
        bucket=outputs["BucketName"],
        queue_url=outputs["QueueUrl"],
        dlq_url=outputs["DlqUrl"],
        turn_function=outputs["TurnFunction"],
        signing_secret_id=outputs["SigningSecretArn"],
        # Plans and agents are those of this clone, as they are of whoever deployed from it.
        root=REPOSITORY,
    )

    def name() -> str:
        if place.local:
            return f"operator:{getpass.getuser()}"
        return str(place.session.client("sts").get_caller_identity()["Arn"])

    return Operator(Kit(settings), name)


def tenant_document(terms: Terms, plan: str) -> Document:
    tenant = terms.tenant
    return {
        "tenant_id": tenant.tenant_id,
        "plan": plan,
        "paused": tenant.paused,
        "caps": {scope: format_cap(terms.caps.cap(scope)) for scope in SCOPES},
        "overrides": {scope: format_cap(cap) for scope, cap in tenant.overrides.items()},
        "shards": tenant.shards,
    }


def parse_caps(given: Sequence[str]) -> tuple[dict[Scope, int | None], set[Scope]]:
    """``SCOPE=USD``, ``SCOPE=unlimited`` or ``SCOPE=plan``, each as an option gives it: the caps, and the scopes whose
    cap is the plan's again.

    Raises:
        ValueError: no such scope or amount; the text says which there are.
    """
    caps: dict[Scope, int | None] = {}
    from_plan: set[Scope] = set()
    for text in given:
        name, separator, amount = text.partition("=")
        scope = next((scope for scope in SCOPES if scope == name.strip()), None)
        if scope is None or not separator:
            raise ValueError(f"{text!r} is not SCOPE=USD, with a scope of {', '.join(SCOPES)}")
        if amount.strip() == "plan":
            from_plan.add(scope)
        else:
            caps[scope] = parse_cap(amount.strip())
    return caps, from_plan
