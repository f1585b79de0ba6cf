"""What the audit trail and the evaluators say, where no entry says it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from turnkeeper.core.story.facts import Facts, Line, moment, refs


def records(facts: Facts, referred: Collection[int]) -> Iterator[Line]:
    """Audit records that no line refers to so far."""
    for record in facts.records:
        if int(record["seq"]) not in referred:
            yield Line(at=moment(record["at"]), text=_said(facts, record), refs={"audit": int(record["seq"])})


def _said(facts: Facts, record: Mapping[str, Any]) -> str:
    detail = record.get("detail") or {}

    def of(name: str) -> str:
        value = detail.get(name)
        listed = ", ".join(map(str, value)) if isinstance(value, list) else value
        return facts.say("none" if listed in (None, "") else listed, 120)

    who = facts.who(record.get("actor"))
    match record["kind"]:
        case "session_created":
            on = f"{of('agent')} ({of('placement')}), role {of('role')}, version {of('version')}"
            return f"The session began, with the agent {on}."
        case "grant" if detail.get("removed"):
            return f"It lost tools: {of('removed')}. It is granted {of('tools')}."
        case "grant":
            return f"It was granted these tools: {of('tools')}."
        case "version":
            return f"It moved to another version of its agent ({facts.named(detail)})."
        case "fork":
            copied = f"{of('forked_from')} up to entry {of('at_seq')}"
            return f"It begins as a copy of {copied}; what was said there is told there."
        case "operator_action":
            actor = who if facts.admin else "an operator"
            return f"An intervention by {actor}: {facts.named(detail)}."
        case "content_lost":
            return f"Contents are gone from the store ({of('count')}); it went on without them."
        case "tool_call":
            tool = facts.say(record.get("tool") or "A tool", 80)
            return f"{tool}({facts.named(record.get('arguments_redacted'))}): {facts.say(record.get('outcome'), 20)}."
        case kind:
            named = facts.named(detail) if facts.may_see(detail.get("scope", "task")) else ""
            return f"{str(kind).replace('_', ' ').capitalize()} by {who}{f' ({named})' if named else ''}."


def scores(facts: Facts) -> Iterator[tuple[int, Line]]:
    """Each with the turn that it is about."""
    for one in facts.scored:
        score = one.score
        verdict = {True: ", which is good enough", False: ", which is not good enough", None: ""}[score.passed]
        reason = f": {facts.quoted(score.reason)}" if score.reason else ""
        text = f"The evaluator {score.name} gave turn {one.turn} {score.value:g} of 1{verdict}{reason}."
        yield one.turn, Line(at=moment(one.at), text=text, refs=refs(turn=one.turn, seq=score.seq))
