"""The state of a session: its head, its transcript's entries, and what the model is sent around them.

The transcript is the truth. The head holds what a runner needs to go on without reading it all again: counters,
the lease, the money in flight, the breakers' window. Both change only in one transaction together.
"""

from turnkeeper.core.session.entry import OUTCOME, Container, Entry, EntryType, LeftOut, ToolOutcome
from turnkeeper.core.session.head import (
    Account,
    Breakers,
    Flag,
    ForkedFrom,
    Handoff,
    Head,
    LeaseState,
    Run,
    Tally,
    TurnState,
)
from turnkeeper.core.session.spec import Plan, PlanItem, Spec, ToolDefinition
from turnkeeper.core.session.status import ENDED, RESTING, Frozen, RunnerKind, Status, Stop, StopReason
from turnkeeper.core.session.transcript import Looked, Transcript

__all__ = [
    "ENDED",
    "OUTCOME",
    "RESTING",
    "Account",
    "Breakers",
    "Container",
    "Entry",
    "EntryType",
    "Flag",
    "ForkedFrom",
    "Frozen",
    "Handoff",
    "Head",
    "LeaseState",
    "LeftOut",
    "Looked",
    "Plan",
    "PlanItem",
    "Run",
    "RunnerKind",
    "Spec",
    "Status",
    "Stop",
    "StopReason",
    "Tally",
    "ToolDefinition",
    "ToolOutcome",
    "Transcript",
    "TurnState",
]
