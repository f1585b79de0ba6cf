"""Every metric of the kit, one row each: what is emitted, drawn and alarmed on, and served by the worker.

No dimension takes values without end. Tenants, users, sessions and tools are none: their names come from outside; for
them there are the logs and ``turnkeeper spend report``. An agent is one that is deployed, or was: a session can begin
with no other; calls of the gateway's tokens stand under ``!gateway``. Money is in nano-dollars, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["Count", "Milliseconds", "None"]
#: The function that emits it; its dimension ``service`` in CloudWatch.
Service = Literal["observe", "score", "trace", "deliver"]


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    unit: Unit
    #: What it is split by, besides ``service``.
    dimensions: tuple[str, ...]
    #: What it counts, for a person.
    about: str
    by: Service = "observe"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric; ``labels`` in the order of its dimensions."""

    metric: str
    value: float
    labels: tuple[str, ...] = ()


_AGENT = ("agent",)
_TIME: Unit = "Milliseconds"

_ROWS = (
    Metric("input_tokens", "Count", _AGENT, "Tokens that the model read anew."),
    Metric("output_tokens", "Count", _AGENT, "Tokens that it wrote."),
    Metric(
        "cache_read_input_tokens",
        "Count",
        _AGENT,
        "Tokens read from the prompt cache. The cache's share: this, by the sum of all tokens that are not output.",
    ),
    Metric("cache_creation_input_tokens", "Count", _AGENT, "Tokens written to the prompt cache."),
    Metric("steps", "Count", _AGENT, "Model calls that were answered, summaries aside."),
    Metric("model_calls", "Count", _AGENT, "Model calls that were begun, every attempt counted."),
    Metric("cost_nanousd", "Count", _AGENT, "What calls cost, settled or in doubt."),
    Metric(
        "spend_nanousd", "Count", (), "The same of all agents together: one series, for alarms on rate and anomaly."
    ),
    Metric("runner_cost_nanousd", "Count", ("runner",), "The same by kind of runner: `lambda` or `fargate`."),
    Metric("reserved_nanousd", "Count", _AGENT, "Money set aside for calls."),
    Metric("turns", "Count", ("agent", "reason"), "Turns that came to rest, by stop reason."),
    Metric("turn_duration", _TIME, _AGENT, "From a turn's beginning to its rest, without the rests in between."),
    Metric("model_time", _TIME, _AGENT, "Of that, in model calls, answered or not."),
    Metric("tool_time", _TIME, _AGENT, "Of that, in tools; those that ran side by side count once."),
    Metric(
        "kit_time",
        _TIME,
        _AGENT,
        "What is left of it without model, tools, ways to a runner and waits for money: the kit's own, "
        "back-off, and runners that were lost.",
    ),
    Metric(
        "trips",
        "Count",
        ("kind",),
        "Turns that a breaker or a cap ended: the breaker's stop reason, or `cost_cap:SCOPE`.",
    ),
    Metric("money_waits", "Count", _AGENT, "Times that a call waited for money in flight."),
    Metric("money_wait", _TIME, _AGENT, "How long each took."),
    Metric("handoffs", "Count", _AGENT, "Sessions put on their way by one runner to another."),
    Metric("handoffs_sent_again", "Count", _AGENT, "Sessions on their way that nobody took, sent again."),
    Metric("leases_taken_over", "Count", _AGENT, "Sessions taken from a runner that was lost."),
    Metric(
        "handoff_latency", _TIME, _AGENT, "From a handoff to the next runner's claim, beyond the delay it was given."
    ),
    Metric("queue_wait", _TIME, _AGENT, "From a turn's beginning, or its being resumed, to its first runner's claim."),
    Metric("tool_calls", "Count", ("outcome",), "Tool calls by outcome: `ok`, `error`, `denied`, `unknown`."),
    Metric(
        "reservations", "Count", ("state",), "Calls by what became of their money: `settled`, `voided`, `in_doubt`."
    ),
    Metric("in_doubt_nanousd", "Count", ("state",), "Money booked for calls of which nobody knows what became."),
    Metric(
        "repairs",
        "Count",
        _AGENT,
        "Times that the model API refused a conversation, which then went on without a part.",
    ),
    Metric("compactions", "Count", _AGENT, "Times that a long conversation was made shorter."),
    Metric("retries", "Count", _AGENT, "Attempts of model calls that brought no answer."),
    Metric(
        "provider_errors",
        "Count",
        ("status",),
        "Those of them that money was set aside for, by HTTP status; `none` where there was no answer at all.",
    ),
    Metric("flags", "Count", _AGENT, "Tool results that look as if they carried instructions, and calls after them."),
    Metric("score", "None", ("agent", "evaluator"), "Scores of turns, 0 to 1.", "score"),
    Metric("checks_failed", "Count", ("agent", "evaluator"), "Turns that did not pass an evaluator's check.", "score"),
    Metric("turns_set_aside", "Count", (), "Turns that can never be scored, passed over.", "score"),
    Metric("traces_exported", "Count", (), "Turns whose trace was sent.", "trace"),
    Metric(
        "traces_failed",
        "Count",
        (),
        "Attempts to send one that failed, and traces of which spans were refused for good.",
        "trace",
    ),
    Metric(
        "deliveries",
        "Count",
        ("outcome",),
        "Word of turns to webhooks and reply queues: `delivered`, an attempt that `failed`, given up as `dead`.",
        "deliver",
    ),
)

METRICS: Final[Mapping[str, Metric]] = {row.name: row for row in _ROWS}


def sample(metric: str, value: float = 1, **labels: str) -> Sample:
    """Raises KeyError for a metric, or a dimension, that the table does not have."""
    dimensions = METRICS[metric].dimensions
    if labels.keys() != set(dimensions):
        raise KeyError(f"{metric} is split by {dimensions}, not by {tuple(labels)}")
    return Sample(metric, value, tuple(labels[name] for name in dimensions))


def documentation() -> str:
    """The table as Markdown."""
    lines = ["| metric | unit | dimensions | emitted by | what it says |", "|---|---|---|---|---|"]
    for row in _ROWS:
        dimensions = ", ".join(f"`{name}`" for name in row.dimensions) or "-"
        lines.append(f"| `{row.name}` | {row.unit} | {dimensions} | `{row.by}` | {row.about} |")
    return "\n".join(lines)
