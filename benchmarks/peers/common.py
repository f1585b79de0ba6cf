"""What each peer's script shares: it runs in the peer's own environment, which has nothing of the kit."""

from __future__ import annotations

import json
import os
import random
import string
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from statistics import median
from typing import Any

MODEL = "claude-sonnet-5-5"
#: Steps on both sides of the one that is asked for, whose median counts.
AROUND = 4


@cache
def _text(kilobytes: float) -> str:
    words = random.Random(7)
    text = ""
    while len(text) < kilobytes * 1024:
        text += "".join(words.choices(string.ascii_lowercase, k=words.randint(2, 9))) + " "
    return text[: int(kilobytes * 1024)]


def page(number: int, kilobytes: float) -> str:
    """What the tool answers: the same words as the kit's own tool in `benchmarks.step`."""
    return f"{number} {_text(kilobytes)}"


@dataclass
class Peer:
    address: str
    variant: str
    kilobytes: float
    ats: list[int]
    began: list[float] = field(default_factory=list)
    counts: dict[str, float] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return len(self.began) > max(self.ats) + AROUND + 1

    def mark(self) -> None:
        """A model call begins."""
        number = len(self.began)
        if number == max(self.ats) - AROUND:
            self._taken()
        if number == max(self.ats) + AROUND:
            self.counts = self._taken()
        self.began.append(time.process_time())

    def _taken(self) -> dict[str, float]:
        with urllib.request.urlopen(self.address + "/counts") as answer:
            counts: dict[str, float] = json.load(answer)
        return counts

    def told(self) -> dict[str, Any]:
        took = [1000 * (after - before) for before, after in zip(self.began, self.began[1:], strict=False)]
        return {
            "cpu_ms": {at: median(took[at - AROUND : at + AROUND + 1]) for at in self.ats},
            "a_step": {name: count / (2 * AROUND) for name, count in sorted(self.counts.items())},
        }


class Over(Exception):
    """Enough steps were made."""


def main(build: Callable[[Peer], None]) -> None:
    address, variant, kilobytes, ats = sys.argv[1:]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "test"
    os.environ |= {"AWS_DEFAULT_REGION": "us-east-1", "ANTHROPIC_API_KEY": "sk-bench", "LANGSMITH_TRACING": "false"}
    # Else S3 bodies come in signed chunks, which the world does not take apart.
    os.environ["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"
    peer = Peer(address, variant, float(kilobytes), [int(at) for at in ats.split(",")])
    try:
        build(peer)
    except Exception:  # The peer may have wrapped it in one of its own.
        if not peer.over:
            raise
    print(json.dumps(peer.told()))
