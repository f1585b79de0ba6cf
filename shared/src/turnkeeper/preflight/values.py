"""Secrets and settings that agents declare and the local kit is not given. Of a deployment the CDK app knows them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from turnkeeper.preflight.findings import Finding
from turnkeeper.preflight.seen import Seen
from turnkeeper.runtime.tool_values import missing_values

SECRETS_FILE = "secrets.local.toml"
SETTINGS_FILE = "settings.local.toml"


def values_not_given(seen: Seen) -> Iterator[Finding]:
    secrets, settings = (_names(seen.root / name) for name in (SECRETS_FILE, SETTINGS_FILE))
    for agent in seen.agents:
        for kind, name in missing_values([agent], secrets, settings):
            at = seen.sources[agent.name].text(name)
            text = f"agent {agent.name!r}: its {kind} {name!r} is not given on this machine"
            hint = f"`turnkeeper secrets set {name}`" if kind == "secret" else f'{name} = "..." in {SETTINGS_FILE}'
            yield seen.of_agent(f"{kind}_not_given", agent, at, text, hint, severity="warning")


def _names(file: Path) -> set[str]:
    """Names only. One that cannot be read is told by whoever brings the kit up."""
    try:
        return set(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return set()
