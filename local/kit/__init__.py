"""The whole kit on one machine: `up()`, `down()`, and the `Kit` that is up.

from local.kit import Kit, KitError, KitSettings, down, up

kit = up()            # idempotent; settings from the environment
kit.api_url           # ... and the other fields of .turnkeeper/local.json
Kit.read()            # the one that is up, or None
down()
"""

from __future__ import annotations

from local.kit.errors import KitError
from local.kit.home import Home
from local.kit.kit import Kit, down, up
from local.kit.settings import KitSettings

__all__ = ["Home", "Kit", "KitError", "KitSettings", "down", "up"]
