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
