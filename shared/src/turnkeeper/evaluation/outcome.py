"""How a turn ended, and what it took."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from turnkeeper.core.money import format_usd, parse_usd
from turnkeeper.core.scoring import Score
from turnkeeper.core.trajectory import Trajectory


@dataclass(frozen=True)
class Ended:
    """The turn came to a good end: the agent said itself that it is done, in the way that it was asked to. ``reasons``
    are the stop reasons that count as that instead, for cases that want a limit to be hit."""

    reasons: Sequence[str] = ()

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        stop = trajectory.stop
        if stop is None:
            return
        wanted = tuple(self.reasons) or (("end_task",) if trajectory.done == "end_task" else ("end_turn", "end_task"))
        failed = not self.reasons and trajectory.status == "failed"
        reason = f"it ended with {stop.reason}"
        if stop.reason not in wanted:
            reason += f" instead of {' or '.join(wanted)}"
        elif failed:
            reason += ", and says that it failed"
        yield Score.check("ended", stop.reason in wanted and not failed, reason, trajectory.last_seq)


@dataclass(frozen=True)
class Within:
    """The session stayed within a budget: money (a decimal string in USD), steps, tool calls, seconds of models and
    tools. Each bound that is given is a check of its own."""

    cost_usd: str | None = None
    steps: int | None = None
    tool_calls: int | None = None
    seconds: float | None = None

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        cap = parse_usd(self.cost_usd) if self.cost_usd is not None else None
        spent, limit = format_usd(trajectory.cost_nanousd), self.cost_usd
        if cap is not None:
            yield Score.check("within_cost", trajectory.cost_nanousd <= cap, f"{spent} USD of {limit}")
        for name, used, most in (
            ("steps", len(trajectory.steps), self.steps),
            ("tool_calls", len(trajectory.calls), self.tool_calls),
            ("seconds", trajectory.busy_ms / 1000, self.seconds),
        ):
            if most is not None:
                yield Score.check(f"within_{name}", used <= most, f"{used:g} of {most:g}")
