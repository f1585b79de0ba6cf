"""Playing a case: the real engine, ledger, breakers and guards on a store in memory, with the project's agents."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from turnkeeper.adapters.secrets import KeySource
from turnkeeper.adapters.system import SystemClock
from turnkeeper.bootstrap import Kit
from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import SessionEnded, TurnkeeperError
from turnkeeper.core.policy import Policy
from turnkeeper.core.session import Head
from turnkeeper.core.tools import Tool, ToolSet
from turnkeeper.core.trajectory import Trajectory
from turnkeeper.ports import InjectionDetector, Model, Prices
from turnkeeper.runtime.catalog import Catalog
from turnkeeper.runtime.intake import Identity, NewSession
from turnkeeper.runtime.world import Allowance
from turnkeeper.settings import Settings
from turnkeeper.testing.memory_kit import BareMemoryKit
from turnkeeper_local.evals.case import Inputs
from turnkeeper_local.evals.program import NoKey, find_sdk, scenario, standing_in
from turnkeeper_local.evals.script import fake, is_over, scripted

#: A turn that is handed on more often than this goes round in circles.
_MOST_RUNS = 50


class Unplayable(Exception):
    """A case that cannot be played: it names a tool, a role or an agent that does not exist, or its script is over."""


@dataclass(frozen=True)
class Stage:
    """What all cases of a run share: made once, and never changed by one of them."""

    root: Path
    catalog: Catalog
    policy: Policy
    prices: Prices
    detector: InjectionDetector
    #: Claude, where cases are run live.
    live: Model | None = None

    @classmethod
    def of(cls, root: Path, folders: tuple[Path, ...] = ()) -> Stage:
        find_sdk(root)
        kit = Kit(Settings.model_validate({"table": "memory", "root": root, "agents": folders, "identity": "local"}))
        return cls(root, kit.catalog, kit.policy, kit.prices, kit.detector)

    def lacks_program(self, name: str) -> bool:
        """Whether the agent runs on a program that is not here."""
        agent = self.catalog.agents.get(name)
        return agent is not None and agent.engine is not None and not find_sdk(self.root)


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without warnings in the log: what tools and providers do wrong is part of many cases."""
    log = logging.getLogger("turnkeeper")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def play(stage: Stage, agent: str, inputs: Inputs) -> Trajectory:
    """Play all turns of a case, and tell what happened.

    Raises:
        Unplayable: it says so itself.
    """
    given = _agent(stage, agent, inputs)
    script = scripted(inputs.model, given.model) if inputs.model is not None else None
    model = stage.live or script or _stand_in()
    if given.engine is not None:
        with _program(stage, given, inputs, model) as kit:
            return _played(kit, stage, given, inputs)
    played = _played(CaseKit(stage, given, model), stage, given, inputs)
    if script is not None and is_over(script, inputs.model or ()):
        raise Unplayable(f"the script is over after {len(inputs.model or ())} answers, and the agent asks for more")
    return played


def _played(kit: CaseKit, stage: Stage, given: Agent, inputs: Inputs) -> Trajectory:
    role = inputs.role or stage.policy.default_role
    if role not in stage.policy.roles:
        raise Unplayable(f"there is no role {role!r} in policy.toml")
    who = Identity(inputs.tenant, inputs.user, role)
    head: Head | None = None
    try:
        for turn in inputs.turns:
            head = kit.turn(who, given, turn, head, inputs.session_metadata)
    except SessionEnded:
        pass  # the trajectory says how; what else the user would have said is not heard
    except TurnkeeperError as error:
        raise Unplayable(str(error)) from error
    assert head is not None
    return kit.trajectory(head.tenant_id, head.session_id)


