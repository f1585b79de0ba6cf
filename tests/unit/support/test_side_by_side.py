"""What `make test` does first, and what it keeps together, is there."""

from __future__ import annotations

from tests.support import side_by_side


def test_files_that_are_named_are_there_and_in_one_piece_of_work_at_most() -> None:
    names = side_by_side.LONGEST
    assert len(set(names)) == len(names)
    for name in names:
        assert [path for path in side_by_side.waiting_files() if path.stem == f"test_{name}"], name


def test_one_worker_computes_and_all_others_wait() -> None:
    for workers in range(1, 6):
        computing = [n for n in range(workers) if side_by_side.computes(f"gw{n}", workers)]
        assert computing == ([workers - 1] if workers > 1 else [])
