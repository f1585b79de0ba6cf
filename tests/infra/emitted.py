"""Every metric that the kit emits, with what it is split by, besides `service`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

EMITTED: Final[Mapping[str, tuple[str, ...]]] = {
    "input_tokens": ("agent",),
    "output_tokens": ("agent",),
    "cache_read_input_tokens": ("agent",),
    "cache_creation_input_tokens": ("agent",),
    "steps": ("agent",),
    "model_calls": ("agent",),
    "cost_nanousd": ("agent",),
    "spend_nanousd": (),
    "runner_cost_nanousd": ("runner",),
    "reserved_nanousd": ("agent",),
    "turns": ("agent", "reason"),
    "turn_duration": ("agent",),
    "model_time": ("agent",),
    "tool_time": ("agent",),
    "kit_time": ("agent",),
    "trips": ("kind",),
    "money_waits": ("agent",),
    "money_wait": ("agent",),
    "handoffs": ("agent",),
    "handoffs_sent_again": ("agent",),
    "leases_taken_over": ("agent",),
    "handoff_latency": ("agent",),
    "queue_wait": ("agent",),
    "tool_calls": ("outcome",),
    "reservations": ("state",),
    "in_doubt_nanousd": ("state",),
    "repairs": ("agent",),
    "compactions": ("agent",),
    "retries": ("agent",),
    "provider_errors": ("status",),
    "flags": ("agent",),
    "score": ("agent", "evaluator"),
    "checks_failed": ("agent", "evaluator"),
    "turns_set_aside": (),
    "traces_exported": (),
    "traces_failed": (),
}
