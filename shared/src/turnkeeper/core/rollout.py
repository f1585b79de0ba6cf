"""Which version of an agent a session runs on while a new one is let in step by step."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from turnkeeper.core.errors import InvalidRequest

State = Literal["running", "promoted", "aborted"]
#: Shares are whole hundredths of a percent in the table, which has no floats.
BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """The candidate takes its share of users, each of whom stays with what it was given; all others have the stable
    version. Whoever is asked again gets the same answer, in whatever process.

    Raises:
        InvalidRequest: a share that is none, or one version against itself.
    """

    agent: str
    stable: str
    candidate: str
    #: Of :data:`BASIS_POINTS`.
    share: int
    #: Only users of these tenants may be taken; empty for all.
    tenants: tuple[str, ...] = ()
    #: Nobody is answered by the candidate: a share of turns is done again by it, in sessions of their own.
    shadow: bool = False
    state: State = "running"
    set_at: str
    set_by: str
    reason: str | None = None
    #: Who promoted or aborted it, and when: seldom who set it. ``None`` while it runs, and of those ended by 0.1.
    ended_at: str | None = None
    ended_by: str | None = None
    #: Grows with each change.
    number: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.share <= BASIS_POINTS:
            raise InvalidRequest("a share is from 0 to 100 percent")
        if self.stable == self.candidate:
            raise InvalidRequest(f"version {self.candidate[:12]} is what sessions of {self.agent} run on already")

    def takes(self, tenant_id: str, user_id: str) -> bool:
        """Whether this user belongs to the candidate's share."""
        return not self.shadow and self._concerns(tenant_id, user_id)

    def shadows(self, tenant_id: str, session_id: str, turn: int, version: str | None) -> bool:
        """Whether this turn, which was on a version, is done again by the candidate: always the same ones."""
        if not self.shadow or self.state != "running" or version == self.candidate:
            return False
        return self._concerns(tenant_id, session_id, str(turn))

    def _concerns(self, tenant_id: str, *names: str) -> bool:
        if self.tenants and tenant_id not in self.tenants:
            return False
        # By candidate, so that the next rollout does not try itself on the same people again.
        word = "\0".join((self.agent, self.candidate, tenant_id, *names))
        place = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8]) % BASIS_POINTS
        return place < self.share

    def version_for(self, deployed: str, tenant_id: str, user_id: str) -> str:
        """The version that a turn of this user begins on.

        While it runs, another version that is deployed meanwhile is held back. Once it is decided, it holds between its
        two versions only: whatever is deployed after that is new code, and in force.
        """
        if self.state == "running":
            return self.candidate if self.takes(tenant_id, user_id) else self.stable
        if deployed not in (self.stable, self.candidate):
            return deployed
        return self.candidate if self.state == "promoted" else self.stable
