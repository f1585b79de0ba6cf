"""When a continuation token lets a stopped turn go on."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.support.heads import NOW, head
from turnkeeper.core.continuation import may_go_on
from turnkeeper.core.session import Entry, Head, Spec, Stop, Transcript

WRITTEN: dict[str, dict[str, Any]] = {
    "answer": {"type": "assistant"},
    "stop": {"type": "status", "status": "stopped"},
    "resumed": {"type": "user", "by_kit": True},
    "handoff": {"type": "status", "status": "queued"},
}


def stopped(*written: str, **fields: Any) -> tuple[Head, Transcript]:
    """A session whose turn was stopped at last, after an input and all of this."""
    kinds: list[dict[str, Any]] = [{"type": "user"}, *(WRITTEN[what] for what in written), WRITTEN["stop"]]
    entries = tuple(Entry(seq=seq, at=NOW, **kind) for seq, kind in enumerate(kinds, start=1))
    at = head(status="stopped", stop=Stop(reason="repetition"), last_seq=len(entries), **fields)
    return at, Transcript(head=at, spec=Spec(model="m", system="", tools=()), entries=entries)


def by_user(at: Head, transcript: Transcript, seq: int, **more: Any) -> bool:
    return may_go_on(at, 1, seq, read=lambda: transcript, **more)


def test_a_token_of_the_stop_itself_lets_it_go_on_either_way() -> None:
    at, transcript = stopped("answer")
    assert by_user(at, transcript, 3)
    assert may_go_on(at, 1, 3)


def test_a_token_from_before_the_stop_is_a_users_to_use_and_no_messages() -> None:
    at, transcript = stopped("answer", "handoff", "answer")
    assert by_user(at, transcript, 3)
    assert not may_go_on(at, 1, 3)


def test_a_token_is_used_up_once_the_model_has_said_more_since_its_stop() -> None:
    at, transcript = stopped("stop", "resumed", "answer")
    assert not by_user(at, transcript, 1)
    assert not by_user(at, transcript, 2)
    assert by_user(at, transcript, 3)
    at, transcript = stopped("stop", "resumed")
    assert by_user(at, transcript, 2), "nothing came of the first time"


def test_what_would_stop_again_at_once_does_not_go_on() -> None:
    at, transcript = stopped(iterations=25)
    assert by_user(at, transcript, at.last_seq)
    at = head(status="stopped", stop=Stop(reason="iteration_limit"), last_seq=2, iterations=25)
    assert not by_user(at, transcript, 2)
    assert by_user(at, transcript, 2, max_iterations=26)


def test_the_transcript_is_read_only_where_it_decides() -> None:
    def read() -> Transcript:
        raise AssertionError("read")

    at, _ = stopped("answer")
    assert may_go_on(at, 1, 3, read=read)
    assert not may_go_on(at, 2, 3, read=read)
    assert not may_go_on(head(status="running", last_seq=9), 1, 3, read=read)


@given(st.lists(st.sampled_from(sorted(WRITTEN)), max_size=8), st.integers(1, 2), st.data())
def test_a_message_never_does_what_a_user_with_its_token_could_not(written: list[str], turn: int, data: Any) -> None:
    at, transcript = stopped(*written)
    seq = data.draw(st.integers(1, at.last_seq))
    by_message = may_go_on(at, turn, seq)
    assert by_message == ((turn, seq) == (1, at.last_seq))
    assert by_user(at, transcript, seq) or not by_message
