"""Refuses to synthesize what would fail in every turn: agents and policy are looked at before they are deployed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from turnkeeper_infra.config import Config, ConfigError
from turnkeeper_project.asking import Answer, NotAsked, ask

_HOW = "allow_broken = true in the stage's file, or `-c allow_broken=true`."


def check_project(config: Config) -> list[str]:
    """What is to be said about the agents and the policy of a deployment, and does not prevent it; nothing for the
    emulator, where `turnkeeper up` has asked.

    Raises:
        ConfigError: what is deployed would fail in every turn, or something of it would be there for nobody. Everything
            that is wrong is told, with its file.
    """
    if config.local:
        return []
    try:
        answer = _answer(config.project, config.kit.package, config.model_provider, *config.agent_folders[1:])
    except NotAsked as error:
        raise ConfigError(str(error)) from None
    if refused := answer.refused(allow_broken=config.allow_broken, how=_HOW):
        raise ConfigError(refused)
    if missing := _missing_values(config, answer):
        raise ConfigError("\n".join(missing))
    return [str(finding) for finding in answer.warnings(allow_broken=config.allow_broken)]


@cache
def _answer(root: Path, package: Path, provider: str, *folders: Path) -> Answer:
    return ask(root, provider=provider, folders=folders, package=package)


def _missing_values(config: Config, answer: Answer) -> list[str]:
    """Secrets and settings that agents declare and the stage's file does not name."""
    return [
        f"{agent['file']}: agent {agent['name']!r} needs the {kind} {name!r}: name it below [{kind}s] of the stage"
        for agent in answer.agents
        for kind, named in (("secret", config.secrets), ("setting", config.settings))
        for name in agent[f"{kind}s"]
        if name not in named
    ]
