"""What a Lambda that is called for each batch has once a process."""

from __future__ import annotations

from functools import cache

from turnkeeper.adapters.logs import set_up
from turnkeeper.bootstrap import Kit
from turnkeeper.settings import Settings


@cache
def kit() -> Kit:
    """The kit by this process's settings, made at the first call, with its logs set up."""
    settings = Settings.from_environment()
    set_up(settings.log_level)
    return Kit(settings)
