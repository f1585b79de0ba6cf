"""A worker of several processes: one starts the others, has them end together, and answers for all of them.

An interpreter runs on one core at a time. Each process is a whole worker with its share of the slots, started by the
same command; what there must be one of is here: health and metrics, and the task's protection.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fargate_worker.link import VARIABLE
from turnkeeper.ports import Clock

logger = logging.getLogger(__name__)

#: A process that lived shorter than this has failed; so often in a row, and the worker ends.
SOON_SECONDS = 60.0
MOST_FAILURES = 5
FIRST_PAUSE_SECONDS = 0.5
#: What is left to a process that does not end in time, before it is killed.
GRACE_SECONDS = 3.0
LOOK_SECONDS = 0.1


@dataclass(eq=False)
class Child:
    """One process after the other, under one number."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    #: Where it says its port; closed once it has.
    told: int | None = None
    #: Ends with the supervisor, which holds the other end.
    tie: int | None = None
    port: int | None = None
    failures: int = 0
    starts_at: float = 0.0
    #: It has ended because it was replaced, and is not started again.
    retired: bool = False

    def heard(self) -> bool:
        """Whether it has just said where it answers."""
        if self.told is None or self.port is not None:
            return False
        try:
            text = os.read(self.told, 64)
        except BlockingIOError:
            return False
        if text:
            self.port = int(text)
        self.close()
        return bool(text)

    def close(self) -> None:
        if self.told is not None:
            os.close(self.told)
            self.told = None

    def forget(self) -> None:
        self.close()
        if self.tie is not None:
            os.close(self.tie)
        self.process = self.tie = self.port = None


class Supervisor:
    """``look`` at the children again and again; ``over`` says when all is done, and ``exit_code`` how it went."""

    def __init__(
        self,
        count: int,
        environment: Mapping[str, str],
        clock: Clock,
        *,
        stop_seconds: float,
        command: Sequence[str] = (),
    ) -> None:
        """``environment``: of each child, beside what ties it to this process. ``command`` is this process's own where
        it is not said."""
        self.children = [Child(number) for number in range(count)]
        self.exit_code = 0
        self.draining = False
        self._environment = environment
        self._clock = clock
        self._stop_seconds = stop_seconds
        self._command = command or [sys.executable, *sys.orig_argv[1:]]
        self._kills_at = float("inf")
        #: One of them has said that it takes jobs.
        self.was_ready = False

    @property
    def over(self) -> bool:
        return all(child.process is None and (self.draining or child.retired) for child in self.children)

    def look(self) -> None:
        """Start what is to be started, and see what has ended."""
        now = self._clock.monotonic()
        for child in self.children:
            if child.process is not None:
                if child.heard():
                    self.was_ready = True
                    logger.info("worker process %d is ready: process id %d", child.number, child.process.pid)
                if (code := child.process.poll()) is not None:
                    self._ended(child, code, now)
            elif not (self.draining or child.retired) and now >= child.starts_at:
                self._start(child, now)
        if now > self._kills_at:
            self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Have all of them hand on what runs. One that has not ended in its time, and a little more, is killed."""
        if not self.draining:
            self.draining = True
            self._kills_at = self._clock.monotonic() + self._stop_seconds + GRACE_SECONDS
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        for child in self.children:
            if child.process is not None and child.process.poll() is None:
                child.process.send_signal(number)

    def _start(self, child: Child, now: float) -> None:
        read, tie = os.pipe()
        told, write = os.pipe()
        os.set_blocking(told, False)
        child.tie, child.told, child.began = tie, told, now
        try:
            child.process = subprocess.Popen(  # noqa: S603 - this process's own command
                self._command,
                env={**self._environment, VARIABLE: f"{child.number}:{read}:{write}"},
                pass_fds=(read, write),
                stdin=subprocess.DEVNULL,
            )
        except OSError as error:
            logger.error("worker process %d cannot be started: %s", child.number, error)
            child.forget()
            self._failed(child, 1, now)
        finally:
            os.close(read)
            os.close(write)

    def _ended(self, child: Child, code: int, now: float) -> None:
        child.forget()
        if self.draining:
            # One that is told to stop before it listens for that has nothing to hand on.
            if code not in (0, -signal.SIGTERM):
                logger.warning("worker process %d ended with %d", child.number, code)
                self.exit_code = self.exit_code or 1
        elif code == 0:
            # Nobody told it to: another deployment has taken over, which the others see as well.
            child.retired = True
        else:
            self._failed(child, code, now)

    def _failed(self, child: Child, code: int, now: float) -> None:
        lived = now - child.began
        child.failures = child.failures + 1 if lived < SOON_SECONDS else 1
        logger.error("worker process %d ended with %d after %.1f s", child.number, code, lived)
        if self.was_ready and child.failures < MOST_FAILURES:
            child.starts_at = now + FIRST_PAUSE_SECONDS * 2 ** (child.failures - 1)
            return
        logger.error("the worker ends: worker process %d cannot be kept running", child.number)
        self.exit_code = code if code > 0 else 1
        self.stop()
