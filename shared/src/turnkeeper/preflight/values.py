"""Secrets and settings that agents declare and the local kit is not given (of a deployment the CDK app knows them), and
secret arguments that no tool takes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from turnkeeper.core.policy_problems import suggestion
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


def secret_arguments_of_nothing(seen: Seen) -> Iterator[Finding]:
    """Names written differently: the argument that is meant would be in the audit trail. Tools that live elsewhere are
    not asked what they take."""
    for agent in seen.agents:
        for tool in agent.all_tools():
            if callable(tool.input_schema):
                continue
            taken = set(_arguments(tool.input_schema))
            for name in sorted(tool.secret_arguments - taken):
                text = f"tool {tool.name!r} of agent {agent.name!r} keeps {name!r} secret, and takes no such argument"
                at = seen.sources[agent.name].tool(tool.name)
                yield seen.of_agent("secret_of_no_argument", agent, at, text, suggestion(name, taken), "warning")


def _arguments(schema: Any) -> Iterator[str]:
    """Names of arguments, at any depth."""
    if isinstance(schema, Mapping):
        if isinstance(properties := schema.get("properties"), Mapping):
            yield from properties
        for inner in schema.values():
            yield from _arguments(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _arguments(inner)


def _names(file: Path) -> set[str]:
    """Names only. One that cannot be read is told by whoever brings the kit up."""
    try:
        return set(tomllib.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return set()
