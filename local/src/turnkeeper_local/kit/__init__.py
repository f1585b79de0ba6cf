"""The whole kit on one machine: `up()`, `down()`, and the `LocalKit` that is up.

from turnkeeper_local.kit import LocalKit, KitError, KitSettings, down, up

kit = up()            # idempotent; settings from the environment
kit.api_url           # ... and the other fields of .turnkeeper/local.json
LocalKit.read()            # the one that is up, or None
down()
"""

from __future__ import annotations

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.home import Home
from turnkeeper_local.kit.kit import LocalKit, down, up
from turnkeeper_local.kit.settings import KitSettings

__all__ = ["Home", "KitError", "KitSettings", "LocalKit", "down", "up"]
