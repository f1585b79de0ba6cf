"""What a Lambda that is called for each batch has once a process."""

from __future__ import annotations

import os

from turnkeeper.adapters.logs import set_up
from turnkeeper.bootstrap import Kit
from turnkeeper.settings import Settings

if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    # Imported at a function's start, not in its first call: there it has a whole processor.
    import turnkeeper.wiring.aws  # noqa: F401

_kit: Kit | None = None


def kit() -> Kit:
    """The kit by this process's settings, made at the first call, with its logs set up."""
    global _kit
    if _kit is None:
        settings = Settings.from_environment()
        set_up(settings.log_level)
        _kit = Kit(settings)
    return _kit


def share(made: Kit) -> None:
    """Let functions that run in a process with other parts use its kit."""
    global _kit
    _kit = made
