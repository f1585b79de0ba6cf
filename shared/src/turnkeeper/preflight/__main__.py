"""``python -m turnkeeper.preflight ROOT PROVIDER [FOLDER...]``: the findings as JSON on standard output."""

from __future__ import annotations

import sys
from pathlib import Path

from turnkeeper.preflight.answering import answer_with
from turnkeeper.preflight.examine import examine


def main(arguments: list[str]) -> None:
    root, provider, *folders = arguments
    answer_with(lambda: examine(Path(root), provider, [Path(each) for each in folders]).document())


if __name__ == "__main__":
    main(sys.argv[1:])
