"""A team's agents in memory, under a test's hand: real engine, real policy, real money; no network and no waiting."""

from __future__ import annotations

import copy
import json
import tomllib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from turnkeeper.core.agent import Agent
from turnkeeper.core.caps import parse_cap
from turnkeeper.core.errors import SessionBusy, SessionEnded, SessionNotFound
from turnkeeper.core.policy import policy_of
from turnkeeper.core.scopes import SCOPES
from turnkeeper.core.session import Head
from turnkeeper.ports import InjectionDetector, ModelReply, ModelRequest, OnEvent, Prices
from turnkeeper.runtime.catalog import Catalog, load_agents
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.jobs import SCHEMA, session_id_of_job
from turnkeeper.runtime.leases import Lease
from turnkeeper.runtime.relaying import Relay
from turnkeeper.runtime.world import Allowance
from turnkeeper.testing import crashes
from turnkeeper.testing.clock import ManualClock, SeededIds
from turnkeeper.testing.fakes import Execution, Fake, Workshop
from turnkeeper.testing.faulty_table import Crash, FaultyTable
from turnkeeper.testing.memory_kit import DEFAULT_TENANT, MemoryKit
from turnkeeper.testing.memory_table import MemoryTable
from turnkeeper.testing.runs import Run
from turnkeeper.testing.script import Script, ScriptedModel, ScriptError, scripted, told
from turnkeeper.testing.tool_values import MemoryValues
from turnkeeper.testing.virtual import VirtualLease, VirtualParallel, VirtualRelay

DEFAULT_USER = "u1"

#: Times that a run is looked after before a test is told that it never comes to rest.
_MOST_ROUNDS = 1_000


class _Kit(MemoryKit):
    """The kit in memory, by a clock that stands still."""

    crash_point: crashes.CrashPoint

    @cached_property
    def table(self) -> FaultyTable:
        return FaultyTable(MemoryTable(), self.crash_point)

    def keep_lease(self, head: Head, held_since: float, on_beat: Callable[[], None]) -> Lease:
        return VirtualLease(self.sessions, self.clock, head, held_since, on_beat)

    def relay(self, head: Head, hidden: Collection[str]) -> Relay:
        return VirtualRelay(self.streams, head, self.clock, hidden)


class _Current:
    """The model of whichever run is being driven."""

    def __init__(self) -> None:
        self.model = ScriptedModel()

    def call(self, request: ModelRequest, *, timeout_seconds: float, on_event: OnEvent | None = None) -> ModelReply:
        reply = self.model.call(request, timeout_seconds=timeout_seconds, on_event=on_event)
        if (wrote := reply.tokens.output_tokens) > request.max_tokens:
            # No API answers so, and caps hold only because none does.
            text = f"an answer of {wrote} tokens to a request that allows {request.max_tokens}, by limit or by cap"
            self.model.errors.append(ScriptError(text))
        return reply

    def count_tokens(self, request: ModelRequest) -> int:
        return self.model.count_tokens(request)


