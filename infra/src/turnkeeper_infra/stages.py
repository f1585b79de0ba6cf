"""Where a deployment's settings come from: the file of its stage, and flags on top of it.

stages/prod.toml                       settings, by the names of `turnkeeper_infra.config.Config`
cdk -c stage_file=stages/other.toml    another file; empty for none
cdk -c key=value                       overrides one setting; an empty value gives the default back
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from turnkeeper_infra.config import Config, ConfigError
from turnkeeper_project import find_project

if TYPE_CHECKING:
    from constructs import Node

_SETTING = re.compile(r"[a-z][a-z0-9_]*")
"""What a setting's name looks like. The CDK's own keys in the context have colons and slashes."""
_NEVER_IN_A_FILE = {"local", "local_dependencies", "project", "stage_file"}
"""`local` leaves the authorizer out: nobody deploys that to an account by a line in a file."""


def from_context(node: Node) -> Config:
    """The settings of the stage's file, overridden by the context.

    Raises:
        ConfigError: a file that is missing or no TOML, a setting that does not exist, or a value that makes no sense.
    """
    context = {key: value for key, value in (node.get_all_context() or {}).items() if _SETTING.fullmatch(key)}
    chosen = context.pop("stage_file", None)
    named = context.pop("project", None)
    project = Path(str(named)).resolve() if named else find_project().root
    settings = {} if _is_on(context.get("local")) or chosen == "" else _file(project, chosen, context)
    for key, value in context.items():
        if value in ("", None):
            settings.pop(key, None)
        else:
            settings[key] = value
    if "identity" not in settings:
        settings |= _identity_of_flags(context)
    settings["project"] = project
    if settings.get("source_root"):
        settings["source_root"] = (project / str(settings["source_root"])).resolve()
    if settings.get("local_dependencies"):
        settings["local_dependencies"] = Path(str(settings["local_dependencies"])).resolve()
    return Config.of(settings)


def read(path: Path) -> dict[str, Any]:
    """The settings that a stage's file says, not checked yet.

    Raises:
        ConfigError: there is no such file, it is no TOML, or it says what only a flag may.
    """
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no stage file {path}; stages/prod.toml is one to copy") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path} cannot be read, as TOML in UTF-8 without a byte order mark: {error}") from None
    if forbidden := sorted(_NEVER_IN_A_FILE & settings.keys()):
        raise ConfigError(f"{path}: {', '.join(forbidden)} cannot stand in a stage's file")
    return settings


def _file(project: Path, chosen: object, context: dict[str, Any]) -> dict[str, Any]:
    if chosen is not None:
        return read((project / str(chosen)).resolve())
    usual = project / "stages" / f"{context.get('stage') or 'prod'}.toml"
    return read(usual) if usual.is_file() else {}


def _identity_of_flags(context: dict[str, Any]) -> dict[str, str]:
    """A flag that only one kind of identity takes chooses it as clearly. Leaving the flag out next time chooses
    nothing, and is refused."""
    kinds = [kind for key, kind in (("jwt_issuer", "jwt"), ("trusted_principals", "iam")) if context.get(key)]
    return {"identity": kinds[0]} if len(kinds) == 1 else {}


def _is_on(value: object) -> bool:
    return str(value).lower() in {"1", "true", "yes"}
