"""Secrets and settings of tools on this machine: two files at the project's root that no repository holds.

`secrets.local.toml` is written by `turnkeeper secrets set`, readable by its owner only; `settings.local.toml` by hand.
Both are flat tables of names and texts. `up` puts the secrets into the emulator's Secrets Manager and hands their names
on as a deployment does: no secret is on a command line, in an environment or in the assembly.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from turnkeeper_local.kit.errors import KitError
from turnkeeper_local.kit.ministack import Ministack

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

SECRETS_FILE = "secrets.local.toml"
SETTINGS_FILE = "settings.local.toml"
_PREFIX = "turnkeeper/tools/"
NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class LocalValues:
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    settings: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, project: Path) -> LocalValues:
        """Raises KitError where a file is none; the text names it, and quotes nothing of it."""
        return cls(_read(project / SECRETS_FILE, private=True), _read(project / SETTINGS_FILE))


def value_files(project: Path) -> list[Path]:
    """Where they are, whether there is something or not."""
    return [project / SECRETS_FILE, project / SETTINGS_FILE]


def values_digest(project: Path) -> str:
    """Changes when one of them does."""
    digest = hashlib.sha256()
    for file in value_files(project):
        digest.update(file.read_bytes() if file.is_file() else b"")
        digest.update(b"\0")
    return digest.hexdigest()


def set_secret(project: Path, name: str, value: str) -> Path:
    """Write a secret beside the others; the file, which nobody but its owner can read. Raises KitError."""
    if not NAME.fullmatch(name):
        raise KitError(f"{name!r} is no name of a secret: lower case letters, digits and '_', at most 63")
    file = project / SECRETS_FILE
    secrets = {**_read(file, private=True), name: value}
    head = "# Secrets of tools, for the local kit. Written by `turnkeeper secrets set`; belongs into no repository.\n"
    text = head + "".join(f"{each} = {_literal(secrets[each])}\n" for each in sorted(secrets))
    handle, draft = tempfile.mkstemp(prefix=f".{SECRETS_FILE}.", dir=project)  # with mode 600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as draft_file:
            draft_file.write(text)
        Path(draft).replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(draft).unlink()
        raise
    return file


def put_secrets(ministack: Ministack, secrets: Mapping[str, str]) -> dict[str, str]:
    """Put them into the emulator's Secrets Manager; the ARN of each."""
    client = _manager(ministack)
    arns: dict[str, str] = {}
    for name, value in secrets.items():
        try:
            arns[name] = client.create_secret(Name=f"{_PREFIX}{name}", SecretString=value)["ARN"]
        except client.exceptions.ResourceExistsException:
            arns[name] = client.put_secret_value(SecretId=f"{_PREFIX}{name}", SecretString=value)["ARN"]
    return arns


def put_secrets_away(ministack: Ministack) -> None:
    """Take them out of the emulator again, so that they are in no state that is kept on disk."""
    client = _manager(ministack)
    names = [
        secret["Name"] for page in client.get_paginator("list_secrets").paginate() for secret in page["SecretList"]
    ]
    for name in names:
        if name.startswith(_PREFIX):
            client.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def _manager(ministack: Ministack) -> SecretsManagerClient:
    client: SecretsManagerClient = ministack.client("secretsmanager")
    return client


def _read(file: Path, *, private: bool = False) -> dict[str, str]:
    try:
        if private:
            file.chmod(0o600)
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        # Without the cause, and of its words only the place: it may quote a secret.
        place = re.search(r"at line \d+", str(error))
        raise KitError(f"{file} is no TOML{f', {place[0]}' if place else ''}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise KitError(f"{file} cannot be read: {type(error).__name__}") from None
    for name, value in values.items():
        if not NAME.fullmatch(name) or not isinstance(value, str):
            raise KitError(f'{file}: {name} has to be a line like `name = "text"`, with a name of a-z, 0-9 and _')
    return values


def _literal(value: str) -> str:
    """A basic string of TOML: JSON's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
