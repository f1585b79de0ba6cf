"""Taking work in: new sessions, new inputs, sessions that go on. Used by the front door and by the worker.

What a session is given is composed here, once: agent, plan and role make the grant and the limits. Nothing in a
request's body can widen either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from turnkeeper.core.agent import Agent, Placement
from turnkeeper.core.contents import named
from turnkeeper.core.continuation import Continuation
from turnkeeper.core.errors import (
    AgentNotFound,
    Forbidden,
    InvalidRequest,
    SessionBusy,
    SessionNotFound,
    TurnkeeperError,
)
from turnkeeper.core.inputs import invalid
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import leaving, taking
from turnkeeper.core.lifecycle.change import Change, busy, must_take_input
from turnkeeper.core.policy import Policy, Terms, compose_grant, limits_of, may_use, tightest
from turnkeeper.core.session import Head, Spec, Stop, Transcript, TurnState
from turnkeeper.core.tracing import NOWHERE, Origin, origin_of
from turnkeeper.core.transcript import Block, user_content
from turnkeeper.core.versions import Deployed, done_in, limits_in, moved_text, spec_of
from turnkeeper.ports import Clock, Ids, Prices
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.contents import Contents
from turnkeeper.runtime.jobs import Job, session_id_of_job
from turnkeeper.runtime.pricing import must_be_priced
from turnkeeper.runtime.receivers import MayTell
from turnkeeper.runtime.rollouts import Rollouts
from turnkeeper.runtime.store.deliveries import TO_NOBODY, DeliverTo
from turnkeeper.runtime.store.idempotency import IdempotencyKey
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper.runtime.store.tenants import Tenants

MAX_ITERATIONS = 1_000


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is asking, from the authorizer."""

    tenant_id: str
    user_id: str
    role: str
    #: And in which request.
    origin: Origin = field(default=NOWHERE, compare=False)


class NewSession(NamedTuple):
    agent: str
    input: str | list[Block]
    metadata: Mapping[str, Any]
    placement: Placement | None = None
    #: Who hears of its turns when they have ended.
    deliver_to: DeliverTo = TO_NOBODY


