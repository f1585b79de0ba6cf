"""Sessions beside sessions: a candidate tried on the same inputs, a judge who reads what was done.

They belong to a tenant of their own (:mod:`turnkeeper.core.reserved_tenants`), so that caps, ledger, lists and kill
switch are theirs without a rule for them anywhere. Their names follow from the turn that they are about, so that a
change which is told twice makes one; and an item beside that turn's session names them, so that an erasure finds them.
They are only written down here. The sweep, which may ask for runners, sends them on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from turnkeeper.core import branching, judging
from turnkeeper.core.agent import Agent
from turnkeeper.core.companion import CompanionKind, CompanionOf
from turnkeeper.core.errors import AgentNotFound, SessionBusy
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import taking
from turnkeeper.core.lifecycle.change import Change
from turnkeeper.core.limits import Limits
from turnkeeper.core.policy import Policy, compose_grant, limits_of, narrow, tightest
from turnkeeper.core.reserved_tenants import companion_of, is_companion
from turnkeeper.core.scoring import Judge, Score
from turnkeeper.core.session import Handoff, Head, Spec, TurnState
from turnkeeper.core.tools import UPDATE_PLAN
from turnkeeper.core.transcript import text_of
from turnkeeper.core.versions import done_in, limits_in, runs_tools_elsewhere
from turnkeeper.ports import Clock, Ids, Redacts
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.rollouts import Rollouts
from turnkeeper.runtime.scoring import Scorer
from turnkeeper.runtime.store import keys
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.table import Check, Cond, Put

logger = logging.getLogger(__name__)

#: Entries before a turn that a shadow is given at most: with these it is written at once, or not at all. In parts, what
#: was said could stay behind when the session is erased meanwhile.
MAX_COPIED = 60


@dataclass(eq=False, repr=False)
class Companions:
    sessions: Sessions
    scorer: Scorer
    rollouts: Rollouts
    tenants: Tenants
    policy: Policy
    catalog: Catalog
    redactor: Redacts
    clock: Clock
    ids: Ids

    def follow(self, head: Head) -> list[Score]:
        """What is to be made of a turn that has ended: what its judge said is kept, and a shadow or a judge is begun
        where it is to have one. Doing it again does nothing. New scores, if any.

        Raises:
            Unavailable, StoreBusy: later it may be done.
        """
        if head.companion is not None:
            return self._take_verdict(head, head.companion) if head.companion.kind == "judge" else []
        if self.policy.evals_plan is None or is_companion(head.tenant_id) or not _is_worth_it(head):
            return []
        with suppress(AgentNotFound):
            agent = self.catalog.get(head.agent)
            self._shadow(head, agent)
            if (judge := agent.scoring.judge) is not None and judge.takes(head.session_id, head.turn.number):
                self._ask(head, judge)
        return []

    # ---- shadows ----

    def _shadow(self, head: Head, agent: Agent) -> None:
        """The turn once more, on the candidate's version. Its grant are tools that only read; all others that the turn
        had are named beside it, as dry: a runner that does not know what that means does not have them at all."""
        rollout = self.rollouts.current(agent.name) if head.engine is None else None
        if rollout is None or not rollout.shadows(head.tenant_id, head.session_id, head.turn.number, head.version):
            return
        candidate = self.rollouts.arm(agent, rollout.candidate)
        if candidate is None or runs_tools_elsewhere(candidate):
            logger.warning("version %s of %s cannot be a shadow", rollout.candidate, agent.name)
            return
        terms = self.tenants.terms(head.tenant_id)
        if terms.tenant.paused or self._is_paused(head):
            return
        transcript = self.sessions.load(head.tenant_id, head.session_id)
        entries = [entry for entry in transcript.entries if entry.seq <= head.last_seq]
        asked = next((entry for entry in entries if entry.seq == head.turn.seq and entry.type == "user"), None)
        if asked is None or transcript.lost:
            return
        copies = branching.copied(entries, head.turn.seq - 1)
        if len(copies) > MAX_COPIED:
            logger.info("turn %s of %s is too far into its session for a shadow", head.turn.number, head.session_id)
            return
        role = self.policy.role(head.turn.role or head.role)
        usable = narrow(head.granted_tools, compose_grant(agent.all_tools(), terms.plan, role))
        effects = {tool.name: tool.effect for tool in agent.all_tools()}
        reads = tuple(name for name in usable if effects[name] == "read" or name == UPDATE_PLAN)
        dry = tuple(name for name in usable if name not in reads)
        base = self._composed(head, "shadow", head.agent, candidate, limits_in(candidate), dry_tools=dry)
        base = replace(base, granted_tools=reads, user_id=head.user_id, role=head.role, metadata=head.metadata)
        base = replace(base, turn=replace(base.turn, role=head.turn.role))
        self._create(head, taking.fork(base, self.clock.now(), head, copies, asked.content))

    # ---- judges ----

    def _ask(self, head: Head, judge: Judge) -> None:
        if self._is_paused(head):
            return
        trajectory = self.scorer.trajectory(head)
        spec = Spec(model=judge.model, system=judging.SYSTEM, tools=())
        base = self._composed(head, "judge", judging.NAME, spec, judging.LIMITS)
        nonce = self.ids.token()[:16]
        content = judging.asked(judge.rubric, trajectory, nonce=nonce, redact=self.redactor.redact_text)
        self._create(head, taking.create(base, self.clock.now(), content))

    def _take_verdict(self, head: Head, about: CompanionOf) -> list[Score]:
        answer = self.sessions.latest_answer(head.tenant_id, head.session_id, since=1)
        at_least = self._at_least(about.agent)
        if head.status != "idle" or answer is None:
            score = judging.failed(head.stop.reason if head.stop else head.status)
        else:
            score = judging.verdict(text_of(answer.content), at_least)
        return [score] if self.scorer.scores.keep_verdict(about, score, self.clock.now()) else []

    def _at_least(self, agent: str) -> float:
        found = self.catalog.find(agent)
        return found.scoring.judge.at_least if found is not None and found.scoring.judge is not None else 0.0

    # ---- both ----

    def _is_paused(self, head: Head) -> bool:
        """The kill switch of the tenant that would pay for it."""
        return self.tenants.terms(companion_of(head.tenant_id)).tenant.paused

    def _composed(
        self, head: Head, kind: CompanionKind, agent: str, spec: Spec, limits: Limits, *, dry_tools: Sequence[str] = ()
    ) -> Head:
        """A companion as it would begin, before anything is said in it."""
        tenant, now = companion_of(head.tenant_id), iso(self.clock.now())
        plan = self.tenants.terms(tenant).plan
        about = CompanionOf(
            kind=kind,
            tenant_id=head.tenant_id,
            session_id=head.session_id,
            turn=head.turn.number,
            first_seq=head.turn.seq,
            last_seq=head.last_seq,
            agent=head.agent,
            version=head.version,
            dry_tools=tuple(dry_tools),
        )
        return Head(
            tenant_id=tenant,
            session_id=f"{head.session_id}-t{head.turn.number}-{kind}",
            user_id=head.user_id,
            role="",
            agent=agent,
            version=self.sessions.keep_version(tenant, spec),
            placement="background",
            created_at=now,
            updated_at=now,
            status="queued",
            turn=TurnState(started_at=now),
            limits=limits_of(limits, plan, self.policy.role(head.role)),
            retention_days=tightest(plan.retention_days, head.retention_days),
            done=done_in(spec),
            companion=about,
        )

    def _create(self, head: Head, change: Change) -> None:
        # Whoever writes it cannot send it: nothing was sent, so the sweep does at once.
        unsent = Handoff(to="queue", at=iso(self.clock.now()), sends=0)
        made = replace(change, head=replace(change.head, handoff=unsent))
        beside = (
            Check(keys.head_key(head.tenant_id, head.session_id), (Cond("status", "<>", "erased"),)),
            Put(
                keys.companion_key(head.tenant_id, head.session_id, made.head.session_id),
                {"companion_tenant": made.head.tenant_id, "companion_session": made.head.session_id},
            ),
        )
        with suppress(SessionBusy):  # It is there already, or what it is about was erased meanwhile.
            self.sessions.create(made, beside=beside)


def _is_worth_it(head: Head) -> bool:
    """Nobody took the turn's end out of its hands."""
    return head.status not in ("cancelled", "erased") and (head.stop is None or head.stop.reason != "paused")
