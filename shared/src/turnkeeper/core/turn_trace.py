"""The trace of a turn, made of what is stored of it once it rests: entries, ledger and scores.

A turn is one trace, whoever ran it and however often it was taken over. One that went on after it had rested goes on in
its trace: that stretch has an ``invoke_agent`` of its own below the first. Everything is named by the session, so that
whoever makes a trace twice makes the same one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from turnkeeper.core import call_facts as facts
from turnkeeper.core import span_names as names
from turnkeeper.core.call_facts import Record
from turnkeeper.core.called import called
from turnkeeper.core.ledger import ScopeState
from turnkeeper.core.lifecycle.leaving import MONEY
from turnkeeper.core.scoring import Score
from turnkeeper.core.session import RESTING, Entry, Head, ToolOutcome
from turnkeeper.core.spans import Attribute, Span, SpanEvent, Trace, nanoseconds, within
from turnkeeper.core.stops import STOPS
from turnkeeper.core.tracing import caller_of, span_id, tool_context, turn_context
from turnkeeper.core.transcript import Block, results_of
from turnkeeper.core.turn_runners import Part, Whereabouts, whereabouts
from turnkeeper.core.usage import Usage


class Shows(Protocol):
    """Contents as they may be shown: without secrets, and no longer than a span's attribute should be."""

    def messages(self, role: str, blocks: Sequence[Block]) -> str: ...

    def arguments(self, tool: str, arguments: Any) -> str: ...

    def result(self, block: Block) -> str: ...

    def text(self, text: str) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Rested:
    """What is stored of a turn that came to rest."""

    #: As it came to rest.
    head: Head
    #: All of the turn's, in order; more behind the last one of the head do no harm.
    entries: Sequence[Entry]
    #: Of the session's ledger; those of other turns do no harm.
    calls: Sequence[Record] = ()
    scores: Sequence[Score] = ()
    #: How the caps stand, that a next call would have to fit in.
    caps: Sequence[ScopeState] = ()
    provider: str = "anthropic"
    #: ``None``: the trace holds no contents.
    shows: Shows | None = None


def trace_of(rested: Rested) -> Trace:
    """The turn's trace, or that of its latest stretch where it had rested before."""
    return _Maker(rested).trace()


