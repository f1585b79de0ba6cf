"""What must hold of the story of any session, whatever happened in it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.support.command_line import tree
from turnkeeper.adapters.redaction import Redactor
from turnkeeper.core.session import Entry, Head
from turnkeeper.core.story.facts import Story
from turnkeeper.runtime.explaining import Explaining
from turnkeeper.runtime.store.sessions import Sessions
from turnkeeper_local.cli.main import app

_COMMAND = re.compile(r"`turnkeeper ([^`]*)`")

OUTCOMES = {"ok": "worked", "error": "failed", "denied": "denied", "unknown": "may or may not have taken effect"}


def check_story(explaining: Explaining, head: Head) -> Story:
    """Every fact is told with its reference, in the order of times, and the costs add up."""
    story = explaining.explain(head, admin=True)
    sessions = explaining.sessions
    entries = _own(head, sessions)
    kinds = ("seq", "call", "audit", "turn")
    named = {kind: {line.refs[kind] for line in story.lines if kind in line.refs} for kind in kinds}
    assert [line.at for line in story.lines] == sorted(line.at for line in story.lines)
    assert sum(line.cost_nanousd or 0 for line in story.lines) == head.account.cost_nanousd
    told = {entry.seq for entry in entries if entry.type != "tool_results" or entry.content or entry.outcomes}
    assert told <= named["seq"]
    assert {int(call["call"]) for call in sessions.calls(head.tenant_id, head.session_id)} <= named["call"]
    assert {int(record["seq"]) for record in sessions.audit(head.tenant_id, head.session_id)} == named["audit"]
    assert {one.turn for one in explaining.scores.of_session(head.tenant_id, head.session_id)} <= named["turn"]
    waited = {int(call["call"]) for call in sessions.calls(head.tenant_id, head.session_id) if call.get("waited_ms")}
    assert waited == {line.refs["call"] for line in story.lines if " had waited " in line.text and "call" in line.refs}
    if head.lease.run is not None:
        assert head.lease.run.id in str(story.lines)
    _check_entries(entries, story)
    _check_end(head, story)
    _check_stood_out(explaining, entries, head, story)
    check_commands(story)
    _check_turns(explaining, head, story)
    for text in (*(line.text for line in story.lines), story.why_ended, story.what_now):
        assert text.strip()
        assert "None" not in text
    return story


def _own(head: Head, sessions: Sessions) -> list[Entry]:
    first = head.forked_from.seq if head.forked_from else 0
    entries = sessions.load(head.tenant_id, head.session_id).entries
    return [entry for entry in entries if entry.seq > first]


def _check_entries(entries: Sequence[Entry], story: Story) -> None:
    redact = Redactor().redact_text
    for entry in entries:
        of_it = " ".join(line.text for line in story.lines if line.refs.get("seq") == entry.seq)
        if entry.lost_runner is not None:
            assert redact(entry.lost_runner.id) in of_it
            assert entry.lost_runner.last_heard_at in of_it
        if entry.run is not None:
            assert redact(entry.run.id) in of_it
        if entry.stop is not None:
            assert entry.stop.reason in of_it
        if entry.in_doubt_nanousd:
            assert "in doubt" in of_it
        for outcome in entry.outcomes:
            assert OUTCOMES[outcome.outcome] in of_it
            assert (outcome.flag is None) or "flagged" in of_it


def _check_end(head: Head, story: Story) -> None:
    assert story.why_ended.startswith("It has not ended: ") == (not head.resting)
    assert story.what_now.splitlines()


def _check_stood_out(explaining: Explaining, entries: Sequence[Entry], head: Head, story: Story) -> None:
    """The first words name what was flagged, denied or left unknown, and what scored too low; nothing else."""
    odd = {
        outcome.tool
        for entry in entries
        for outcome in entry.outcomes
        if outcome.flag is not None or outcome.outcome in {"denied", "unknown"}
    }
    scored = explaining.scores.of_session(head.tenant_id, head.session_id)
    failed = {score.name for one in scored for score in one.scores if score.passed is False}
    if len(odd) <= 5:
        assert all(Redactor().redact_text(name)[:50] in story.why_ended for name in odd)
    assert all(name in story.why_ended for name in list(failed)[: 5 if len(failed) <= 5 else 0])
    assert ("cored too low" in story.why_ended) == bool(failed)


def _check_turns(explaining: Explaining, head: Head, story: Story) -> None:
    """The stories of all turns are the story, but for how things stand now."""
    of_turns = [
        line
        for turn in range(1, max(1, head.turn.number) + 1)
        for line in explaining.explain(head, turn, admin=True).lines
    ]
    assert sorted(line.text for line in of_turns) == sorted(line.text for line in story.lines)


def check_commands(story: Story) -> None:
    """Each command is one that the command line takes, with these options."""
    root = tree(app)
    for line in _COMMAND.findall(story.what_now):
        command, words = root, line.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
        assert not hasattr(command, "commands"), line
        command.make_context("turnkeeper", words)
