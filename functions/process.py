"""What a Lambda that is called for each batch has once a process."""

from __future__ import annotations

from functools import cache

from functions.starting import IN_LAMBDA
from turnkeeper.adapters.logs import set_up
from turnkeeper.bootstrap import Kit
from turnkeeper.settings import Settings

if IN_LAMBDA:
    # Imported at a function's start, not in its first call: there it has a whole processor.
    import turnkeeper.wiring.aws  # noqa: F401

_shared: list[Kit] = []


@cache
def kit() -> Kit:
    """The kit by this process's settings, made at the first call, with its logs set up; or the one that is shared."""
    if _shared:
        return _shared[0]
    settings = Settings.from_environment()
    set_up(settings.log_level)
    return Kit(settings)


def share(made: Kit) -> None:
    """Let functions that run in a process with other parts use its kit. Before any of them is called."""
    _shared[:] = [made]
