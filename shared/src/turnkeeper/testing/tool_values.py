"""Secrets and settings of tools, from two dicts."""

from __future__ import annotations

import json
from collections.abc import Mapping

from turnkeeper.adapters.known_secrets import KNOWN, KnownSecrets
from turnkeeper.adapters.tool_secrets import usable
from turnkeeper.core.errors import MissingValue


class MemoryValues:
    """A :class:`turnkeeper.core.tools.ToolValues`. What it gives as a secret is redacted as any other is."""

    def __init__(
        self,
        secrets: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        *,
        known: KnownSecrets = KNOWN,
    ) -> None:
        self.secrets = dict(secrets or {})
        self.settings = dict(settings or {})
        self._known = known

    def secret(self, name: str, key: str | None = None, /) -> str:
        if name not in self.secrets:
            raise MissingValue(f"there is no secret {name!r}")
        value = self.secrets[name] if key is None else str(json.loads(self.secrets[name])[key])
        self._known.add(name, usable(name, value))
        return value

    def setting(self, name: str, /) -> str:
        if name not in self.settings:
            raise MissingValue(f"there is no setting {name!r}")
        return self.settings[name]
