"""How many examples Hypothesis makes where each costs much: few in `make test`, all where there is time
(`TURNKEEPER_EXAMPLES=all`, as in `.ci/run` and `make nightly`)."""

from __future__ import annotations

import os


def examples(few: int, *, all: int) -> int:
    return all if os.environ.get("TURNKEEPER_EXAMPLES") == "all" else few
