"""The one loop that both runners use: claim, load, then decide and act until the turn rests or moves on.

The core decides what comes next; this module does it and writes down what came of it. Between two steps nothing of a
turn lives only here: whoever claims the session next reads all of it from the table.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

from turnkeeper.core import judging
from turnkeeper.core.agent import Agent, secret_arguments
from turnkeeper.core.denials import Denial
from turnkeeper.core.errors import LeaseLost, Unavailable
from turnkeeper.core.lifecycle import running
from turnkeeper.core.lost_runners import owner_of
from turnkeeper.core.policy import Terms, compose_grant, denial_of, may_use, narrow
from turnkeeper.core.session import Head, Spec, Transcript
from turnkeeper.core.tools import NO_VALUES, Tool
from turnkeeper.core.versions import moved_text, spec_of, version_of
from turnkeeper.runtime.compacting import Compacting
from turnkeeper.runtime.ending import Ending
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.model_step import ModelStep
from turnkeeper.runtime.prompting import Prompting
from turnkeeper.runtime.relaying import Relay
from turnkeeper.runtime.shadowing import in_shadow
from turnkeeper.runtime.store import codec, keys
from turnkeeper.runtime.tool_answers import ToolAnswers
from turnkeeper.runtime.tool_step import ToolStep
from turnkeeper.runtime.tool_values import DeclaredValues
from turnkeeper.runtime.toolbox import Toolbox
from turnkeeper.runtime.turn import Turn
from turnkeeper.runtime.worksheet import Worksheet
from turnkeeper.runtime.world import Allowance, World
from turnkeeper.table import Item, StoreBusy
from turnkeeper.telemetry import fields

logger = logging.getLogger(__name__)

#: What a cancel that ends a turn itself has for that, in a request that somebody waits for.
TO_END = Allowance(runner="lambda", name="cancel", hard_seconds=20.0)
#: What a judge's sessions are, but for the model and the words of their version.
JUDGE = Agent(name="judge", model="as-its-version-says", system=judging.SYSTEM, limits=judging.LIMITS)
#: Of a session of which nothing can be read but its head.
_UNREAD = Spec(model="", system="", tools=())


class Drives(Protocol):
    """Another engine than the kit's own loop, for agents that name it (``Agent.engine``)."""

    def __call__(self, turn: Turn, agent: Agent) -> Head:
        """Bring a claimed turn as far as this runner goes: the head as it was left, at rest or on its way.

        Everything that it writes goes through the turn's own parts, so that grants, audit, breakers and the fence are
        those of every session; its model calls are made through the gateway.

        Raises:
            LeaseLost, StoreBusy, Unavailable: as :meth:`Engine.run` does.
        """


@dataclass(frozen=True)
class _Claimed:
    """A session that this runner has, what its tenant may, and its first entry and who looks on, as read before."""

    head: Head
    terms: Terms
    read: Sequence[Item | None]


