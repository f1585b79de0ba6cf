"""Whether a trajectory gets anywhere: work that is done again, steps that fail, a plan that stands still."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from turnkeeper.core.breakers import call_hash
from turnkeeper.core.scoring import Score
from turnkeeper.core.tools import UPDATE_PLAN
from turnkeeper.core.trajectory import Call, Step, Trajectory


@dataclass(frozen=True)
class Coherent:
    """The latest ``window`` steps got somewhere. A step did where it changed something, saw something that was not seen
    before, moved the plan, or said something for the first time. Scores the share of such steps as ``coherent``."""

    window: int = 10
    at_least: float = 0.6

    def score(self, trajectory: Trajectory) -> Iterator[Score]:
        steps = trajectory.steps
        if not steps:
            return
        seen: Counter[str] = Counter()
        said: set[str] = set()
        idle: list[tuple[Step, str]] = []
        considered = 0
        for number, step in enumerate(steps):
            before = steps[number - 1].seq if number else 0
            if any(before < seq < step.seq for seq in trajectory.input_seqs):
                # Whoever asks again is to be answered again.
                seen, said = Counter(), set()
            why = _why_idle(step, seen, said, trajectory)
            if number >= len(steps) - self.window:
                considered += 1
                if why is not None:
                    idle.append((step, why))
        reason = f"each of the latest {considered} steps got somewhere"
        if idle:
            reason = f"{len(idle)} of the latest {considered} steps got nowhere; the first: {idle[0][1]}"
        seq = idle[0][0].seq if idle else None
        yield Score.share("coherent", considered - len(idle), considered, reason, at_least=self.at_least, seq=seq)


def _why_idle(step: Step, seen: Counter[str], said: set[str], trajectory: Trajectory) -> str | None:
    """Why a step got nowhere, or ``None``; what it saw and said is remembered for the next one."""
    text = " ".join(step.text.split()).lower()
    spoke = bool(text) and text not in said
    said.add(text)
    if not step.calls:
        return None if spoke or not text else "it said the same again"
    news = [call for call in step.calls if _is_news(call, seen, trajectory)]
    if news:
        return None
    failed = [call for call in step.calls if call.outcome in ("error", "denied")]
    if len(failed) == len(step.calls):
        return f"{failed[0].tool}: {failed[0].outcome}"
    return f"{step.calls[0].tool} was asked again and answered the same"


def _is_news(call: Call, seen: Counter[str], trajectory: Trajectory) -> bool:
    if call.outcome in ("error", "denied"):
        # What it was told for the first time it may learn from; the same words again, however asked for, teach nothing.
        seen[told := call_hash(call.tool, {"told": call.result})] += 1
        return seen[told] == 1
    mark = call_hash(call.tool, {"arguments": dict(call.arguments), "result": call.result})
    seen[mark] += 1
    definition = trajectory.tools.get(call.tool)
    changes = definition is not None and definition.effect != "read"
    return seen[mark] == 1 or (changes and call.outcome == "ok" and call.tool != UPDATE_PLAN)
