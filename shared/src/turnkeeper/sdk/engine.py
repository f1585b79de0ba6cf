"""Drives turns of agents on the Claude Agent SDK: what ``runtime.engine`` asks instead of the kit's own loop."""

from __future__ import annotations

import importlib.util
import logging
import threading
from dataclasses import dataclass, field

from turnkeeper.core.agent import Agent
from turnkeeper.core.session import Head
from turnkeeper.runtime.turn import PUT_BACK_SECONDS, Turn
from turnkeeper.sdk.declaration import SdkAgent
from turnkeeper.sdk.desk import Means
from turnkeeper.sdk.run import SdkRun

logger = logging.getLogger(__name__)

PACKAGE = "claude_agent_sdk"
#: A turn waits for a free slot for this long, then goes back to the queue.
_SLOT_SECONDS = 20.0


def is_installed() -> bool:
    return importlib.util.find_spec(PACKAGE) is not None


@dataclass
class SdkEngine:
    means: Means
    #: Programs at a time; each takes about 250 MB.
    slots: int
    _free: threading.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._free = threading.BoundedSemaphore(self.slots)

    def __call__(self, turn: Turn, agent: Agent) -> Head:
        if not isinstance(agent, SdkAgent) or not is_installed():
            hint = "The worker has no Claude Agent SDK: build its image with turnkeeper[agent-sdk] (docs/agent-sdk.md)."
            return turn.give_up({"code": "engine_missing", "hint": hint})
        if not self._free.acquire(timeout=0.0 if turn.allowance.draining() else _SLOT_SECONDS):
            return turn.hand_off(delay_seconds=PUT_BACK_SECONDS)
        try:
            return SdkRun(self.means, turn, agent).run()
        finally:
            self._free.release()
