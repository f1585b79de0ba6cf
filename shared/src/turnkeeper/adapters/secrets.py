"""Where the key of the model API comes from. A key is never logged and never part of a ``repr``."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, Protocol

#: Answers of Secrets Manager that asking again does not change.
_FOR_GOOD = frozenset({"AccessDeniedException", "ResourceNotFoundException", "InvalidRequestException"})


class KeySource(Protocol):
    """Calling it gives the key; cheap, but for the first time."""

    def __call__(self) -> str: ...

    def refresh(self) -> str:
        """Read it again: the one that we have was refused."""


class MissingKey(Exception):
    """There is no key where it should be; the text says where."""

    retryable = False


class KeyOutOfReach(MissingKey):
    """Where the key is cannot be asked just now."""

    retryable = True


class EnvironmentKey:
    """The key from an environment variable."""

    def __init__(self, name: str = "ANTHROPIC_API_KEY") -> None:
        self._name = name

    def __call__(self) -> str:
        key = os.environ.get(self._name, "").strip()
        if not key:
            raise MissingKey(f"{self._name} is not set")
        return key

    def refresh(self) -> str:
        return self()

    def __repr__(self) -> str:
        return f"EnvironmentKey({self._name!r})"


class FileKey:
    """The key from a file, read each time: what mounts it may rotate it. Calling it raises MissingKey."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self) -> str:
        try:
            key = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise MissingKey(f"{self._path} cannot be read: {type(error).__name__}") from None
        if not key:
            raise MissingKey(f"{self._path} is empty")
        return key

    def refresh(self) -> str:
        return self()

    def __repr__(self) -> str:
        return f"FileKey({str(self._path)!r})"


def secret_text(client: Any, secret_id: str) -> str:
    """What a secret holds. Raises MissingKey, KeyOutOfReach."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return str(client.get_secret_value(SecretId=secret_id).get("SecretString") or "").strip()
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        kind = MissingKey if code in _FOR_GOOD else KeyOutOfReach
        raise kind(f"secret {secret_id} cannot be read: {code}") from error
    except BotoCoreError as error:
        raise KeyOutOfReach(f"secret {secret_id} cannot be read: {type(error).__name__}") from error


class SecretsManagerKey:
    """The key from a secret: a plain string, or JSON with ``api_key``. Read once; again on :meth:`refresh`.

    Calling it raises MissingKey or KeyOutOfReach.
    """

    def __init__(self, secret_id: str, client: Any) -> None:
        self._secret_id = secret_id
        self._client = client
        self._lock = threading.Lock()
        self._key: str | None = None

    def __call__(self) -> str:
        with self._lock:
            if self._key is None:
                self._key = self._read()
            return self._key

    def refresh(self) -> str:
        key = self._read()
        with self._lock:
            self._key = key
        return key

    def _read(self) -> str:
        text = secret_text(self._client, self._secret_id)
        if text.startswith("{"):
            try:
                held = json.loads(text)
            except ValueError:
                # Without the cause: its message would quote the secret.
                raise MissingKey(f"secret {self._secret_id} is neither a key nor JSON") from None
            text = str(held.get("api_key") or "").strip()
        if not text:
            raise MissingKey(f'secret {self._secret_id} holds no key: a plain string, or JSON with "api_key"')
        return text

    def __repr__(self) -> str:
        return f"SecretsManagerKey({self._secret_id!r})"
