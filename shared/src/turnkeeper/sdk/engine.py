"""Drives turns of agents on the Claude Agent SDK: what ``runtime.engine`` asks instead of the kit's own loop."""

from __future__ import annotations

import importlib.util
import queue

from turnkeeper.core.agent import Agent
from turnkeeper.core.session import Head
from turnkeeper.runtime.turn import PUT_BACK_SECONDS, Turn
from turnkeeper.sdk.declaration import SdkAgent
from turnkeeper.sdk.desk import Means
from turnkeeper.sdk.leash import forget_what_is_nobodys
from turnkeeper.sdk.run import SdkRun

PACKAGE = "claude_agent_sdk"
#: A turn waits for a free slot for this long, then goes back to the queue.
_SLOT_SECONDS = 20.0


class SdkEngine:
    """``slots``: programs at a time; each takes about 250 MB, and runs as a user of its own where there are such."""

    def __init__(self, means: Means, slots: int) -> None:
        self.means = means
        self.slots = slots
        self._free: queue.SimpleQueue[int] = queue.SimpleQueue()
        for slot in range(slots):
            self._free.put(slot)
        forget_what_is_nobodys(means.folder)

    def __call__(self, turn: Turn, agent: Agent) -> Head:
        if not isinstance(agent, SdkAgent) or importlib.util.find_spec(PACKAGE) is None:
            hint = "The worker has no Claude Agent SDK: build its image with turnkeeper[agent-sdk] (docs/agent-sdk.md)."
            return turn.give_up({"code": "engine_missing", "hint": hint})
        try:
            slot = self._free.get(timeout=0.01 if turn.allowance.draining() else _SLOT_SECONDS)
        except queue.Empty:
            return turn.ending.hand_off(delay_seconds=PUT_BACK_SECONDS, waits_for="a program")
        try:
            account = self.means.account
            user = None if account is None else (account[0] + slot, account[1] + slot)
            return SdkRun(self.means, turn, agent, user).run()
        finally:
            self._free.put(slot)
