"""The story of a session, or of one of its turns, in plain sentences: a pure function of what is stored of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from turnkeeper.core.session import Status, Stop
from turnkeeper.core.story import money, trail
from turnkeeper.core.story.ending import stood_out, why_ended
from turnkeeper.core.story.facts import Facts, Line, Story, moment, usd
from turnkeeper.core.story.happenings import Happenings
from turnkeeper.core.story.ways_on import what_now

#: A story has at most so many lines: of a longer one the middle is left out, and said to be.
MOST_LINES = 500
#: Of those, how many are of its beginning.
_FIRST = 100


def tell(facts: Facts, turn: int | None = None) -> Story:
    """What happened, why it ended, and what can be done now.

    Args:
        turn: only this one; ``None`` for the whole session. It has to be one that the session has had.
    """
    # Which lines there are, and which of them are shown, does not hang on what they quote.
    shown = {line.refs["seq"] for line in _lines(facts.unread(), turn, None) if "seq" in line.refs}
    head, latest = facts.head, turn in (None, facts.head.turn.number)
    status, stop = (head.status, head.stop) if latest or turn is None else _end(facts, turn)
    why = why_ended(facts, status, stop) + stood_out(facts, turn)
    return Story(tuple(_lines(facts, turn, shown)), why, "\n".join(what_now(facts)))


def _lines(facts: Facts, turn: int | None, shown: Collection[int] | None) -> list[Line]:
    starts = _starts(facts)
    happenings = Happenings(facts, shown)
    of_turns = list(happenings.lines())
    others = [*money.calls(facts), *trail.records(facts, happenings.referred)]
    # What was written at one moment is told in the order in which it came about: first what the session is.
    lines = [(_turn_at(facts, starts, line.at), line) for line in others if "audit" in line.refs]
    lines += of_turns
    lines += [(_turn_at(facts, starts, line.at), line) for line in others if "audit" not in line.refs]
    lines += trail.scores(facts)
    chosen = sorted((line for of, line in lines if turn in (None, of)), key=lambda line: line.at)
    if turn in (None, facts.head.turn.number):
        # A clock that is ahead of ours wrote what was written last.
        after = chosen[-1].at if chosen else ""
        chosen += [replace(line, at=max(line.at, after)) for line in money.standing(facts)]
    return _bounded(_companion(facts) + chosen)


def _companion(facts: Facts) -> list[Line]:
    about = facts.head.companion
    if about is None:
        return []
    what = "tries a version of an agent on" if about.kind == "shadow" else "judges"
    whose = facts.say(about.session_id, 60)
    text = f"This is no user's session: the kit made it, and it {what} turn {about.turn} of {whose}."
    return [Line(at=moment(facts.head.created_at), text=text, refs={"turn": about.turn})]


def _starts(facts: Facts) -> list[str]:
    """When each turn began."""
    return [moment(entry.at) for entry in facts.entries if entry.by_user]


def _turn_at(facts: Facts, starts: Sequence[str], at: str) -> int:
    """The turn that something at this moment belongs to. What came before the first belongs to it."""
    return facts.turn_of(sum(start <= at for start in starts))


def _end(facts: Facts, turn: int) -> tuple[Status, Stop | None]:
    """How an earlier turn ended."""
    number, found = 0, None
    for entry in facts.entries:
        number += entry.by_user
        if number == turn and entry.type == "status" and entry.status is not None:
            found = entry
    return (found.status, found.stop) if found is not None and found.status is not None else ("idle", None)


def _bounded(lines: list[Line]) -> list[Line]:
    if len(lines) <= MOST_LINES:
        return lines
    last = MOST_LINES - _FIRST - 1
    left_out = lines[_FIRST:-last]
    cost = sum(line.cost_nanousd or 0 for line in left_out)
    text = (
        f"{len(left_out):,} lines are left out here, over {usd(cost)}. The story of one turn is told with `--turn N` "
        "(`?turn=N`)."
    )
    return [*lines[:_FIRST], Line(at=left_out[0].at, text=text, cost_nanousd=cost), *lines[-last:]]