class Workbench:
    """A kit in memory with these agents and this policy.

    Args:
        catalog: the agents; :meth:`of_project` takes those of a repository.
        policy: what ``policy.toml`` says, parsed.
        detector, prices: to share what takes a while to make between many workbenches.
    """

    def __init__(
        self,
        catalog: Catalog,
        policy: Mapping[str, Any],
        *,
        root: Path = Path(),
        detector: InjectionDetector | None = None,
        prices: Prices | None = None,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._root = root
        self._detector = detector
        self._prices = prices
        self._workshop = Workshop()
        self._crash_point = crashes.CrashPoint()
        self._current = _Current()
        #: Time of this kit. A sleep takes none of yours.
        self.clock = ManualClock()
        #: What tools find: ``values.secrets["crm"] = "..."``, ``values.settings["crm_url"] = "..."``.
        self.values = MemoryValues()

    @classmethod
    def of_project(cls, root: Path, folders: Iterable[Path] = (Path("agents"),), **shared: Any) -> Workbench:
        """The agents and the policy of a repository."""
        policy = tomllib.loads((root / "policy.toml").read_text())
        return cls(load_agents([root / folder for folder in folders]), policy, root=root, **shared)

    def fresh(self) -> Workbench:
        """Another one with the same agents and policy, in which nothing has happened and nothing is replaced."""
        return Workbench(self._catalog, self._policy, root=self._root, detector=self._detector, prices=self._prices)

    def override(self, *, policy: Mapping[str, Any] | None = None, agents: Iterable[Agent] = ()) -> None:
        """Change what is deployed, before the first run: tables of ``policy.toml`` are merged, agents are added or take
        the place of those of their names."""
        if "kit" in vars(self):
            raise RuntimeError("override what is deployed before the first run")
        self._policy = _merged(self._policy, policy or {})
        given = {agent.name: agent for agent in agents}
        self._catalog = Catalog({**self._catalog.agents, **given}, self._catalog.broken)

    @cached_property
    def kit(self) -> MemoryKit:
        """What is below: the ports and services, for what this class has no word for."""
        agents = {name: self._workshop.fitted(agent) for name, agent in self._catalog.agents.items()}
        policy = policy_of(self._policy)
        kit = _Kit(
            Catalog(agents, self._catalog.broken),
            policy,
            self._current,
            clock=self.clock,
            ids=SeededIds(),
            runner="none",
            root=self._root,
            detector=self._detector,
            prices=None if policy.models else self._prices,
        )
        kit.crash_point = self._crash_point
        kit.parallel = VirtualParallel(self.clock)
        vars(kit)["tool_values"] = self.values
        return kit

    # ---- running ----

    def run(
        self,
        agent: str,
        text: str | list[dict[str, Any]],
        *,
        model: Script = (),
        role: str | None = None,
        tenant: str = DEFAULT_TENANT,
        user: str = DEFAULT_USER,
        metadata: Mapping[str, Any] | None = None,
        crash_after_write: int | None = None,
    ) -> Run:
        """A new session with this input, run to where it rests; on the worker where the agent belongs there.

        Args:
            crash_after_write: the runner dies after so many writes of its own: see :meth:`Run.recover`.

        Raises:
            ScriptError: the script ran out, or was not played out though the turn has ended.
            AssertionError: what failed in a function of the script, or in a fake.
            TurnkeeperError: what a caller would be told: AgentNotFound, UnpricedModel ...
        """
        self._must_be_sound(agent)
        who = Identity(tenant, user, role or self.kit.policy.default_role)
        head = self.kit.intake.create(who, NewSession(agent=agent, input=text, metadata=metadata or {}))
        return self._started(Run(self, tenant, head.session_id, user, scripted(model)), head, crash_after_write)

    def job(
        self,
        agent: str,
        text: str,
        *,
        model: Script = (),
        role: str | None = None,
        tenant: str = DEFAULT_TENANT,
        user: str = DEFAULT_USER,
        job_id: str = "job-1",
        metadata: Mapping[str, Any] | None = None,
        crash_after_write: int | None = None,
    ) -> Run:
        """A job on the queue, done by the worker. The same ``job_id`` twice is one job."""
        self._must_be_sound(agent)
        body = {"schema": SCHEMA, "job_id": job_id, "tenant_id": tenant, "user_id": user, "agent": agent, "input": text}
        more = {"metadata": dict(metadata or {}), **({"role": role} if role else {})}
        self.kit.queue.send(json.dumps({**body, **more}), group=tenant)
        run = Run(self, tenant, session_id_of_job(tenant, job_id), user, scripted(model))
        return self._driven(run, crash_after_write)

    def post(
        self, run: Run, text: str, *, model: Script, role: str | None, crash_after_write: int | None = None
    ) -> Run:
        """See :meth:`Run.say`."""
        head = run.head
        who = Identity(run.tenant, run.user, role or head.role)
        self._go_on_with(run, model)
        return self._started(run, self.kit.intake.post(head, text, who=who), crash_after_write)

    def resume(self, run: Run, *, model: Script, with_model: str | None = None, **options: Any) -> Run:
        """See :meth:`Run.resume`."""
        if run.crashed:
            raise RuntimeError("the session did not stop, its runner died: recover() goes on with it")
        self._go_on_with(run, model)
        head = self.kit.intake.resume(run.head, model=with_model, actor=options.pop("actor", "operator"), **options)
        return self._started(run, head, None)

    def recover(self, run: Run, *, model: Script = ()) -> Run:
        """See :meth:`Run.recover`."""
        self._go_on_with(run, model)
        run.script.interrupted()
        run.crashed = False
        return self._driven(run, None)

    def cancel(self, run: Run, actor: str) -> Run:
        """See :meth:`Run.cancel`."""
        self.kit.cancelling.cancel(run.head, actor=actor)
        return run

    # ---- what operators do ----

    def pause(self, tenant: str = DEFAULT_TENANT) -> None:
        """The kill switch. May be thrown in the middle of a run: by a function of the script, or by a fake."""
        self.kit.tenants.set(tenant, actor="operator", paused=True)

    def unpause(self, tenant: str = DEFAULT_TENANT) -> None:
        self.kit.tenants.set(tenant, actor="operator", paused=False)

    def set_plan(self, plan: str, tenant: str = DEFAULT_TENANT) -> None:
        self.kit.tenants.set(tenant, actor="operator", plan=plan)

    def set_caps(self, tenant: str = DEFAULT_TENANT, **caps: str) -> None:
        """Caps of a tenant by the keys of a plan: ``task_usd="5.00"``, ``user_daily_usd="unlimited"``."""
        scopes = {row.plan_key: scope for scope, row in SCOPES.items()}
        self.kit.tenants.set(
            tenant, actor="operator", caps={scopes[key]: parse_cap(amount) for key, amount in caps.items()}
        )

    # ---- tools ----

    def replace(self, tool: str, answer: Any) -> Fake:
        """Put something else in a tool's place: what it returns, an exception that it raises, or a function that is
        called with the tool's arguments (after ``ctx``, where its first parameter is called so). Name, schema, scopes
        and effect stay the tool's. ``.calls`` of what is returned are the arguments that it was called with."""
        names = {each.name for agent in self._catalog.agents.values() for each in agent.all_tools()}
        if tool not in names:
            raise ScriptError(f"no agent has a tool {tool!r}; there are {', '.join(sorted(names)) or 'none'}")
        self._workshop.fakes[tool] = fake = Fake(tool, answer)
        return fake

    @property
    def executions(self) -> list[Execution]:
        """Every call of a tool's code so far, or of what replaced it; denied calls never got that far."""
        return self._workshop.executions

    # ---- crashes ----

    @property
    def writes(self) -> int:
        """What runners have written so far, in transactions."""
        return self._crash_point.writes

    def crash_at(self, write: int, when: crashes.When = "after") -> None:
        """The runner dies at this write, counted over all runs from the first, and the run recovers by itself."""
        self._crash_point.at, self._crash_point.when = write, when

    def crash_everywhere(
        self, scenario: Callable[[Workbench], Run], check: Callable[[Run], None] = crashes.no_check
    ) -> list[crashes.Crashed]:
        """Play a scenario with a crash before and after each of its writes; see :func:`crashes.everywhere`. The
        scenario is given a workbench of its own each time: whatever it replaces, it replaces itself."""
        return crashes.everywhere(self.fresh, scenario, check)

    # ---- inside ----

    def _must_be_sound(self, agent: str) -> None:
        if (why := self._catalog.broken.get(agent)) is not None:
            raise AssertionError(f"agent {agent} could not be loaded: {why}, at {why.file}:{why.line}")

    def _go_on_with(self, run: Run, model: Script) -> None:
        if isinstance(model, Sequence):
            run.script.add(model)
        else:
            run.script = scripted(model)

    def _started(self, run: Run, head: Head, crash_after_write: int | None) -> Run:
        self.kit.dispatch.send(head)
        return self._driven(run, crash_after_write)

    def _driven(self, run: Run, crash_after_write: int | None) -> Run:
        by_itself = crash_after_write is None
        if crash_after_write is not None:
            self.crash_at(self.writes + crash_after_write)
        self._current.model = run.script
        try:
            self._drive(run)
        except Crash:
            run.crashed = not by_itself
            return self.recover(run) if by_itself else run
        self._complain(run)
        if not by_itself and self._crash_point.at is not None:
            self._crash_point.at = None
            raise ScriptError(f"the run ended before its write {crash_after_write}: there was nothing to crash at")
        return run

    def _drive(self, run: Run) -> None:
        """Play Lambda, worker, clock and sweep until the session rests."""
        for _ in range(_MOST_ROUNDS):
            if self._turn_of_function() or self._message() or self._rests(run):
                if self._rests(run):
                    return
                continue
            self._wait()
        raise AssertionError(f"session {run.session_id} never comes to rest: {run.head.status}")

    def _rests(self, run: Run) -> bool:
        try:
            return run.head.resting
        except SessionNotFound:
            return False

    def _turn_of_function(self) -> bool:
        started = self.kit.turns.started
        if not started:
            return False
        self._engine_run(*started.pop(0), self.kit.allowance)
        return True

    def _message(self) -> bool:
        messages = self.kit.queue.receive(most=1, wait_seconds=0, visibility_seconds=30)
        for message in messages:
            if self._engine_run(*self.kit.session_of(message.body), Allowance(runner="fargate")):
                self.kit.queue.delete(message)
        return bool(messages)

    def _engine_run(self, tenant: str, session_id: str, allowance: Allowance) -> bool:
        """False where another runner holds the session, or seems to."""
        self._crash_point.counting = True
        try:
            self.kit.engine.run(tenant, session_id, allowance)
        except SessionBusy:
            return False
        except SessionEnded:
            return True
        finally:
            self._crash_point.counting = False
        return True

    def _wait(self) -> None:
        """Until something is due: a message that shows, or half a minute. Then the sweep looks."""
        seconds = 30.0
        if (at := self.kit.queue.next_visible_at()) is not None:
            seconds = min(seconds, max(0.001, (at - self.clock.now()).total_seconds()))
        self.clock.advance(seconds)
        self.kit.sweep.run(lambda: 60.0)

    def _complain(self, run: Run) -> None:
        """Raise what went wrong in the test's own parts, and where the script was longer than the turn."""
        for error in (*run.script.errors, *self._workshop.errors):
            raise error
        head = run.head
        if run.script.left and head.status in ("idle", "completed", "failed"):
            left = "\n".join(f"  {told(each)}" for each in run.script.left)
            why = head.stop.reason if head.stop else "-"
            raise ScriptError(f"the turn ended ({head.status}, {why}) and its script has more:\n{left}")


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        old = merged.get(key)
        merged[key] = _merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return merged