@dataclass(eq=False, repr=False)
class Intake:
    sessions: Sessions
    tenants: Tenants
    policy: Policy
    catalog: Catalog
    prices: Prices
    clock: Clock
    ids: Ids
    #: Fetches what inputs name by address; ``None`` where addresses stay as they are.
    contents: Contents | None = None
    #: Lets new versions in step by step; ``None`` where what is deployed is in force at once.
    rollouts: Rollouts | None = None
    #: Say who may be told of a turn's end; ``None`` where nobody can be.
    telling: MayTell | None = None

    # ---- new sessions ----

    def create(
        self,
        who: Identity,
        request: NewSession,
        *,
        key: IdempotencyKey | None = None,
        session_id: str | None = None,
    ) -> Head:
        """A session with its first input, on its way to a runner: ``handoff`` says to which. While the tenant is paused
        no runner is asked for: the input is kept, and the session stopped as ``paused``, to go on with later.

        Raises:
            AgentNotFound: no such agent, or the tenant's plan does not hold it.
            UnpricedModel: nobody can price its model, or one of those that fall back for it; nothing was spent.
            ContentUnusable: as :meth:`content_of` does.
            SessionBusy: a session of this id exists.
            AlreadyDone: the idempotency key was used.
            InvalidRequest: who is to hear of it may not.
        """
        agent, terms = self.admitted(who, request.agent)
        self._must_be_told(request.deliver_to, terms)
        # Of a job that is delivered twice nothing is fetched twice.
        if session_id is not None and named(user_content(request.input)) and self._exists(who.tenant_id, session_id):
            raise SessionBusy("the session exists already", session_id=session_id)
        content = self.content_of(request.input)
        head = self.compose(who, agent, terms, request, session_id or self.ids.session_id())
        change = taking.create(head, self.clock.now(), content)
        beside = request.deliver_to.put(head.tenant_id, head.session_id)
        return self.sessions.create(self.held_back(change, terms), key, beside=beside)

    def take_job(self, job: Job) -> str:
        """The session of a job: made where this is the first that is heard of it. Where it exists, this is a duplicate,
        or a runner died with it: either way it goes on from there, also where it would not be taken in any more.

        Whoever may write to the queue may name tenant, user and role. A role that policy.toml does not describe gains
        nothing: it has no scopes. A paused tenant's job is taken in as well, stopped as ``paused``, and can be resumed.
        Put back instead, it would be a dead letter after three receives.

        Raises:
            AgentNotFound, UnpricedModel, ContentUnusable, InvalidRequest: as :meth:`create` does.
        """
        origin = origin_of(job.traceparent, job.job_id)
        who = Identity(job.tenant_id, job.user_id, job.role or self.policy.default_role, origin)
        deliver_to = DeliverTo(job.webhook, job.reply_to, job.job_id if job.reply_to else None)
        request = NewSession(job.agent, job.input, job.metadata, "background", deliver_to)
        session_id = session_id_of_job(job.tenant_id, job.job_id)
        try:
            self.create(who, request, session_id=session_id)
        except SessionBusy:
            pass
        except TurnkeeperError as error:
            # What cannot be taken in now may have been before: its agent was taken away since, or its price.
            if error.retryable or not self._exists(job.tenant_id, session_id):
                raise
        return session_id

    def held_back(self, change: Change, terms: Terms) -> Change:
        """The same change; while the tenant is paused, its turn ends with it."""
        if not terms.tenant.paused:
            return change
        return leaving.ending(change, self.clock.now(), Stop(reason="paused"))

    def content_of(self, value: str | Sequence[Block]) -> tuple[Block, ...]:
        """An input as it is written down: with the contents that it names by address, which are fetched now.

        Raises:
            ContentUnusable: an address gives nothing that can be used.
        """
        content = user_content(value)
        return content if self.contents is None else self.contents.keep(content)

    def _must_be_told(self, deliver_to: DeliverTo, terms: Terms) -> None:
        if deliver_to == TO_NOBODY:
            return
        if self.telling is None:
            raise invalid("This deployment tells nobody of a turn's end.", "webhook", "nobody is told here")
        self.telling.check(deliver_to, terms)

    def _exists(self, tenant_id: str, session_id: str) -> bool:
        try:
            self.sessions.head(tenant_id, session_id)
        except SessionNotFound:
            return False
        return True

    def admitted(self, who: Identity, name: str) -> tuple[Agent, Terms]:
        """An agent that this caller may use now, and under what terms; raises as :meth:`create` does."""
        agent = self.catalog.get(name)
        terms = self.tenants.terms(who.tenant_id)
        if not may_use(agent.name, terms.plan):
            raise AgentNotFound(f"there is no agent {agent.name!r}", agent=agent.name)
        must_be_priced(self.prices, agent, self.catalog.priced)
        return agent, terms

    def compose(self, who: Identity, agent: Agent, terms: Terms, request: NewSession, session_id: str) -> Head:
        """A session as it would begin: what agent, plan and role make of it, on a version that is in the table."""
        placement = request.placement or agent.placement
        if agent.engine is not None and placement != "background":
            if placement == "interactive":
                why = f"agent {agent.name!r} runs on {agent.engine}, in the background only"
                raise InvalidRequest(why, errors=[{"where": "placement", "why": why}])
            placement = "background"
        role = self.policy.role(who.role)
        now = self.clock.now()
        spec = self._spec(agent, who.tenant_id, who.user_id)
        return Head(
            tenant_id=who.tenant_id,
            session_id=session_id,
            user_id=who.user_id,
            role=who.role,
            agent=agent.name,
            version=self.sessions.keep_version(who.tenant_id, spec),
            placement=placement,
            engine=agent.engine,
            metadata=dict(request.metadata),
            created_at=iso(now),
            updated_at=iso(now),
            status="queued",
            turn=TurnState(started_at=iso(now), traceparent=who.origin.traceparent, request_id=who.origin.request_id),
            granted_tools=compose_grant(agent.all_tools(), terms.plan, role),
            limits=limits_of(limits_in(spec), terms.plan, role),
            retention_days=terms.plan.retention_days,
            done=done_in(spec),
        )

    def _spec(self, agent: Agent, tenant_id: str, user_id: str) -> Spec:
        """What a turn of this user begins on.

        Raises:
            UnpricedModel: nobody can price a model of it.
        """
        if self.rollouts is None:
            return spec_of(agent)
        spec = self.rollouts.spec(agent, tenant_id, user_id)
        must_be_priced(self.prices, spec, self.catalog.priced)
        return spec

    # ---- turns ----

    def post(
        self, head: Head, value: str | list[Block], *, who: Identity | None = None, key: IdempotencyKey | None = None
    ) -> Head:
        """A user's next input to a session at rest. The turn begins with the agent as it is deployed now, unless that
        is pinned. Of the grant stays what the agent still has.

        Args:
            who: whoever says it. With a lesser role than the session was made with, the turn has fewer tools.

        Raises:
            SessionBusy: a turn is running.
            SessionEnded: it has ended; ``status`` says how.
            InvalidRequest: its agent is of another engine now than the session.
            ContentUnusable: as :meth:`content_of` does.
            AlreadyDone: the idempotency key was used.
        """
        role, actor = (who.role, who.user_id) if who is not None else (None, None)
        must_take_input(head)  # before anything is fetched or written for it
        content, deployed, tools = self.content_of(value), self._deployed(head), self._tools(head)
        change = taking.begin_turn(
            head,
            self.clock.now(),
            content,
            role=role,
            actor=actor,
            deployed=deployed,
            tools=tools,
            origin=who.origin if who is not None else NOWHERE,
        )
        return self.sessions.write_at_rest(head, change, key)

    def _deployed(self, head: Head) -> Deployed | None:
        """The agent as it is deployed now, with its version in the table; ``None`` where the session stays with the
        version that it has."""
        if (agent := self.catalog.find(head.agent)) is None:
            return None
        if agent.engine != head.engine:
            raise InvalidRequest(moved_text(agent, head.engine), session_id=head.session_id)
        if agent.pin == "session":
            return None
        spec = self._spec(agent, head.tenant_id, head.user_id)
        return Deployed(agent.name, self.sessions.keep_version(head.tenant_id, spec), done_in(spec))

    def _tools(self, head: Head) -> frozenset[str] | None:
        """Names of the tools that the session's agent has now; ``None`` where it is not there or cannot be loaded."""
        agent = self.catalog.find(head.agent)
        return None if agent is None else frozenset(tool.name for tool in agent.all_tools())

    def resume(
        self,
        head: Head,
        *,
        max_iterations: int | None = None,
        clear_flags: bool = False,
        model: str | None = None,
        actor: str | None = None,
        who: Identity | None = None,
        key: IdempotencyKey | None = None,
    ) -> Head:
        """A stopped session goes on in the same turn, as far as the limit that ended it allows now. A limit that is
        raised and flags that are cleared go onto the session's audit chain, in the same write.

        Args:
            model: what answers from now on, instead of the model of the session's version. It becomes a version of its
                own, which the session has until a turn begins on what is deployed.
            actor: the operator whose word it is; ``None`` where it is the session's own user.
            who: as for :meth:`post`.

        Raises:
            SessionBusy: somebody else did so first, or it is running.
            SessionEnded: there is nothing to go on with.
            InvalidRequest: fewer iterations than one.
            UnpricedModel: nobody can price the model.
            Forbidden: more iterations than the tenant's plan and the session's role allow.
            AlreadyDone: the idempotency key was used.
        """
        from turnkeeper.core.decide import go_on_note

        if not head.resting:
            raise busy(head)
        if max_iterations is not None:
            if max_iterations < 1:
                raise InvalidRequest("max_iterations is at least 1")
            most = self.most_iterations(head)
            if max_iterations > most:
                raise Forbidden(f"max_iterations is at most {most} for this session")
        role, user = (who.role, who.user_id) if who is not None else (None, None)
        transcript = self.sessions.load(head.tenant_id, head.session_id)
        change = taking.go_on(
            head,
            self.clock.now(),
            role=role,
            actor=user,
            operator=actor,
            max_iterations=max_iterations,
            clear_flags=clear_flags,
            deployed=self._with_model(transcript, model) if model is not None else None,
            tools=self._tools(head),
            note=go_on_note(transcript.entries),
            request_id=who.origin.request_id if who is not None else None,
        )
        return self.sessions.write_at_rest(head, change, key)

    def _with_model(self, transcript: Transcript, model: str) -> Deployed:
        """The session's version with another model, in the table."""
        head = transcript.head
        spec = self.sessions.spec_of(transcript)
        self.prices.rates(model, spec.model_options)
        others = tuple(name for name in spec.fallback_models if name != model)
        other = spec.model_copy(update={"model": model, "fallback_models": others})
        return Deployed(head.agent, self.sessions.keep_version(head.tenant_id, other), head.done)

    def clear_flags(self, head: Head, *, actor: str) -> Head:
        """Let ``once`` tools run again in a session that rests and may be spoken to: nothing else changes.

        Raises:
            SessionBusy: a turn is running.
            SessionEnded: it has ended.
        """
        return self.sessions.write_at_rest(head, taking.clear_flags(head, self.clock.now(), actor))

    def most_iterations(self, head: Head) -> int:
        """Up to which the limit can be raised: the agent's own can be; those of the tenant's plan and the
        role cannot."""
        plan = self.tenants.terms(head.tenant_id).plan
        role = self.policy.role(head.role)
        return tightest(MAX_ITERATIONS, plan.limits.max_iterations, role.limits.max_iterations) or MAX_ITERATIONS

    # ---- whose session ----

    def owned(self, who: Identity, session_id: str) -> Head:
        """The head of a session that this caller may see; another tenant's or user's does not exist for it.

        Raises:
            SessionNotFound
        """
        head = self.sessions.head(who.tenant_id, session_id)
        if head.user_id != who.user_id and not self.policy.role(who.role).admin:
            raise SessionNotFound(f"there is no session {session_id}", session_id=session_id)
        return head

    def continued(self, who: Identity, token: Continuation) -> Head:
        """The head of the session that a continuation token is for.

        Raises:
            SessionNotFound: it is another tenant's or user's.
        """
        if (token.tenant_id, token.user_id) != (who.tenant_id, who.user_id):
            raise SessionNotFound("there is no such session")
        return self.sessions.head(token.tenant_id, token.session_id)
