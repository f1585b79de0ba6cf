"""How a module of this package answers whoever has started it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any


def answer_with(document: Callable[[], Any]) -> None:
    """Tell on standard output, as JSON, what is looked at here, and end this process."""
    # An agent's module may print what it likes while it is imported, also through what it starts: our answer alone goes
    # to standard output.
    answer = os.dup(1)
    os.dup2(2, 1)
    logging.disable()  # what cannot be loaded is told as a finding
    told = document()
    with os.fdopen(answer, "w", encoding="utf-8") as file:
        json.dump(told, file)
    # Threads that an import has started are not waited for.
    sys.stderr.flush()
    os._exit(0)