@dataclass
class _Maker:
    rested: Rested
    spans: list[Span] = field(default_factory=list)

    @property
    def head(self) -> Head:
        return self.rested.head

    # ---- what it is about ----

    @cached_property
    def turn_entries(self) -> list[Entry]:
        first, last = self.head.turn.seq, self.head.last_seq
        return [entry for entry in self.rested.entries if first <= entry.seq <= last]

    @cached_property
    def rested_before(self) -> int:
        """Entries of the turn up to its rest before this one."""
        before = [index for index, entry in enumerate(self.turn_entries[:-1], 1) if entry.status in RESTING]
        return before[-1] if before else 0

    @cached_property
    def entries(self) -> list[Entry]:
        return self.turn_entries[self.rested_before :]

    @cached_property
    def calls(self) -> list[Record]:
        first, last = self.head.turn.first_call, self.head.account.calls
        return [call for call in self.rested.calls if first <= call["call"] <= last]

    @cached_property
    def time(self) -> tuple[int, int]:
        begin = [self.entries[0].at]
        if self.rested_before:
            # No entry tells that a turn goes on: the first sign of it may be its runner, or one that was lost.
            begin += [call["at"] for call in self.calls]
            for entry in self.entries:
                begin += [entry.run.asked_at or entry.run.claimed_at] if entry.run is not None else []
                begin += [entry.lost_runner.claimed_at or entry.at] if entry.lost_runner is not None else []
        return min(map(nanoseconds, begin)), max(nanoseconds(entry.at) for entry in self.entries)

    @cached_property
    def where(self) -> Whereabouts:
        return whereabouts(self.entries, self.time[0], [nanoseconds(call["at"]) for call in self.calls])

    @cached_property
    def root_id(self) -> str:
        context = turn_context(self.head)
        return span_id(self.head, "turn", self.entries[0].seq) if self.rested_before else context.span_id

    # ---- spans ----

    def trace(self) -> Trace:
        context, caller = turn_context(self.head), caller_of(self.head)
        outside = caller.span_id if caller is not None else None
        self.spans.append(self._root(context.span_id if self.rested_before else outside))
        self._runners()
        compactions = {entry.call: self._compaction(entry) for entry in self.entries if entry.type == "compaction"}
        answers = {entry.call: entry for entry in self.entries if entry.type in ("assistant", "compaction")}
        for call in self.calls:
            self._chat(call, answers.get(call["call"]), compactions.get(call["call"]))
        for entry in self.entries:
            if entry.type == "repair":
                about = {names.SEQ: entry.seq, names.LEFT_OUT: len(entry.left_out)}
                at = nanoseconds(entry.at)
                self._add(names.REPAIR, span_id(self.head, "repair", entry.seq), at, at, about)
            if entry.type == "tool_results":
                for outcome, block in results_of(entry):
                    self._tool(entry, outcome, block)
        return Trace(
            trace_id=context.trace_id,
            sampled=context.sampled,
            spans=tuple(self.spans),
            from_outside=not self.rested_before and caller is not None,
        )

    def _add(
        self,
        name: str,
        id: str,
        start_ns: int,
        end_ns: int,
        attributes: Mapping[str, Attribute | None],
        *,
        parent: Span | None = None,
        **more: Any,
    ) -> Span:
        """A span below the root, or another one, and within its time."""
        outer = (parent.start_ns, parent.end_ns) if parent else self.time
        start, end = within(start_ns, end_ns, outer)
        span = Span(
            name=name,
            span_id=id,
            parent_id=parent.span_id if parent else self.root_id,
            start_ns=start,
            end_ns=end,
            attributes=_said(attributes),
            **more,
        )
        self.spans.append(span)
        return span

    def _root(self, parent_id: str | None) -> Span:
        head = self.head
        begin, end = self.time
        stop = head.stop
        failed = stop is not None and STOPS[stop.reason].alert is not None
        scope = stop.detail.get("scope") if stop is not None else None
        about = head.companion
        attributes: dict[str, Attribute | None] = {
            names.OPERATION: names.INVOKE_AGENT,
            names.PROVIDER: self.rested.provider,
            names.AGENT_NAME: head.agent,
            names.AGENT_VERSION: head.version,
            names.CONVERSATION: head.session_id,
            **facts.tokens(sum((facts.usage(call) for call in self.calls if facts.answered(call)), Usage())),
            names.TENANT: head.tenant_id,
            names.TURN: head.turn.number,
            names.RESUMED: bool(self.rested_before),
            names.STATUS: head.status,
            names.STOP_REASON: stop.reason if stop is not None else None,
            names.STOP_SCOPE: scope if isinstance(scope, str) else None,
            names.ERROR_TYPE: stop.reason if stop is not None and failed else None,
            names.PLACEMENT: head.placement,
            names.STEPS: sum(entry.type == "assistant" for entry in self.entries),
            names.REQUEST: head.turn.request_id,
            names.COST: sum(facts.spent(call) for call in self.calls),
            names.IN_DOUBT: sum(facts.spent(call) for call in self.calls if call["state"] == "in_doubt"),
            **_headroom(self.rested.caps),
            names.COMPANION_KIND: about.kind if about is not None else None,
            names.COMPANION_OF: f"{about.session_id}/{about.turn}" if about is not None else None,
        }
        if (shows := self.rested.shows) is not None:
            said = [block for entry in self.entries if entry.by_user for block in entry.content]
            answers = [entry.content for entry in self.entries if entry.type == "assistant"]
            attributes[names.INPUT_MESSAGES] = shows.messages("user", said) if said else None
            attributes[names.OUTPUT_MESSAGES] = shows.messages("assistant", answers[-1]) if answers else None
        return Span(
            name=f"{names.INVOKE_AGENT} {head.agent}",
            span_id=self.root_id,
            parent_id=parent_id,
            start_ns=begin,
            end_ns=end,
            attributes=_said(attributes),
            # A turn is scored when it rests for the first time.
            events=() if self.rested_before else tuple(self._evaluation(score, end) for score in self.rested.scores),
            error=stop.reason if stop is not None and failed else None,
        )

    def _evaluation(self, score: Score, at_ns: int) -> SpanEvent:
        attributes: dict[str, Attribute | None] = {
            names.EVALUATION_NAME: score.name,
            names.EVALUATION_VALUE: score.value,
            names.EVALUATION_LABEL: None if score.passed is None else "pass" if score.passed else "fail",
            names.SEQ: score.seq,
            # Reasons quote what was said.
            names.EXPLANATION: self.rested.shows.text(score.reason) if self.rested.shows is not None else None,
        }
        return SpanEvent(names.EVALUATION, at_ns, _said(attributes))

    # ---- runners and what is between them ----

    def _runners(self) -> None:
        before: tuple[str, str] | None = None
        for index, part in enumerate(self.where.parts):
            self._on_its_way(index, part)
            id = span_id(self.head, "runner", part.seq, part.claimed_ns)
            about = {names.RUNNER_ID: part.id, names.RUNNER_KIND: part.kind}
            links = (before,) if before is not None else ()
            self._add(names.RUNNER, id, part.claimed_ns, part.end_ns, about, links=links)
            before = (id, "follows")
            if part.lost is not None:
                self._gap(part, id)
        if (since := self.where.unclaimed_ns) is not None:
            id = span_id(self.head, "unclaimed", self.entries[-1].seq)
            self._add(names.QUEUE, id, since, self.time[1], {})

    def _on_its_way(self, index: int, part: Part) -> None:
        if part.asked_ns is None:
            return
        name = names.MONEY_WAIT if part.waited_for == MONEY else names.HANDOFF if index else names.QUEUE
        id = span_id(self.head, "to_runner", part.seq, part.claimed_ns)
        about = {names.WHY: part.waited_for, names.RUNNER_ID: part.id, names.RUNNER_KIND: part.kind}
        self._add(name, id, part.asked_ns, part.claimed_ns, about)

    def _gap(self, part: Part, runner_span: str) -> None:
        """From when a runner was last heard of until somebody noticed that it was gone."""
        assert part.lost is not None
        about: dict[str, Attribute | None] = {
            names.RUNNER_ID: part.id,
            names.RUNNER_KIND: part.kind,
            names.TAKEN_OVER_BY: part.lost.taken_over_by_id or part.lost.taken_over_by,
            names.OPEN_CALLS: tuple(call.tool_use_id for call in part.lost.open_calls),
            names.SEQ: part.lost_seq,
            names.ERROR_TYPE: "runner_lost",
        }
        id = span_id(self.head, "lost", part.lost_seq)
        links = ((runner_span, "lost"),)
        self._add(names.RUNNER_LOST, id, part.end_ns, part.noticed_ns, about, links=links, error="the runner was lost")

    def _held_by(self, at_ns: int) -> dict[str, Attribute | None]:
        part = self.where.at(at_ns)
        return {names.RUNNER_ID: part.id, names.RUNNER_KIND: part.kind} if part is not None else {}

    # ---- the model ----

    def _compaction(self, entry: Entry) -> Span:
        call = next((call for call in self.calls if call["call"] == entry.call), None)
        end = nanoseconds(entry.at)
        about = {names.SEQ: entry.seq, names.LEFT_OUT: len(entry.left_out)}
        start = end if call is None else facts.asked_ns(call)
        return self._add(names.COMPACTION, span_id(self.head, "compaction", entry.seq), start, end, about)

    def _chat(self, call: Record, entry: Entry | None, compaction: Span | None) -> None:
        begin = nanoseconds(call["at"])
        end = nanoseconds(call["resolved_at"]) if call.get("resolved_at") else self.time[1]
        part, error = self.where.at(begin), facts.error_of(call)
        if part is not None and part.lost is not None and end >= part.noticed_ns:
            # It was in flight when its runner was lost.
            end, error = part.end_ns, "runner_lost"
        if waited := int(call.get("waited_ms") or 0):
            id = span_id(self.head, "money", call["call"])
            about = {names.WHY: MONEY, names.LEDGER_CALL: int(call["call"]), **self._held_by(begin)}
            self._add(names.MONEY_WAIT, id, begin - waited * 1_000_000, begin, about, parent=compaction)
        attributes: dict[str, Attribute | None] = {
            names.OPERATION: names.CHAT,
            names.PROVIDER: self.rested.provider,
            names.CONVERSATION: self.head.session_id,
            names.AGENT_NAME: self.head.agent,
            names.REQUEST_MODEL: str(call["model"]),
            names.MAX_TOKENS: int(call["max_tokens"]),
            names.RESPONSE_MODEL: entry.model if entry is not None else None,
            names.FINISH_REASONS: (entry.stop_reason,) if entry is not None and entry.stop_reason else None,
            **(facts.tokens(facts.usage(call)) if facts.answered(call) else facts.lost_tokens(facts.usage(call))),
            names.COST: facts.spent(call),
            names.IN_DOUBT: facts.spent(call) if call["state"] == "in_doubt" else None,
            names.RESERVED: int(call["amount_nanousd"]),
            names.LEDGER_CALL: int(call["call"]),
            names.LEDGER_STATE: str(call["state"]),
            names.PROVIDER_REQUEST: call.get("request_id"),
            names.STATUS_CODE: int(code) if (code := call.get("status_code")) else None,
            names.ERROR_TYPE: error,
            names.SEQ: entry.seq if entry is not None else None,
            **self._held_by(begin),
        }
        if self.rested.shows is not None and entry is not None:
            attributes[names.OUTPUT_MESSAGES] = self.rested.shows.messages("assistant", entry.content)
        id = span_id(self.head, "chat", int(call["call"]))
        name = f"{names.CHAT} {call['model']}"
        self._add(name, id, begin, end, attributes, parent=compaction, error=error, remote=True)

    # ---- tools ----

    def _tool(self, entry: Entry, outcome: ToolOutcome, block: Block | None) -> None:
        """One that never ran is told where its answer stands."""
        written = nanoseconds(entry.at)
        took = outcome.duration_ms * 1_000_000
        begin = nanoseconds(outcome.began_at) if outcome.began_at is not None else written - took
        failed = outcome.outcome if outcome.is_error else None
        tool = called(outcome.tool)
        attributes: dict[str, Attribute | None] = {
            names.OPERATION: names.EXECUTE_TOOL,
            names.TOOL_NAME: tool,
            names.TOOL_CALL: outcome.tool_use_id,
            names.TOOL_TYPE: "function",
            names.CONVERSATION: self.head.session_id,
            names.AGENT_NAME: self.head.agent,
            names.TOOL_OUTCOME: outcome.outcome,
            names.ERROR_TYPE: failed,
            names.SEQ: entry.seq,
            **self._held_by(begin),
        }
        if (shows := self.rested.shows) is not None:
            asked = self._asked.get(outcome.tool_use_id)
            attributes[names.ARGUMENTS] = shows.arguments(outcome.tool, asked["input"]) if asked is not None else None
            attributes[names.RESULT] = shows.result(block) if block is not None else None
        start, end = within(begin, begin + took, self.time)
        flag = outcome.flag
        events = (SpanEvent(names.FLAG, end, {names.FLAG_SCORE: flag.score}),) if flag is not None else ()
        id = tool_context(self.head, outcome.tool_use_id).span_id
        self._add(f"{names.EXECUTE_TOOL} {tool}", id, start, end, attributes, events=events, error=failed)

    @cached_property
    def _asked(self) -> dict[str, Block]:
        """Calls of the turn by their ids."""
        return {
            block["id"]: block
            for entry in self.turn_entries
            if entry.type == "assistant"
            for block in entry.content
            if block.get("type") == "tool_use"
        }


def _said(attributes: Mapping[str, Attribute | None]) -> dict[str, Attribute]:
    return {name: value for name, value in attributes.items() if value is not None}


def _headroom(caps: Sequence[ScopeState]) -> dict[str, Attribute | None]:
    """The cap with the least left, as it stood when the trace was made."""
    capped = [state for state in caps if state.available is not None]
    if not capped:
        return {}
    tightest = min(capped, key=lambda state: state.available or 0)
    return {names.CAP_SCOPE: tightest.scope, names.CAP_LIMIT: tightest.cap, names.CAP_HEADROOM: tightest.available}
