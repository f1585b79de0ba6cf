"""What a session that was made of another one's turn says of that: see :mod:`turnkeeper.runtime.companions`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CompanionKind = Literal["shadow", "judge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompanionOf:
    """The turn that a session was made of, to try or to judge it: see :mod:`turnkeeper.runtime.companions`."""

    kind: CompanionKind
    tenant_id: str
    session_id: str
    turn: int
    #: Entries of that turn.
    first_seq: int
    last_seq: int
    agent: str
    version: str | None = None
    #: Tools that the turn had and that change something: played from its record, in no grant, and never run.
    dry_tools: tuple[str, ...] = ()
