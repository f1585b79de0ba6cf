"""Whatever stands in a transcript, it can be made shorter until nothing is left to leave out, and what is sent stays
what the API takes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.properties.test_projection import KINDS, NOW, check, transcripts
from turnkeeper.core.agent import Context
from turnkeeper.core.branching import withdrawal
from turnkeeper.core.compaction import Compaction, Room, next_compaction
from turnkeeper.core.projection import Place, project
from turnkeeper.core.session import Entry
from turnkeeper.core.summary import content, render
from turnkeeper.core.transcript import CONTENT_LOST, text_block

#: Summaries come about as the test goes on.
TRANSCRIPTS = transcripts(kinds=[kind for kind in KINDS if kind != "compaction"])
WINDOWS = st.sampled_from([2_000, 100])


def room(window: int) -> Room:
    return Room(Context(keep=0.1), window, 0, 100)


def with_compaction(entries: list[Entry], compaction: Compaction) -> list[Entry]:
    assert render(compaction.summarized, 500) or not compaction.summarized
    summary = content("The gist.", compaction.summarized, None, 500) if compaction.summarized else ()
    seq = entries[-1].seq + 1
    return [*entries, Entry(seq=seq, type="compaction", at=NOW, content=summary, left_out=compaction.left_out)]


def places(entries: list[Entry]) -> set[Place]:
    return {place for each in project(entries).places for place in each if place is not None}


@settings(max_examples=300, deadline=None)
@given(TRANSCRIPTS, WINDOWS)
def test_it_gets_shorter_until_nothing_can_be_left_out(entries: list[Entry], window: int) -> None:
    shorter = list(entries)
    for _ in range(40):
        compaction = next_compaction(shorter, room(window), tokens=10**6, refused=True)
        if compaction is None:
            break
        before, size = places(shorter), len(str(project(shorter).messages))
        shorter = with_compaction(shorter, compaction)
        check(shorter)
        old = {place for place in places(shorter) if place.seq <= shorter[-2].seq}
        assert old <= before, "nothing comes back"
        less = len(str(project(shorter).messages)) < size
        assert old < before or less, "something is left out each time"
    else:
        raise AssertionError("it never ends")


def test_first_words_that_the_store_has_lost_meanwhile_are_in_nobody_s_way() -> None:
    """Of what is lost, words that say so are left: fewer blocks than were marked as shortened."""
    said = (text_block("Do this:"), text_block("one thing after the other " * 500))
    entries = [Entry(seq=1, type="user", at=NOW, content=said)]
    for seq in (2, 3, 4):
        spoken = Entry(seq=seq, type="user" if seq % 2 else "assistant", at=NOW, content=(text_block("yes"),))
        entries.append(spoken)
    compaction = next_compaction(entries, room(2_000), tokens=10**6, refused=True)
    assert compaction is not None
    assert [mark.index for mark in compaction.left_out if mark.seq == 1] == [1]
    entries = with_compaction(entries, compaction)
    entries[0] = Entry(seq=1, type="user", at=NOW, content=(text_block(CONTENT_LOST),), lost=True)
    entries.append(Entry(seq=6, type="user", at=NOW, content=(text_block("Go on."),)))
    while (compaction := next_compaction(entries, room(100), tokens=10**6, refused=True)) is not None:
        entries = with_compaction(entries, compaction)
        check(entries)


@settings(max_examples=300, deadline=None)
@given(TRANSCRIPTS, WINDOWS, st.data())
def test_what_is_taken_back_takes_its_summary_along(entries: list[Entry], window: int, data: st.DataObject) -> None:
    """A rewind behind a summary shows what it would have shown without it."""
    shorter = list(entries)
    while (compaction := next_compaction(shorter, room(window), tokens=10**6, refused=True)) is not None:
        shorter = with_compaction(shorter, compaction)
    to_seq = data.draw(st.integers(0, len(entries)))

    def rewound(before: list[Entry]) -> set[Place]:
        marks = withdrawal(before, to_seq)
        after = [*before, Entry(seq=before[-1].seq + 1, type="rewind", at=NOW, left_out=marks)]
        check(after)
        return places(after)

    assert rewound(shorter) == rewound(entries)
