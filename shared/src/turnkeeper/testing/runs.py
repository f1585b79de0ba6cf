"""What came of a session that a test ran: to look at, to assert on, and to go on with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from turnkeeper.core import audit
from turnkeeper.core.money import NANO
from turnkeeper.core.session import Entry, Head, Status, Stop, StopReason
from turnkeeper.core.trajectory import Call, Trajectory
from turnkeeper.core.usage import Usage
from turnkeeper.runtime.store.tenants import audit_records
from turnkeeper.testing.fakes import Execution
from turnkeeper.testing.memory_kit import MemoryKit
from turnkeeper.testing.script import Script, ScriptedModel


class Plays(Protocol):
    """What goes on with a run: the workbench that it is of."""

    @property
    def kit(self) -> MemoryKit: ...

    def post(
        self, run: Run, text: str, *, model: Script, role: str | None, crash_after_write: int | None = None
    ) -> Run: ...

    def resume(self, run: Run, *, model: Script, with_model: str | None = None, **options: Any) -> Run: ...

    def recover(self, run: Run, *, model: Script = ()) -> Run: ...

    def cancel(self, run: Run, actor: str) -> Run: ...


class Run:
    """One session, as it is now. Every property is read anew, so a run that goes on shows what came of it."""

    def __init__(self, bench: Plays, tenant: str, session_id: str, user: str, script: ScriptedModel) -> None:
        self._bench = bench
        self.tenant = tenant
        self.session_id = session_id
        self.user = user
        self.script = script
        #: Its runner died, at a crash point: see :meth:`recover`.
        self.crashed = False

    def __repr__(self) -> str:
        stop = self.stop
        return f"<run of {self.head.agent}: {self.status}{f' ({stop.reason})' if stop else ''}, {self.text!r}>"

    # ---- what came of it ----

    @property
    def head(self) -> Head:
        return self._bench.kit.head(self.session_id, self.tenant)

    @property
    def entries(self) -> tuple[Entry, ...]:
        return self._bench.kit.entries(self.session_id, self.tenant)

    @property
    def trajectory(self) -> Trajectory:
        """The whole session as evaluators read it."""
        return self._bench.kit.trajectory(self.tenant, self.session_id)

    @property
    def turn(self) -> Trajectory:
        """Its latest turn, likewise."""
        return self._bench.kit.trajectory(self.tenant, self.session_id, turn_only=True)

    @property
    def status(self) -> Status:
        return self.head.status

    @property
    def stop(self) -> Stop | None:
        return self.head.stop

    @property
    def stop_reason(self) -> StopReason | None:
        stop = self.head.stop
        return stop.reason if stop is not None else None

    @property
    def text(self) -> str:
        """What the agent said last."""
        return self.trajectory.output_text

    @property
    def steps(self) -> int:
        return self.head.steps

    @property
    def usage(self) -> Usage:
        return self.head.account.usage

    @property
    def cost_usd(self) -> Decimal:
        """What the session has cost, in dollars; to the nano-dollar."""
        return Decimal(self.head.account.cost_nanousd) / NANO

    @property
    def reserved_usd(self) -> Decimal:
        return Decimal(self.head.account.reserved_nanousd) / NANO

    def calls(self, tool: str | None = None) -> tuple[Call, ...]:
        """The session's tool calls in their order, or those of one tool: arguments, outcome, result."""
        return tuple(call for call in self.trajectory.calls if tool in (None, call.tool))

    def audit(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The session's audit records in their order, or those of one kind."""
        records = audit_records(self._bench.kit.sessions.audit(self.tenant, self.session_id))
        return [record for record in records if kind in (None, record["kind"])]

    def ledger(self) -> list[dict[str, Any]]:
        """One record for each model call that was paid for or may have been."""
        return self._bench.kit.sessions.calls(self.tenant, self.session_id)

    # ---- going on ----

    def say(
        self, text: str, *, model: Script = (), role: str | None = None, crash_after_write: int | None = None
    ) -> Run:
        """The user's next input, run to where the session rests. Raises SessionBusy, SessionEnded."""
        return self._bench.post(self, text, model=model, role=role, crash_after_write=crash_after_write)

    def resume(self, *, model: Script = (), **options: Any) -> Run:
        """A stopped turn goes on. ``options`` are those of an operator: ``max_iterations``, ``clear_flags``, and
        ``with_model``, the name of another model."""
        return self._bench.resume(self, model=model, **options)

    def recover(self, *, model: Script = ()) -> Run:
        """After a crash: time passes, the lease ends, the sweep finds the session, another runner takes it up."""
        return self._bench.recover(self, model=model)

    def cancel(self, actor: str = "operator") -> Run:
        """Cancel it. Raises SessionEnded."""
        return self._bench.cancel(self, actor)

    # ---- asserting ----

    def assert_calls(self, *tools: str) -> None:
        """The session called exactly these tools, in this order."""
        made = [call.tool for call in self.calls()]
        assert made == list(tools), f"called {', '.join(made) or 'nothing'}, not {', '.join(tools) or 'nothing'}"

    def assert_outcomes(self, *outcomes: str) -> None:
        """What became of its calls, in order: ``ok``, ``error``, ``denied``, ``unknown``."""
        told = [f"{call.tool}: {call.outcome} {call.result[:200]!r}" for call in self.calls()]
        assert [call.outcome for call in self.calls()] == list(outcomes), "\n".join(told) or "no calls"

    def assert_stopped(self, reason: str, **detail: Any) -> None:
        """It rests for this reason, with this in its detail."""
        stop = self.stop
        assert stop is not None, f"it is {self.status}"
        assert stop.reason == reason, f"stopped as {stop.reason}: {stop.detail}"
        assert detail.items() <= stop.detail.items(), f"{detail} is not in {stop.detail}"

    def assert_settled(self) -> None:
        """It rests, and nothing is left behind: no runner, no money set aside, each call of the model in the ledger at
        what it cost, each tool call answered and recorded, and the audit chain verifies."""
        head, ledger = self.head, self.ledger()
        assert head.resting, f"it is {head.status}"
        assert head.lease.owner is None, "a runner still holds it"
        pending = [call["call"] for call in ledger if call["state"] == "pending"]
        assert head.account.pending is None and not pending, f"money is still reserved for calls {pending}"
        spent = sum(call["spent_nanousd"] for call in ledger)
        assert head.account.cost_nanousd == spent, f"cost {head.account.cost_nanousd} is not the ledger's {spent}"
        unanswered = [call.tool for call in self.calls() if call.outcome is None]
        assert not unanswered, f"calls without a result: {', '.join(unanswered)}"
        records = self.audit()
        problems = audit.verify(
            records, head.audit_seq, head.audit_hash, tenant_id=self.tenant, session_id=self.session_id
        )
        assert problems == [], f"the audit chain: {problems}"
        recorded = [(record["tool_use_id"], record["outcome"]) for record in records if record["kind"] == "tool_call"]
        assert recorded == [(call.tool_use_id, call.outcome) for call in self.calls()], "audit and transcript differ"


def outcome_of(run: Run) -> Mapping[str, Any]:
    """What must be the same however often a run was interrupted."""
    return {"status": run.status, "stop": run.stop_reason, "text": run.text}


def once_twice(executions: Sequence[Execution]) -> list[str]:
    """Calls of ``once`` tools that were run more than once."""
    keys = [(each.tool, each.ctx.idempotency_key) for each in executions if each.effect == "once"]
    return sorted({f"{tool} ({key})" for tool, key in keys if keys.count((tool, key)) > 1})
