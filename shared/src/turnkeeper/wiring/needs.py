"""Settings that one process needs and another does not."""

from __future__ import annotations

from typing import Any

from turnkeeper.settings import PREFIX, Settings


class MissingSetting(Exception):
    """This process needs a setting that it was not given."""


def needed(settings: Settings, name: str) -> Any:
    """The setting of this name. Raises MissingSetting where it is absent."""
    value = getattr(settings, name)
    if value is None:
        raise MissingSetting(f"{PREFIX}{name.upper()} is not set, and this process needs it")
    return value
