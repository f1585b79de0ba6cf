"""How a runner lets go of a turn: at rest, or on its way to another runner."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from turnkeeper.core.called import called
from turnkeeper.core.errors import LeaseLost, Unavailable
from turnkeeper.core.lifecycle import leaving, running
from turnkeeper.core.session import Head, Stop
from turnkeeper.runtime.auditing import Auditor
from turnkeeper.runtime.tool_answers import Answer
from turnkeeper.runtime.tool_step import ToolStep
from turnkeeper.runtime.worksheet import Worksheet
from turnkeeper.table import StoreBusy

logger = logging.getLogger(__name__)


@dataclass
class Ending:
    sheet: Worksheet
    tools: ToolStep
    auditor: Auditor

    def finish(self, stop: Stop, answers: Sequence[Answer] = ()) -> Head:
        """The turn rests: what waits is written, with answers to calls that will not run, and the lease released. What
        cannot be written must not keep the session from that: then it is ended without it, at last with nothing but its
        status."""
        ends = (
            partial(self._rest, stop, answers),
            partial(self._rest_without_contents, stop),
            partial(self._rest_without_calls, stop),
        )
        for end in ends:
            try:
                end()
            except (LeaseLost, StoreBusy, Unavailable):
                raise
            except Exception:
                logger.exception("session %s: its end cannot be written like this", self.sheet.head.session_id)
                self.sheet.drop_waiting()
            else:
                return self.sheet.head
        raise StoreBusy("the session's end cannot be written")

    def _rest(self, stop: Stop, answers: Sequence[Answer]) -> None:
        sheet = self.sheet
        if answers:
            flags = self.tools.take(sheet.open_calls(), answers)
            sheet.head = running.flag(sheet.head, flags)
        actor = sheet.cancel_actor() if stop.reason == "cancelled" else None
        sheet.write(leaving.rest(sheet.head, sheet.now(), sheet.waiting(), self.shown(stop), actor=actor))

    def _rest_without_contents(self, stop: Stop) -> None:
        """Every open call has an answer and a record, which say that nothing is known of it."""
        self.tools.give_up()
        self._rest_without_calls(stop)

    def _rest_without_calls(self, stop: Stop) -> None:
        """What was asked for stays what became of it: a cancel is one, also where it cannot tell all."""
        hint = "What was to be written could not be."
        self._rest(
            Stop(reason="cancelled" if stop.reason == "cancelled" else "internal_error", detail={"hint": hint}), ()
        )

    def shown(self, stop: Stop) -> Stop:
        """What stands in a stop goes where the transcript does not: to lists of sessions, logs and alerts."""
        detail = dict(stop.detail)
        if "arguments" in detail:
            secret = self.tools.toolbox.secret_arguments(detail["tool"], detail["arguments"])
            detail["arguments"] = self.auditor.arguments(detail["arguments"], secret)
        if "tool" in detail:
            detail["tool"] = called(detail["tool"])
        if "tools" in detail:
            detail["tools"] = sorted(set(map(called, detail["tools"])))
        return Stop(reason=stop.reason, detail=detail)

    def hand_off(self, **how: Any) -> Head:
        """The session is on its way to another runner, as :func:`turnkeeper.core.lifecycle.leaving.hand_off` has it:
        written first, sent after. The write alone is enough for the sweep to send it."""
        sheet = self.sheet
        sheet.write(leaving.hand_off(sheet.head, sheet.now(), sheet.waiting(), **how))
        return sheet.head