def _agent(stage: Stage, name: str, inputs: Inputs) -> Agent:
    """The agent with what the case says in the place of tools."""
    if name not in stage.catalog.agents:
        why = stage.catalog.broken.get(name)
        raise Unplayable(f"agent {name} cannot be loaded: {why}" if why else f"there is no agent {name}")
    agent = stage.catalog.agents[name]
    if strange := inputs.tools.keys() - {tool.name for tool in agent.all_tools()}:
        raise Unplayable(f"agent {name} has no tool {', '.join(sorted(strange))}")

    def played(tool: Tool) -> Tool:
        return fake(tool, inputs.tools[tool.name]) if tool.name in inputs.tools else tool

    tools = [ToolSet(tuple(map(played, one))) if isinstance(one, ToolSet) else played(one) for one in agent.tools]
    return replace(agent, tools=tools, context=agent.context if inputs.summarize else None)


class _Impatient(SystemClock):
    """The system's clock, on which nobody waits: whoever sleeps is as far as if it had."""

    def __init__(self) -> None:
        self._slept_seconds = 0.0

    def now(self) -> datetime:
        return super().now() + timedelta(seconds=self._slept_seconds)

    def monotonic(self) -> float:
        return super().monotonic() + self._slept_seconds

    def sleep(self, seconds: float) -> None:
        self._slept_seconds += seconds


class CaseKit(BareMemoryKit):
    """A kit in memory with one agent, run on the caller's thread."""

    def __init__(self, stage: Stage, agent: Agent, model: Model, **settings: Any) -> None:
        super().__init__(
            Catalog({agent.name: agent}),
            stage.policy,
            model,
            detector=stage.detector,
            prices=stage.prices,
            root=stage.root,
            **settings,
        )
        # With Claude, time is what it is.
        if stage.live is None:
            self.clock = _Impatient()

    def turn(self, who: Identity, agent: Agent, text: Any, head: Head | None, metadata: Mapping[str, Any]) -> Head:
        """One input, run until the session rests, by whichever runner it asks for."""
        if head is None:
            head = self.intake.create(who, NewSession(agent.name, text, metadata))
        else:
            head = self.intake.post(head, text, who=who)
        for _ in range(_MOST_RUNS):
            with contextlib.suppress(SessionEnded):
                head = self.engine.run(head.tenant_id, head.session_id, Allowance(runner="fargate"))
            head = self.sessions.head(head.tenant_id, head.session_id)
            if head.resting:
                return head
            if head.handoff is not None and head.handoff.delay_seconds:
                self.clock.sleep(head.handoff.delay_seconds)
        raise Unplayable("the session does not come to rest")


class _ProgramKit(CaseKit):
    """One whose agent's turns are driven by the program of the Claude Agent SDK, in time as it passes."""

    def __init__(self, stage: Stage, agent: Agent, model: Model, model_url: str) -> None:
        super().__init__(stage, agent, model, model_url=model_url)
        self.clock = SystemClock()

    def _model_key(self) -> KeySource:
        return NoKey()


@contextlib.contextmanager
def _program(stage: Stage, agent: Agent, inputs: Inputs, model: Model) -> Iterator[CaseKit]:
    """Raises Unplayable: the SDK is not here, or the case asks for what its program cannot do."""
    from turnkeeper.gateway.server import GatewayServer

    if not find_sdk(stage.root):
        raise Unplayable(f"agent {agent.name} needs the Claude Agent SDK: `make sdk`, or turnkeeper[agent-sdk]")
    if stage.live is not None:
        raise Unplayable(f"agent {agent.name} runs on {agent.engine}, whose cases are played by a script only")
    if len(inputs.turns) > 1:
        raise Unplayable("a case of an agent on the Claude Agent SDK has one turn")
    try:
        said = scenario(agent, inputs.model or ())
    except ValueError as error:
        raise Unplayable(str(error)) from error
    with standing_in(said) as url:
        kit = _ProgramKit(stage, agent, model, url)
        server = GatewayServer(kit.gateway, host="127.0.0.1", port=0)
        server.start()
        try:
            yield kit
        finally:
            server.close()


def _stand_in() -> Model:
    """So that the directives of a case's turns work."""
    from turnkeeper_local.evals.standin import StandInModel

    return StandInModel()
