"""The transcript's entries, in sentences."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, assert_never

from turnkeeper.core.breakers import call_hash
from turnkeeper.core.denials import Denial
from turnkeeper.core.session import RESTING, Entry, Run, RunnerKind, ToolOutcome
from turnkeeper.core.story.ending import why
from turnkeeper.core.story.facts import Facts, Line, count, moment, refs, seconds_between, took, usd
from turnkeeper.core.tracing import turn_context
from turnkeeper.core.transcript import Block, results_of, text_of, tool_uses
from turnkeeper.core.untrusted import unwrap_blocks
from turnkeeper.core.usage import Usage

_RUNNERS: Mapping[RunnerKind, str] = {"lambda": "turn Lambda", "fargate": "worker"}
_OUTCOMES = {"ok": "worked", "error": "failed", "denied": "was denied", "unknown": "may or may not have taken effect"}
#: Audit records that say of an entry what the entry says already, by their kind.
_SAME = {"cap_trip": "status", "breaker_trip": "status", "cancel": "status", "erase": "status"}
_TOLD_BY_ENTRIES = {**_SAME, "repair": "repair", "compaction": "compaction", "rewind": "rewind"}


class Happenings:
    """Tells of entries in their order, and knows afterwards which audit records they stand for."""

    def __init__(self, facts: Facts, shown: Collection[int] | None = None) -> None:
        self.facts = facts
        #: Entries of which the lines are shown, where that is known: to take secrets out of the others is for nothing.
        self._shown = shown
        self._read, self._unread = facts, facts.unread()
        #: Audit records that some line refers to.
        self.referred: set[int] = set()
        self._turn = 0
        self._steps = 0
        self._ran_on: str | None = None
        self._paid_by: tuple[str, ...] = ()
        self._asked: dict[str, Block] = {}
        self._made: Counter[str] = Counter()
        self._ledger = {int(call["call"]): call for call in facts.calls}
        self._tool_records: defaultdict[str, deque[Mapping[str, Any]]] = defaultdict(deque)
        self._others: defaultdict[tuple[str, str], deque[int]] = defaultdict(deque)
        for record in facts.records:
            if record["kind"] == "tool_call":
                self._tool_records[str(record.get("tool_use_id"))].append(record)
            elif (kind := _TOLD_BY_ENTRIES.get(record["kind"])) is not None:
                self._others[kind, moment(record["at"])].append(int(record["seq"]))

    def lines(self) -> Iterator[tuple[int, Line]]:
        """Each with the turn that it is part of."""
        for entry in self.facts.entries:
            if entry.by_user:
                self._turn += 1
                self._made.clear()
            self.facts = self._read if self._shown is None or entry.seq in self._shown else self._unread
            if entry.seq < self.facts.first_seq:
                self._steps += entry.type == "assistant"
                continue
            for line in (*self._run(entry), *self._of(entry)):
                yield self.facts.turn_of(self._turn), replace(line, at=moment(line.at))
        self.facts = self._read
        if (run := self.facts.head.lease.run) is not None:
            # Nothing has come of it yet, so no entry tells of it.
            yield self.facts.head.turn.number, self._taken(run, {})

    def _of(self, entry: Entry) -> Iterator[Line]:
        match entry.type:
            case "user":
                yield self._user(entry)
            case "assistant":
                yield self._answer(entry)
            case "tool_results":
                yield from self._results(entry)
            case "status":
                yield self._status(entry)
            case "repair":
                yield self._repair(entry)
            case "rewind":
                yield self._line(
                    entry, f"The user took back {self._left_out(entry)}: the model is not sent it any more."
                )
            case "compaction":
                yield self._compaction(entry)
            case "runner_lost":
                yield self._lost(entry)
            case "other":
                yield self._line(entry, "Something was written down that this version cannot read: a later one did.")
            case _:
                assert_never(entry.type)

    # ---- who ran it ----

    def _run(self, entry: Entry) -> Iterator[Line]:
        if entry.run is not None:
            yield self._taken(entry.run, {"seq": entry.seq})

    def _taken(self, run: Run, known: Mapping[str, Any]) -> Line:
        runner = f"{_RUNNERS[run.kind]} {self.facts.say(run.id, 100)}"
        moved = f", from the {_RUNNERS[_kind(self._ran_on)]}" if self._ran_on not in (None, run.kind) else ""
        waited = f" after {seconds_between(run.asked_at, run.claimed_at):.1f} s on its way" if run.asked_at else ""
        self._ran_on = run.kind
        return Line(at=moment(run.claimed_at), text=f"The {runner} took it up{moved}{waited}.", refs=known)

    def _lost(self, entry: Entry) -> Line:
        lost = entry.lost_runner
        kind = _RUNNERS[entry.runner] if entry.runner else "runner"
        if lost is None:
            return self._line(entry, f"The {kind} was lost.")
        by = "the sweep" if lost.taken_over_by == "sweep" else f"the {_RUNNERS[lost.taken_over_by]}"
        name = f" {self.facts.say(lost.taken_over_by_id, 100)}" if lost.taken_over_by_id else ""
        doubt = (
            f" {usd(entry.in_doubt_nanousd)} for the call that it was making is in doubt." if entry.cost_nanousd else ""
        )
        tools = ", ".join(self.facts.say(call.tool, 60) for call in lost.open_calls)
        calls = f" It may have made these tool calls: {tools}." if tools else ""
        text = (
            f"The {kind} {self.facts.say(lost.id, 100)} was lost: last heard of at {lost.last_heard_at}, noticed by "
            f"{by}{name}.{doubt}{calls}"
        )
        return self._line(entry, text)

    # ---- what was said ----

    def _user(self, entry: Entry) -> Line:
        text = text_of(entry.content)
        if not entry.content:
            said = "Something was asked whose content was erased"
        elif entry.lost:
            said = "Something was asked whose content is gone from the store"
        elif entry.by_kit:
            said = f"The kit told the model: {self.facts.quoted(text)}"
        else:
            others = sum(block.get("type") != "text" for block in entry.content)
            more = f" with {count(others, 'image or other content')}" if others else ""
            said = f"Turn {self._turn}: the user asked{more}: {self.facts.quoted(text)}"
        if entry.removed_tools:
            said += f". The agent has these tools no more: {self._names(entry.removed_tools)}"
        turn = self.facts.head.turn
        request = turn.request_id if entry.seq == turn.seq else None
        return self._line(entry, f"{said}.", request_id=request, trace_id=self._trace(entry), turn=self._turn or None)

    def _answer(self, entry: Entry) -> Line:
        self._steps += 1
        if self.facts.head.status == "erased" and not entry.content:
            return self._line(entry, f"Step {self._steps}: the model answered; what it said was erased.")
        usage = Usage.of(entry.usage)
        calls = tool_uses(entry.content)
        self._asked |= {str(call["id"]): call for call in calls}
        asked = f" It was asked as {self.facts.say(entry.requested_model, 80)}." if entry.requested_model else ""
        tries = f" It took {count(entry.attempts, 'attempt')}." if entry.attempts else ""
        cached = f"{usage.cache_read_input_tokens:,} cached"
        read = f"{usage.read_tokens:,} tokens read ({cached}), {usage.output_tokens:,} written"
        text = self.facts.quoted(text_of(entry.content)) if text_of(entry.content).strip() else ""
        tools = f"asked for {self._names(call['name'] for call in calls)}" if calls else ""
        said = " and ".join(filter(None, (f"said {text}" if text else "", tools))) or "said nothing that is kept"
        timed = f" in {took(entry.duration_ms)}" if entry.duration_ms is not None else ""
        return self._line(
            entry,
            f"Step {self._steps}: {self.facts.say(entry.model or 'the model', 80)} answered{timed} and {said}: {read}, "
            f"{usd(entry.cost_nanousd)}{self._payers(entry)}.{asked}{tries}{self._doubt(entry)}",
            cost=True,
        )

    def _payers(self, entry: Entry) -> str:
        """Who paid for a call, where that is not who paid for the one before."""
        periods = self._ledger.get(entry.call or 0, {}).get("periods") or {}
        # Through the gateway the task is a counter like the others; else the session's head counts it.
        paid_by = tuple(dict.fromkeys(("task", *periods)))
        if not periods or paid_by == self._paid_by:
            return ""
        self._paid_by = paid_by
        return f", counted in {', '.join([str(scope) for scope in paid_by])}"

    # ---- tools ----

    def _results(self, entry: Entry) -> Iterator[Line]:
        for outcome, block in results_of(entry):
            yield self._tool(entry, outcome, block or {})
        for block in entry.content:
            if block.get("type") == "text":
                yield self._line(entry, f"The kit told the model: {self.facts.quoted(block.get('text'))}.")

    def _tool(self, entry: Entry, outcome: ToolOutcome, block: Block) -> Line:
        records = self._tool_records[outcome.tool_use_id]
        record = records.popleft() if records else {}
        if record:
            self.referred.add(int(record["seq"]))
        arguments = self.facts.named(record.get("arguments_redacted"))
        timed = f" in {took(outcome.duration_ms)}" if outcome.duration_ms else ""
        text = f"{self.facts.say(outcome.tool, 80)}({arguments}) {_OUTCOMES[outcome.outcome]}{timed}"
        if outcome.denial is not None:
            text += f": {self._denied(outcome.denial)}"
        elif outcome.is_error:
            # What a tool, or the kit, answered: an allow-list that it is outside of, a flag that holds it back.
            content = block.get("content")
            words = content if isinstance(content, str) else text_of(unwrap_blocks(content or ()))
            text += f": {self.facts.quoted(words)}"
        text += f".{self._repeated(outcome)}"
        if outcome.flag is not None:
            why_so = ", ".join(outcome.flag.reasons) or "by its words"
            # Of what a result says, or of a call: made after such a result, or of a tool that is out of reach.
            text += f" It is flagged as what an injected instruction looks like ({self.facts.say(why_so)})."
        line = self._line(entry, text, audit=record.get("seq"), tool_use_id=self.facts.say(outcome.tool_use_id, 128))
        return replace(line, at=outcome.began_at or entry.at)

    def _denied(self, denial: Denial) -> str:
        match denial.why:
            case "unknown":
                return "the agent has no such tool"
            case "plan":
                return "the tenant's plan leaves it out"
            case "role":
                able = f"; the roles {self._names(denial.given_to_roles)} have them" if denial.given_to_roles else ""
                return f"the role {self.facts.say(denial.role, 60)} lacks {self._names(denial.missing_scopes)}{able}"
            case "not_granted":
                return "the session has no grant for it"

    def _repeated(self, outcome: ToolOutcome) -> str:
        call = self._asked.get(outcome.tool_use_id)
        if call is None or not isinstance(call.get("input"), Mapping):
            return ""
        hashed = call_hash(str(call["name"]), call["input"])
        self._made[hashed] += 1
        times = self._made[hashed]
        return f" The same call was made before in this turn: this is number {times}." if times > 1 else ""

    # ---- what became of it ----

    def _status(self, entry: Entry) -> Line:
        if entry.status is None:
            return self._line(entry, "Its status changed; to which one was erased.")
        cost = f" {usd(entry.cost_nanousd)} went into calls that no answer came of." if entry.cost_nanousd else ""
        if entry.status == "queued":
            text = "It was put on its way to the worker."
        elif entry.status not in RESTING:
            text = "It was put on its way to the turn Lambda."
        elif entry.stop is None:
            text = f"It came to rest as {entry.status}."
        else:
            text = f"The turn ended as {entry.status}, {entry.stop.reason}. {why(self.facts, entry.stop)}"
        return self._line(entry, f"{text}{cost}{self._doubt(entry)}")

    def _repair(self, entry: Entry) -> Line:
        what = self._left_out(entry) if entry.left_out else "the container"
        # Of an erased session nobody knows why.
        why = f": {self.facts.quoted(entry.reason)}" if entry.reason is not None else ""
        return self._line(entry, f"The model API refused {what}; it was left out, and the call made again{why}.")

    def _compaction(self, entry: Entry) -> Line:
        model = self.facts.say(entry.model, 80)
        text = f"To make room, {self._left_out(entry)} left the conversation"
        if entry.model is None:
            return self._line(entry, f"{text}.")
        cost = usd(entry.cost_nanousd)
        return self._line(entry, f"{text}; {model} wrote a summary for {cost}.{self._doubt(entry)}", cost=True)

    # ---- parts ----

    def _line(self, entry: Entry, text: str, *, cost: bool = False, **named: Any) -> Line:
        own = self._others[entry.type, moment(entry.at)]
        if "audit" not in named and own:
            named["audit"] = own.popleft()
            self.referred.add(named["audit"])
        known = refs(seq=entry.seq, call=entry.call, request_id=entry.request_id)
        nanousd = entry.cost_nanousd if cost or entry.cost_nanousd else None
        return Line(at=entry.at, text=text, refs={**known, **refs(**named)}, cost_nanousd=nanousd)

    def _left_out(self, entry: Entry) -> str:
        seqs = sorted({mark.seq for mark in entry.left_out})
        where = f" of entries {seqs[0]} to {seqs[-1]}" if len(seqs) > 1 else f" of entry {seqs[0]}" if seqs else ""
        return f"{count(len(entry.left_out), 'part')}{where}"

    def _doubt(self, entry: Entry) -> str:
        if not entry.in_doubt_nanousd:
            return ""
        return f" Of its cost {usd(entry.in_doubt_nanousd)} is in doubt: nobody knows what became of a call."

    def _names(self, names: Any) -> str:
        return self.facts.say(", ".join(map(str, names)), 300)

    def _trace(self, entry: Entry) -> str | None:
        head = self.facts.head
        return turn_context(head).trace_id if entry.seq == head.turn.seq else None


def _kind(name: str | None) -> RunnerKind:
    return "fargate" if name == "fargate" else "lambda"
