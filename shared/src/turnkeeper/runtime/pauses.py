"""Waiting for what others hold."""

from __future__ import annotations

from turnkeeper.ports import Clock, Ids


def pause(clock: Clock, ids: Ids, attempt: int) -> None:
    """Wait a little, longer each time and at most 2 seconds, never two waiters in step. ``attempt`` counts from 0."""
    clock.sleep((0.05 + 0.95 * ids.jitter()) * min(0.1 * 2 ** min(attempt, 5), 2.0))