class Engine:
    """``engines``: by its name, what else than the kit's own loop drives turns in this process."""

    def __init__(self, world: World, engines: Mapping[str, Drives] | None = None) -> None:
        self.world = world
        self._engines = engines or {}

    def run(
        self, tenant_id: str, session_id: str, allowance: Allowance, on_beat: Callable[[], None] = lambda: None
    ) -> Head:
        """Run the session's turn as far as this runner goes; the head as it was left: at rest, or on its way.

        Args:
            on_beat: called whenever the lease was extended, for what else has to be kept alive.

        Raises:
            SessionBusy: another runner has it.
            SessionEnded: there is nothing to run.
            SessionNotFound: no such session.
            LeaseLost: another runner took it over; nothing more was written.
            StoreBusy, Unavailable: the table cannot be written, or the queue cannot be reached after a handoff was.
                The lease ends by itself, the handoff is due: the sweep looks after the session.
        """
        world = self.world
        held_since = world.clock.monotonic()
        claimed = self._claim(tenant_id, session_id, allowance)
        with fields.scope(**fields.of_head(claimed.head)):
            with world.keep_lease(claimed.head, held_since, on_beat) as lease:
                left = self._drive(claimed, allowance, lease)
            self.send(left)
        return left

    def cancel(self, tenant_id: str, session_id: str, actor: str) -> Head:
        """Take a session that no runner holds and end its turn: what was begun is booked and answered as after any
        runner that was lost, and nothing else is begun.

        Raises:
            SessionBusy: a runner has it.
            SessionEnded, SessionNotFound, LeaseLost, StoreBusy, Unavailable: as for :meth:`run`.
        """
        world = self.world
        held_since = world.clock.monotonic()
        claimed = self._claim(tenant_id, session_id, TO_END)
        if not claimed.head.turn.cancel_requested:
            claimed = replace(claimed, head=world.sessions.request_cancel(claimed.head, actor))
        head = claimed.head
        with fields.scope(**fields.of_head(head)), world.keep_lease(head, held_since, lambda: None) as lease:
            return self._drive(claimed, TO_END, lease)

    def _claim(self, tenant_id: str, session_id: str, allowance: Allowance) -> _Claimed:
        """The session, taken for this runner. What is read before is one read: a new turn waits for it."""
        world = self.world
        head_key, *others = keys.beginning(tenant_id, session_id)
        terms, (item, *read) = world.tenants.terms_beside(tenant_id, [head_key, *others])
        before = codec.head_of(item) if item is not None else None
        owner = owner_of(allowance.name, world.ids.token())
        head = world.sessions.claim(tenant_id, session_id, owner, allowance.runner, before=before)
        return _Claimed(head, terms, read)

    def _drive(self, claimed: _Claimed, allowance: Allowance, lease: Lease) -> Head:
        """Drive the turn. One that cannot be driven is ended, or every runner to come would fail at it alike."""
        turn: Turn | None = None
        head, terms = claimed.head, claimed.terms
        try:
            sessions = self.world.sessions
            transcript = sessions.begun(head, *claimed.read) or sessions.load(head.tenant_id, head.session_id)
            if transcript.head.lease.fencing_token != head.lease.fencing_token:
                raise LeaseLost("another runner took the session", session_id=head.session_id)
            turn = self._turn(transcript, self._spec(transcript), terms, allowance, lease)
            return turn.drive(self._other_engine(transcript.head, turn))
        except (LeaseLost, StoreBusy, Unavailable):
            raise
        except Exception as error:
            logger.exception("session %s: the turn failed", head.session_id)
            if turn is None:
                # It cannot even be read. What was claimed is enough to end it.
                turn = self._turn(Transcript(head=head, entries=()), _UNREAD, terms, allowance, lease)
            return turn.fail(error)
        finally:
            if turn is not None:
                turn.relay.close()

    def _other_engine(self, head: Head, turn: Turn) -> Callable[[], Head] | None:
        """What drives the turn instead of the kit's own loop, which still ends one that was cancelled. A session is not
        moved from one engine to another: what one of them remembers of it, the other does not know."""
        agent = self._agent(head)
        if agent is None or head.turn.cancel_requested or agent.engine == head.engine is None:
            return None
        if agent.engine != head.engine:
            return lambda: turn.give_up({"code": "engine_changed", "hint": moved_text(agent, head.engine)})
        if (drive := self._engines.get(head.engine or "")) is None:
            hint = f"This worker has no {head.engine}: install turnkeeper[agent-sdk] where it runs (docs/agent-sdk.md)."
            return lambda: turn.give_up({"code": "engine_missing", "hint": hint})
        return lambda: drive(turn, agent)

    def _spec(self, transcript: Transcript) -> Spec:
        """What the session's version says. It is read only where it is not the one that is deployed here."""
        head = transcript.head
        if (agent := self._agent(head)) is not None and version_of(spec := spec_of(agent)) == head.version:
            return spec
        return self.world.sessions.spec_of(transcript)

    def _turn(self, transcript: Transcript, spec: Spec, terms: Terms, allowance: Allowance, lease: Lease) -> Turn:
        world, head = self.world, transcript.head
        agent = self._agent(head)
        granted, tools = self._granted(head, agent, terms) if agent is not None else (head.granted_tools, {})
        toolbox = self._toolbox(head, agent, tools, terms)
        began = world.clock.monotonic()
        sheet = Worksheet(
            world.sessions,
            world.clock,
            world.ids,
            lease,
            transcript,
            spec,
            time_is_up=lambda: allowance.is_up(world.clock.monotonic() - began),
        )
        model = ModelStep(
            sheet,
            toolbox,
            terms,
            model=world.model,
            prices=world.prices,
            treasury=world.treasury,
            redactor=world.redactor,
            parallel=world.parallel,
            warn=world.warn,
            context=agent.context if agent is not None else None,
        )
        relay = self._relay(transcript, agent, lease)
        blocks_once = agent is not None and agent.block_once_after_flag
        tool_step = ToolStep(
            sheet, toolbox, sessions=world.sessions, auditor=world.auditor, relay=relay, blocks_once=blocks_once
        )
        turn = Turn(
            sheet,
            model,
            Prompting(sheet, world.sessions, agent, terms.caps.timezone, world.parallel, world.ids),
            Compacting(sheet, model, world.ids),
            tool_step,
            toolbox,
            Ending(sheet, tool_step, world.auditor),
            allowance=allowance,
            lease=lease,
            clock=world.clock,
            ids=world.ids,
            redactor=world.redactor,
            relay=relay,
            agent_found=agent is not None,
        )
        turn.narrow(granted)
        if len(transcript.lost) > head.lost:
            sheet.keep(running.lose_contents(sheet.head, world.clock.now(), transcript.lost))
        return turn

    def _toolbox(self, head: Head, agent: Agent | None, tools: Mapping[str, Tool], terms: Terms) -> Toolbox:
        world = self.world
        if agent is not None and head.companion is not None:
            tools = in_shadow(head.companion, tools, {tool.name: tool for tool in agent.all_tools()}, world.sessions)
        return Toolbox(
            tools,
            clock=world.clock,
            parallel=world.parallel,
            answers=ToolAnswers(world.ids, world.redactor, world.detector),
            done=head.done,
            denial=lambda name: self._denial(name, head, agent, terms),
            values=DeclaredValues(agent, world.tool_values) if agent is not None else NO_VALUES,
            secret_arguments=partial(secret_arguments, agent),
        )

    def _relay(self, transcript: Transcript, agent: Agent | None, lease: Lease) -> Relay:
        """What tells of the turn while somebody looks on; the lease is where it hears that somebody does."""
        hidden = {tool.name for tool in agent.all_tools() if tool.secret_arguments} if agent is not None else ()
        relay = self.world.relay(transcript.head, hidden)
        lease.on_look(relay.look)
        relay.look(transcript.looked)
        return relay

    def _agent(self, head: Head) -> Agent | None:
        if head.companion is not None and head.companion.kind == "judge":
            return JUDGE
        return self.world.catalog.find(head.agent)

    def _granted(self, head: Head, agent: Agent, terms: Terms) -> tuple[tuple[str, ...], Mapping[str, Tool]]:
        """The session's grant, narrowed by the policy of now for good, and the tools of this turn: those that whoever
        began it may use as well. Neither ever widens what was granted."""
        policy, by_name = self.world.policy, {tool.name: tool for tool in agent.all_tools()}

        def allowed(role: str) -> tuple[str, ...]:
            # A plan that does not hold the agent any more leaves it without tools.
            tools = by_name.values() if may_use(agent.name, terms.plan) else ()
            return compose_grant(tools, terms.plan, policy.role(role))

        now = narrow(head.granted_tools, allowed(head.role))
        # A tool that the agent lacks here is out of reach: that is not policy's word, nor this deployment's alone. What
        # the agent has no more is taken away where a turn begins or goes on, in the write that does it.
        kept = tuple(name for name in head.granted_tools if name in now or name not in by_name)
        usable = narrow(now, allowed(head.turn.role)) if head.turn.role is not None else now
        return kept, {name: by_name[name] for name in usable}

    def _denial(self, name: str, head: Head, agent: Agent | None, terms: Terms) -> Denial:
        if agent is None:
            return Denial(why="unknown")
        return denial_of(
            name,
            {tool.name: tool for tool in agent.all_tools()},
            agent=agent.name,
            plan=terms.plan,
            policy=self.world.policy,
            role=head.role,
            turn_role=head.turn.role,
        )

    def send(self, head: Head) -> None:
        """Ask for the next runner of a session that is on its way to one."""
        self.world.dispatch.send(head)
