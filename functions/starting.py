"""How a process of Lambda starts: importing its handler is what it waits for."""

from __future__ import annotations

import gc
import os
import random
from functools import cache

IN_LAMBDA = "AWS_LAMBDA_FUNCTION_NAME" in os.environ
#: What is there now is kept, and each environment begins with a copy of it (SnapStart).
IN_SNAPSHOT = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"

if IN_LAMBDA:
    # Nearly all that is made while a process starts stays. To look for garbage after every 700 objects of it costs a
    # tenth of the time that a start takes.
    gc.set_threshold(100_000, 20, 20)


@cache
def own_chance() -> None:
    """For a handler that runs what others wrote, with each call: environments of one snapshot do not draw the same lots
    from :mod:`random`. What the kit draws comes from the system."""
    random.seed()
