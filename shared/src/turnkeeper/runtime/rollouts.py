"""New versions let in step by step: chosen when a turn begins, changed by operators, taken back where they do worse."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

from turnkeeper.core.agent import Agent
from turnkeeper.core.errors import InvalidRequest, TurnkeeperError, Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.reserved_tenants import DEPLOYMENT
from turnkeeper.core.rollout import BASIS_POINTS, Rollout
from turnkeeper.core.session import Spec
from turnkeeper.core.versions import can_play, runs_tools_elsewhere, spec_of, version_of
from turnkeeper.ports import Clock, Prices
from turnkeeper.runtime.pricing import must_be_priced
from turnkeeper.runtime.store.rollouts import RolloutStore
from turnkeeper.runtime.store.tenants import Tenants
from turnkeeper.table import ConditionFailed

logger = logging.getLogger(__name__)

#: A change is in force in every process after this long.
SECONDS = 5.0


@dataclass(eq=False, repr=False)
class Rollouts:
    store: RolloutStore
    tenants: Tenants
    clock: Clock
    #: The plan that pays for shadows; ``None`` where there is none.
    evals_plan: str | None = None
    #: What a version's models cost; ``None`` where nobody asks.
    prices: Prices | None = None
    _read: dict[str, tuple[float, Rollout | None]] = field(default_factory=dict)
    #: Agent and version.
    _kept: set[tuple[str, str]] = field(default_factory=set)
    _specs: dict[tuple[str, str], Spec] = field(default_factory=dict)

    # ---- when a turn begins ----

    def spec(self, agent: Agent, tenant_id: str, user_id: str) -> Spec:
        """What this user's turn is given: the agent as it is deployed, unless a rollout says otherwise.

        Raises:
            Unavailable, StoreBusy: the table cannot be read, and this process never has read what it says.
        """
        deployed = spec_of(agent)
        version = self._keep(agent.name, deployed)
        rollout = self.current(agent.name)
        wanted = version if rollout is None else rollout.version_for(version, tenant_id, user_id)
        if wanted == version:
            return deployed
        if (found := self.arm(agent, wanted)) is None:
            logger.error("version %s of agent %s is not there: what is deployed is taken", wanted, agent.name)
            return deployed
        return found

    def current(self, agent: str) -> Rollout | None:
        """What is said of the agent, as it was a few seconds ago at most. While the table cannot be read, what was read
        last stays: a candidate that was taken back must not return with an outage."""
        now = self.clock.monotonic()
        known = self._read.get(agent)
        if known is not None and now - known[0] <= SECONDS:
            return known[1]
        try:
            rollout = self.store.get(agent)
        except TurnkeeperError as error:
            if known is None or not error.retryable:
                raise
            logger.warning("the rollout of %s cannot be read now, and stays as it was: %s", agent, error)
            rollout = known[1]
        self._read[agent] = (now, rollout)
        return rollout

    def arm(self, agent: Agent, version: str) -> Spec | None:
        """A version as it was kept; ``None`` where it is gone, or cannot be played with the code that is deployed."""
        deployed = spec_of(agent)
        if version == version_of(deployed):
            return deployed
        key = agent.name, version
        found = self._specs.get(key) or self.store.spec(*key)
        if found is None or not can_play(found, deployed):
            return None
        self._specs[key] = found
        return found

    def _keep(self, agent: str, spec: Spec) -> str:
        """Each version is written once by a process that has it deployed, so that a rollout can come back to it when it
        is not deployed any more. No turn has to wait for that to work."""
        version = version_of(spec)
        if (agent, version) not in self._kept:
            try:
                self.store.keep(agent, spec, self.clock.now(), deployed=True)
            except TurnkeeperError as error:
                if not error.retryable:
                    raise
                logger.warning("version %s of agent %s is not kept yet: %s", version, agent, error)
            else:
                self._kept.add((agent, version))
        return version

    # ---- by operators ----

    def set(
        self,
        agent: Agent,
        *,
        actor: str,
        share_percent: float,
        candidate: str | None = None,
        stable: str | None = None,
        tenants: tuple[str, ...] = (),
        shadow: bool = False,
    ) -> Rollout:
        """Let a version take a share of users; or of turns, as a shadow that answers nobody.

        Args:
            agent: as it is in the project of whoever asks; its version is kept, whether it is deployed yet or not.
            candidate: the version, by its beginning; ``None`` for the agent's own.
            stable: what all others have; ``None`` for what they have now, or had most lately.

        Raises:
            InvalidRequest: no such version, or one that cannot be played.
            UnpricedModel: nobody can price a model of one of them.
            Unavailable: somebody else changed it meanwhile.
        """
        share = _basis_points(share_percent)
        here = spec_of(agent)
        own = self.store.keep(agent.name, here, self.clock.now(), deployed=False)
        before = self.store.get(agent.name)
        chosen = own if candidate is None else self._found(agent.name, candidate)
        others = self._found(agent.name, stable) if stable is not None else self._stable(agent.name, before, chosen)
        if shadow:
            self._must_cast_shadows(agent, chosen)
        for version in (chosen, others):
            spec = here if version == own else self.store.spec(agent.name, version)
            if spec is None or not can_play(spec, here):
                raise InvalidRequest(
                    f"version {version[:12]} has a prompt that is made by code, which is not there any more: a rollout "
                    "is between prompts that are texts"
                )
            if self.prices is not None:
                must_be_priced(self.prices, spec)
        after = Rollout(
            agent=agent.name,
            stable=others,
            candidate=chosen,
            share=share,
            tenants=tenants,
            shadow=shadow,
            set_at=iso(self.clock.now()),
            set_by=actor,
            number=before.number + 1 if before else 1,
        )
        return self._changed(before, after, actor)

    def _must_cast_shadows(self, agent: Agent, version: str) -> None:
        if self.evals_plan is None:
            raise InvalidRequest(
                'a shadow has a plan of its own: name one in policy.toml, evals_plan = "NAME", and deploy that'
            )
        spec = self.arm(agent, version)
        if spec is not None and runs_tools_elsewhere(spec):
            raise InvalidRequest(
                f"version {version[:12]} has the provider call tools of others (mcp_servers), which nobody could hold "
                "back in a shadow"
            )

    def promote(self, agent: str, *, actor: str) -> Rollout:
        """The candidate for everybody. Raises InvalidRequest where nothing is being rolled out."""
        return self._ended(agent, "promoted", actor, None)

    def abort(self, agent: str, *, actor: str, reason: str | None = None) -> Rollout:
        """The stable version for everybody, also while the candidate is what is deployed."""
        return self._ended(agent, "aborted", actor, reason)

    def _ended(self, agent: str, state: Any, actor: str, reason: str | None) -> Rollout:
        before = self.store.get(agent)
        if before is None or before.state == state:
            back = (
                f"`turnkeeper rollout set {agent} --version V --share 100`, then `turnkeeper rollout promote {agent}`"
            )
            raise InvalidRequest(
                f"there is no rollout of {agent} that could be {state}; to an earlier version V leads {back}"
            )
        if state == "promoted" and before.state == "aborted":
            # It may have been taken back by itself a moment ago: whoever promotes has not seen that.
            why = f" ({before.reason})" if before.reason else ""
            raise InvalidRequest(f"the rollout of {agent} was aborted{why}: begin again with `turnkeeper rollout set`")
        now = iso(self.clock.now())
        after = replace(before, state=state, reason=reason, ended_at=now, ended_by=actor, number=before.number + 1)
        return self._changed(before, after, actor)

    def _changed(self, before: Rollout | None, after: Rollout, actor: str) -> Rollout:
        detail = {
            "rollout": after.agent,
            "state": after.state,
            "stable": after.stable,
            "candidate": after.candidate,
            "share_percent": f"{after.share * 100 / BASIS_POINTS:g}",
            "tenants": list(after.tenants),
            **({"shadow": True} if after.shadow else {}),
            **({"reason": after.reason} if after.reason else {}),
        }
        try:
            self.tenants.audit(DEPLOYMENT, "rollout", actor, detail, deed=self.store.put(before, after))
        except ConditionFailed as failed:
            raise Unavailable("the rollout was changed meanwhile; look at it again") from failed
        self._read.pop(after.agent, None)
        return after

    def _found(self, agent: str, beginning: str) -> str:
        known = [version for version, _ in self.store.versions(agent) if version.startswith(beginning)]
        if len(known) != 1:
            what = "more than one version" if known else "no version"
            raise InvalidRequest(
                f"{what} of {agent} begins with {beginning!r}; `turnkeeper rollout show {agent}` lists them"
            )
        return known[0]

    def _stable(self, agent: str, before: Rollout | None, candidate: str) -> str:
        """What all others have now; where that is the candidate, what was deployed before it."""
        deployed = sorted(self.store.deployed(agent), reverse=True)
        latest = deployed[0][1] if deployed else None
        if before is not None and before.state == "running":
            held: str | None = before.stable
        else:
            held = before.version_for(latest, "", "") if before is not None and latest is not None else latest
        if held is not None and held != candidate:
            return held
        earlier = [one for one in deployed if one[1] != candidate]
        if not earlier:
            raise InvalidRequest(f"{agent} has one version only: there is nothing to hold the new one against yet")
        return max(earlier)[1]


def _basis_points(percent: float) -> int:
    """Raises InvalidRequest: it is no share, or one that would silently become none."""
    if not 0 <= percent <= 100:  # nor is what is no number
        raise InvalidRequest("a share is from 0 to 100 percent")
    if (share := round(percent * BASIS_POINTS / 100)) == 0 and percent > 0:
        raise InvalidRequest("the smallest share but 0 is 0.01 percent")
    return share
