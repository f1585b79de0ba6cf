"""``python -m turnkeeper.preflight ROOT PROVIDER [FOLDER...]``: the findings as JSON on standard output."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from turnkeeper.preflight.examine import examine


def main(arguments: list[str]) -> None:
    root, provider, *folders = arguments
    # An agent's module may print what it likes while it is imported, also through what it starts: our answer alone goes
    # to standard output.
    answer = os.dup(1)
    os.dup2(2, 1)
    logging.disable()  # what cannot be loaded is told as a finding
    found = examine(Path(root), provider, [Path(each) for each in folders])
    with os.fdopen(answer, "w", encoding="utf-8") as file:
        json.dump(found.document(), file)
    # Threads that an import has started are not waited for.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
