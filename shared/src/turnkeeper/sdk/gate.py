"""What stands between the program and its tools: nothing runs that is not granted, and nothing before it is written
down that it is about to.

A hook of the program that raises lets the tool run: no exception leaves one.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field, replace
from typing import Any

from turnkeeper.core import breakers as breaking
from turnkeeper.core.breakers import Call
from turnkeeper.core.errors import TurnkeeperError, Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.session import OUTCOME, Stop, ToolOutcome
from turnkeeper.core.tools import Outcome
from turnkeeper.core.transcript import UNKNOWN_OUTCOME, Block, all_text_of, answer
from turnkeeper.runtime.tool_answers import Answer
from turnkeeper.runtime.toolbox import Step
from turnkeeper.sdk.declaration import kit_name
from turnkeeper.sdk.desk import Desk
from turnkeeper.sdk.hardening import deny

logger = logging.getLogger(__name__)

#: A call waits this long to be written down. Then the store is out of reach, and the turn is left to another runner.
DURABLE_SECONDS = 20.0
_LOOK_SECONDS = 0.01


@dataclass
class Passed:
    """A call that was let through."""

    call: Block
    began_at: str
    since: float


@dataclass
class Gate:
    desk: Desk
    passed: dict[str, Passed] = field(default_factory=dict)
    #: Those that the program then ran: its own rules may have refused them still.
    ran: set[str] = field(default_factory=set)
    #: Answers that are known before the program tells them: of calls that were refused, and of the kit's own tools.
    answers: dict[str, Answer] = field(default_factory=dict)
    #: Calls of subagents that have no answer yet.
    open_below: dict[str, Passed] = field(default_factory=dict)
    _ran: set[str] = field(default_factory=set)
    _denied: set[str] = field(default_factory=set)

    # ---- the hook ----

    async def ask(self, data: Any, tool_use_id: str | None, _context: Any) -> dict[str, Any]:
        """PreToolUse: may the call be made now?"""
        call_id = str(tool_use_id or data.get("tool_use_id"))
        try:
            refusal = await self._refusal(data, call_id)
        except asyncio.CancelledError:
            refusal = "The run was stopped."
        except BaseException as error:
            logger.exception("a tool call could not be checked")
            refusal = f"The call could not be checked: {type(error).__name__}."
        if refusal is not None:
            self._denied.add(call_id)
            return deny(refusal)
        warnings, self.desk.warnings = "\n".join(self.desk.warnings), []
        return (
            {"hookSpecificOutput": {"hookEventName": "PreToolUse", "additionalContext": warnings}} if warnings else {}
        )

    async def _refusal(self, data: Any, call_id: str) -> str | None:
        turn = self.desk.turn
        call: Block = {
            "type": "tool_use",
            "id": call_id,
            "name": kit_name(data["tool_name"]),
            "input": data["tool_input"],
        }
        below = bool(data.get("agent_id"))
        tool = turn.toolbox.get(call["name"])
        if tool is None:
            return self._refused(call, turn.toolbox.not_granted(turn.sheet.head, call), below)
        if tool.effect == "once" and (why := turn.tools.once_blocked()) is not None:
            return self._refused(call, answer(call, why, "denied"), below)
        if below and (why := self._repeats(call)) is not None:
            return self._refused(call, answer(call, why, "denied"), below)
        if not await self._is_written(call_id, below):
            return "The run ends before this call is made."
        passed = Passed(call, iso(turn.clock.now()), turn.clock.monotonic())
        self.passed[call_id] = passed
        if below:
            self.open_below[call_id] = passed
        return None

    def _refused(self, call: Block, refusal: Answer, below: bool) -> str:
        self.answers[call["id"]] = refusal
        if below:
            self._audit(call, refusal[1])
        return all_text_of(refusal[0]["content"])

    def _repeats(self, call: Block) -> str | None:
        """A subagent that goes in circles ends the turn as its agent would."""
        sheet = self.desk.sheet
        seen = Call(call["name"], call["input"], self.desk.turn.tools.hash_of(call))
        state, repetition = breaking.see_calls(sheet.head.turn.breakers, [seen], sheet.head.limits.repetition_strikes)
        sheet.head = replace(sheet.head, turn=replace(sheet.head.turn, breakers=state))
        if repetition is None or not repetition.final:
            return None
        detail = {"tool": call["name"], "times": repetition.times, "by": "subagent"}
        self.desk.stop(Stop(reason="repetition", detail=detail))
        return "Not run: the same call was made too often."

    async def _is_written(self, call_id: str, below: bool) -> bool:
        """The call stands in the session's log, and that of the session's own agent in the transcript. False where the
        run ends first."""
        desk = self.desk
        until = desk.turn.clock.monotonic() + DURABLE_SECONDS
        while not (call_id in desk.log.calls and (below or call_id in desk.written)):
            if desk.given_up():
                return False
            if desk.turn.clock.monotonic() > until:
                desk.fail(Unavailable("the session's log cannot be written"))
                return False
            await asyncio.sleep(_LOOK_SECONDS)
        return not desk.given_up()

    async def saw(self, data: Any, tool_use_id: str | None, _context: Any) -> dict[str, Any]:
        """PostToolUse, PostToolUseFailure: the call was made."""
        self.ran.add(str(tool_use_id or data.get("tool_use_id")))
        return {}

    def outcome_of_failure(self, call: Block) -> Outcome:
        """What a call that failed has come to: one that did not run was refused, by the kit or by the program's rules,
        or did not fit."""
        if call["id"] in self.ran or call["id"] not in self.desk.written:
            return "error"
        if call["id"] in self.passed or call["id"] in self._denied or self.desk.turn.toolbox.get(call["name"]) is None:
            return "denied"
        return "error"

    # ---- the kit's own tools ----

    async def run(self, call_id: str, name: str, arguments: dict[str, Any]) -> tuple[Block, ToolOutcome]:
        """Run one of the kit's tools for a call that was let through: once, whatever the program asks for."""
        call: Block = {"type": "tool_use", "id": call_id or "unknown", "name": name, "input": arguments}
        passed = self.passed.get(call_id)
        if passed is None or passed.call["name"] != name or passed.call["input"] != arguments:
            return answer(call, "Not run: this is no call that was let through.", "denied")
        if call_id in self._ran:
            return self.answers.get(call_id) or answer(call, UNKNOWN_OUTCOME, "unknown")
        self._ran.add(call_id)
        answered = await asyncio.to_thread(self._run, call)
        self.answers[call_id] = answered
        return answered

    def _run(self, call: Block) -> Answer:
        desk, turn = self.desk, self.desk.turn
        head = desk.sheet.head

        def put_down(call_id: str, result: Any) -> None:
            desk.means.sessions.put_result(head, call_id, result)

        turn.relay.tools(head.last_seq + 1)
        ran = turn.toolbox.run(
            Step(
                head=head,
                calls=[call],
                resumed=False,
                early={},
                effects={},
                left_seconds=None,
                stop=desk.given_up,
                put_down=put_down,
                once_blocked=turn.tools.once_blocked(),
                relay=turn.relay,
            )
        )
        [(block, outcome)] = ran.answers
        if turn.toolbox.changes(call["name"]):
            # Before the program hears of it: another runner must not take it for one that nobody knows about.
            try:
                put_down(call["id"], {"result": block, "outcome": OUTCOME.dump_python(outcome, mode="json")})
            except TurnkeeperError as error:
                logger.warning("the result of %s was not put down early: %s", call["name"][:128], error.code)
        return block, outcome

    # ---- what became of calls ----

    def timed(self, call_id: str, outcome: ToolOutcome) -> ToolOutcome:
        """With when it began and how long it took, where this runner let it through."""
        passed = self.passed.get(call_id)
        if passed is None or outcome.began_at is not None:
            return outcome
        millis = int((self.desk.turn.clock.monotonic() - passed.since) * 1000)
        return replace(outcome, began_at=passed.began_at, duration_ms=millis)

    def settle_below(self, call_id: str, answered: Answer) -> None:
        """A call of a subagent has its result: it stands in the audit trail, which goes along with the next write."""
        if (passed := self.open_below.pop(call_id, None)) is not None:
            self._audit(passed.call, self.answers.get(call_id, answered)[1])

    def last_word(self, call: Block) -> Answer:
        """The answer to a call that the end of the turn found open."""
        if (known := self.answers.get(call["id"])) is not None:
            return known
        if call["id"] in self.passed:
            block, outcome = answer(call, UNKNOWN_OUTCOME, "unknown")
            return block, self.timed(call["id"], outcome)
        return answer(call, "Not run: the turn ended before it.")

    def audit_what_is_open(self) -> None:
        for call_id, passed in list(self.open_below.items()):
            self._audit(passed.call, self.answers.get(call_id, answer(passed.call, UNKNOWN_OUTCOME, "unknown"))[1])
        self.open_below.clear()

    def _audit(self, call: Block, outcome: ToolOutcome) -> None:
        turn = self.desk.turn
        secret = turn.toolbox.secret_arguments(call["name"], call["input"])
        outcome = self.timed(call["id"], outcome)
        turn.sheet.audit.append(turn.tools.auditor.tool_call(turn.sheet.head, call, outcome, secret))
