"""What the program says, as entries of the session: answers of the model, results of its calls, how it ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from turnkeeper.adapters.anthropic_stream import PartialMessage
from turnkeeper.core import decide
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.ledger import iso
from turnkeeper.core.lifecycle import elsewhere, running
from turnkeeper.core.session import Entry, Flag, Stop
from turnkeeper.core.tools import Outcome
from turnkeeper.core.transcript import Block, text_block, tool_uses
from turnkeeper.core.usage import Usage
from turnkeeper.ports import ModelReply
from turnkeeper.runtime.tool_answers import Answer
from turnkeeper.sdk.declaration import kit_name
from turnkeeper.sdk.desk import Desk, End
from turnkeeper.sdk.gate import Gate
from turnkeeper.table import Item

logger = logging.getLogger(__name__)

#: An answer waits this long for the ledger to know what it cost; else the next entry tells it.
_SETTLED_SECONDS = 1.0


@dataclass
class _Answer:
    """An answer of the model that is coming in."""

    since: float
    #: What its events tell, read as the kit's own model reads them; its blocks come as messages.
    told: PartialMessage = field(default_factory=PartialMessage)
    blocks: list[Block] = field(default_factory=list)


@dataclass
class Hearing:
    desk: Desk
    gate: Gate
    #: The program has ended the turn by itself: it is let finish.
    said_all: bool = False
    #: The error that it has told last.
    failure: Stop | None = None
    _answer: _Answer | None = None
    _results: dict[str, Block] = field(default_factory=dict)
    #: Answers of subagents that were counted.
    _below: set[str] = field(default_factory=set)
    _calls: int = 0
    _latest_call: int = 0

    def hear(self, message: Any) -> None:
        """Raises LeaseLost, StoreBusy, Unavailable: nothing more can be written."""
        kind, below = type(message).__name__, getattr(message, "parent_tool_use_id", None) is not None
        if kind == "StreamEvent" and not below:
            self._event(message.event)
        elif kind == "AssistantMessage" and not below:
            self._part(message)
        elif kind == "AssistantMessage":
            self._count_below(message.message_id)
        elif kind == "UserMessage" and isinstance(message.content, list):
            self._hear_results([raw(block) for block in message.content], below)
        elif kind == "MirrorErrorMessage":
            self.desk.fail(Unavailable("the session's log cannot be written"))
        elif kind == "ResultMessage" and message.is_error:
            self.failure = self._failed(message)
        elif kind == "ResultMessage":
            self._end(message)

    # ---- answers ----

    def _event(self, event: dict[str, Any]) -> None:
        """Raises MalformedAnswer."""
        kind = event.get("type")
        if kind == "message_start":
            self._answer = _Answer(self.desk.turn.clock.monotonic())
            self._limit()
        if self._answer is None or kind not in ("message_start", "message_delta", "message_stop"):
            return
        self._answer.told.feed(event)
        if kind == "message_stop":
            whole, self._answer = self._answer, None
            self._write(whole, whole.told.reply(None))

    def _part(self, message: Any) -> None:
        """Blocks come one by one, each as a message. What the program says itself of an error is no answer."""
        if self._answer is None or message.error is not None:
            return
        if message.message_id == self._answer.told.message.get("id"):
            self._answer.blocks.extend(raw(block) for block in message.content)

    def _write(self, whole: _Answer, told: ModelReply) -> None:
        turn = self.desk.turn
        sheet, now = turn.sheet, turn.sheet.now()
        judged = decide.judge_reply(
            sheet.head,
            whole.blocks,
            whole.told.stop_reason or "",
            hash_of=turn.tools.hash_of,
            polls=turn.toolbox.polls,
        )
        record, used = self._record(told.tokens)
        took = int((turn.clock.monotonic() - whole.since) * 1000)
        entry = Entry(
            type="assistant",
            at=iso(now),
            content=tuple(whole.blocks),
            model=told.model,
            requested_model=sheet.spec.model if sheet.spec.model != told.model else None,
            stop_reason=whole.told.stop_reason,
            duration_ms=took,
            request_id=record.get("request_id"),
            call=record.get("call"),
        )
        sheet.write(
            elsewhere.answered(
                elsewhere.began(sheet.head),
                now,
                entry,
                used=used,
                read_tokens=told.tokens.read_tokens,
                breakers=judged.breakers,
                took_millis=took,
            )
        )
        turn.tools.own_calls = True
        calls = tool_uses(whole.blocks)
        self.desk.written.update(call["id"] for call in calls)
        if calls and judged.stop is not None and judged.stop.reason == "repetition":
            turn.tools.take(calls, judged.answers)
            self.desk.stop(turn.ending.shown(judged.stop))
            return
        if judged.warning is not None:
            self.desk.warnings.append(judged.warning)
        self._see_results()

    def _record(self, told: Usage) -> tuple[Item, Usage]:
        """The call's record in the ledger, and with it what the session has spent by now. Calls of subagents may be in
        flight beside it: what is not settled yet the next entry tells."""
        desk, calls = self.desk, self.desk.means.calls
        until = time.monotonic() + _SETTLED_SECONDS
        while True:
            spent = calls.spent(desk.sheet.head)
            if spent.calls > self._calls or time.monotonic() > until:
                break
            time.sleep(0.01)
        self._calls = spent.calls
        desk.catch_up(spent)
        records = calls.calls_since(desk.sheet.head, self._latest_call)
        self._latest_call = max((int(record["call"]) for record in records), default=self._latest_call)
        wrote = told.output_tokens
        fits = [each for each in records if int((each.get("usage") or {}).get("output_tokens", -1)) == wrote]
        return (fits[-1] if fits else {}), spent.usage

    def _limit(self) -> None:
        head = self.desk.sheet.head
        if head.turn.iterations >= head.limits.max_iterations:
            self.desk.stop(decide.iterations_up(head))

    def _count_below(self, message_id: str | None) -> None:
        """A model call of a subagent is one of the turn as well."""
        if message_id is not None and message_id not in self._below:
            self._below.add(message_id)
            self._limit()
            sheet = self.desk.sheet
            sheet.head = elsewhere.began(sheet.head)

    # ---- results ----

    def _hear_results(self, blocks: Sequence[Block], below: bool) -> None:
        for block in blocks:
            if block.get("type") == "tool_result" and below:
                passed = self.gate.open_below.get(block["tool_use_id"])
                if passed is not None:
                    self.gate.settle_below(block["tool_use_id"], self.seen(passed.call, block))
            elif block.get("type") == "tool_result":
                self._results[block["tool_use_id"]] = block
        if not below:
            self._see_results()

    def _see_results(self) -> None:
        """Once every call of the latest answer has its result, they are written, and judged."""
        turn = self.desk.turn
        calls = turn.sheet.open_calls()
        if not calls or turn.sheet.answers is not None or any(call["id"] not in self._results for call in calls):
            return
        answers = [self._known_or_seen(call) for call in calls]
        self._results.clear()
        flags = turn.tools.take(calls, answers)
        judged = decide.judge_results(
            turn.sheet.head, calls, answers, hash_of=turn.tools.hash_of, changes=turn.toolbox.changes
        )
        turn.sheet.head = running.see_results(
            turn.sheet.head, breakers=judged.breakers, nudged=False, took_millis=None, flags=()
        )
        self.write_results(flags)
        if judged.warning is not None:
            self.desk.warnings.append(judged.warning)
        if judged.stop is not None:
            self.desk.stop(turn.ending.shown(judged.stop))
        elif turn.allowance.draining():
            self.desk.end = self.desk.end or End(hands_off=True)

    def write_results(self, flags: Sequence[Flag]) -> None:
        """The answers that wait, as an entry."""
        sheet = self.desk.sheet
        sheet.head = running.flag(sheet.head, flags)
        sheet.write(elsewhere.saw_results(sheet.head, sheet.now(), sheet.waiting()))

    def _known_or_seen(self, call: Block) -> Answer:
        known = self.gate.answers.get(call["id"])
        return known if known is not None else self.seen(call, self._results[call["id"]])

    def seen(self, call: Block, result: Block) -> Answer:
        """The answer to a call as the program tells it."""
        gate, turn = self.gate, self.desk.turn
        content = result.get("content")
        blocks = [text_block(content)] if isinstance(content, str) else list(content or ())
        blocks = blocks if any(block.get("text") != "" for block in blocks) else [text_block("(no content)")]
        outcome_told: Outcome = gate.outcome_of_failure(call) if result.get("is_error") else "ok"
        block, outcome = turn.toolbox.answers.observed(turn.sheet.head, call, self._shown(blocks), outcome_told)
        return block, gate.timed(call["id"], outcome)

    def _shown(self, blocks: Sequence[Block]) -> list[Block]:
        """As they may be written down: without what this process was given, and the program was."""
        token, redacted = self.desk.token, self.desk.turn.redactor.without_given(list(blocks))
        return [
            {**each, "text": each["text"].replace(token, "[redacted]")} if "text" in each else each for each in redacted
        ]

    # ---- the end ----

    def _end(self, message: Any) -> None:
        self.said_all = self.desk.end is None
        self.desk.stop(Stop(reason="refusal" if message.stop_reason == "refusal" else "end_turn"))

    def _failed(self, message: Any) -> Stop:
        if message.subtype == "error_max_turns":
            return decide.iterations_up(self.desk.sheet.head)
        text = message.result or "; ".join(message.errors or ()) or message.subtype
        detail = {"status_code": message.api_error_status, "error": self.desk.turn.redactor.redact_text(text)[:500]}
        if message.api_error_status is not None or message.subtype == "success":
            return Stop(reason="provider_error", detail=detail)
        return Stop(reason="internal_error", detail={**detail, "code": message.subtype})


#: How the SDK calls its blocks, and the API.
_KINDS = {
    "TextBlock": "text",
    "ThinkingBlock": "thinking",
    "ToolUseBlock": "tool_use",
    "ToolResultBlock": "tool_result",
    "ServerToolUseBlock": "server_tool_use",
}


def raw(block: Any) -> Block:
    """A block as the API has it, with a call's tool as the kit calls it."""
    kind = _KINDS.get(type(block).__name__, type(block).__name__)
    told = {name: value for name, value in vars(block).items() if value is not None}
    if kind == "tool_use":
        told["name"] = kit_name(told["name"])
    return {"type": kind, **told}
