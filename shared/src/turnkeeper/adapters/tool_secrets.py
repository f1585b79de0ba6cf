"""What a deployment gives its tools: settings as they are, and secrets from Secrets Manager or a folder of files, read
when one is asked for."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from turnkeeper.adapters.known_secrets import MIN_SECRET_CHARS, KnownSecrets
from turnkeeper.adapters.redaction_names import is_secret_name
from turnkeeper.core.errors import MissingValue, Unavailable, ValueOutOfReach
from turnkeeper.ports import Clock

logger = logging.getLogger(__name__)

#: A secret that was rotated is noticed after this long at most.
SECRET_SECONDS = 300


class KeptValues:
    """A :class:`turnkeeper.core.tools.ToolValues`. Every value that it gives is known to ``known`` first.

    Args:
        secret_ids: by the name that tools call a secret by.
    """

    def __init__(
        self, secret_ids: Mapping[str, str], settings: Mapping[str, str], clock: Clock, known: KnownSecrets
    ) -> None:
        self._secret_ids = secret_ids
        self._settings = settings
        self._clock = clock
        self._known = known
        self._lock = threading.Lock()
        self._read: dict[str, tuple[float, str]] = {}

    def setting(self, name: str, /) -> str:
        if name not in self._settings:
            raise MissingValue(f"there is no setting {name!r} in this deployment: write it below [settings]")
        return self._settings[name]

    def secret(self, name: str, key: str | None = None, /) -> str:
        text = self._text(name)
        if key is None:
            _tell_known(self._known, name, text)
            return text
        value = _member(name, text, key)
        self._known.add(name, text, value)
        return value

    def _text(self, name: str) -> str:
        secret_id = self._secret_ids.get(name)
        if secret_id is None:
            raise MissingValue(f"there is no secret {name!r} in this deployment: write it below [secrets]")
        with self._lock:
            kept = self._read.get(name)
        now = self._clock.monotonic()
        if kept is not None and now - kept[0] < SECRET_SECONDS:
            return kept[1]
        try:
            text = self._fetched(name, secret_id)
        except ValueOutOfReach:
            if kept is None:
                raise
            logger.warning("secret %s cannot be read now: the one at hand stays in use", name)
            text = kept[1]
        with self._lock:
            self._read[name] = (now, text)
        return text

    def _fetched(self, name: str, secret_id: str) -> str:
        """Raises MissingValue, ValueOutOfReach."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self._secret_ids)}, {sorted(self._settings)})"


class SecretsManagerValues(KeptValues):
    def __init__(
        self,
        client: Any,
        secret_ids: Mapping[str, str],
        settings: Mapping[str, str],
        clock: Clock,
        known: KnownSecrets,
    ) -> None:
        super().__init__(secret_ids, settings, clock, known)
        self._client = client

    def _fetched(self, name: str, secret_id: str) -> str:
        from botocore.exceptions import ClientError

        from turnkeeper.adapters.aws import code_of, outages

        try:
            with outages("Secrets Manager"):
                text = str(self._client.get_secret_value(SecretId=secret_id).get("SecretString") or "")
        except Unavailable as busy:
            raise ValueOutOfReach(f"secret {name!r} cannot be read now: {busy.detail}") from busy
        except ClientError as error:
            raise MissingValue(f"secret {name!r} ({secret_id}) cannot be read: {code_of(error)}") from error
        return usable(name, text)


class FolderValues(KeptValues):
    """Secrets from the files of a folder, each in the file that ``secret_ids`` says."""

    def __init__(
        self,
        folder: Path | None,
        secret_ids: Mapping[str, str],
        settings: Mapping[str, str],
        clock: Clock,
        known: KnownSecrets,
    ) -> None:
        super().__init__(secret_ids, settings, clock, known)
        self._folder = folder

    def _fetched(self, name: str, secret_id: str) -> str:
        if self._folder is None:
            raise MissingValue(f"secret {name!r}: this deployment names no folder of secrets")
        try:
            text = secret_file(self._folder, secret_id)
        except FileNotFoundError as error:
            raise MissingValue(f"secret {name!r}: there is no file {secret_id!r} in the folder of secrets") from error
        except (OSError, ValueError) as error:
            raise ValueOutOfReach(f"secret {name!r} cannot be read now: {type(error).__name__}") from None
        return usable(name, text)


def secret_file(folder: Path, name: str) -> str:
    """What a file of the folder holds. Raises OSError, UnicodeDecodeError; FileNotFoundError also for a name that leads
    out of the folder."""
    if Path(name).name != name:
        raise FileNotFoundError(name)
    return (folder / name).read_text().strip()


def usable(name: str, text: str) -> str:
    """Raises MissingValue for what could not be told from other text where it has to be taken out."""
    if len(text.strip()) < MIN_SECRET_CHARS:
        raise MissingValue(
            f"secret {name!r} has fewer than {MIN_SECRET_CHARS} characters: as short as this it cannot be kept out of "
            "texts. Choose a longer one, or make it a setting."
        )
    return text


def _member(name: str, text: str, key: str) -> str:
    try:
        value = json.loads(text)[key]
    except (ValueError, KeyError, TypeError):
        # Without the cause: its message may quote the secret.
        raise MissingValue(f"secret {name!r} is no JSON object with {key!r}") from None
    if not isinstance(value, str):
        raise MissingValue(f"secret {name!r}: what it has under {key!r} is no text")
    return usable(name, value)


def _tell_known(known: KnownSecrets, name: str, text: str) -> None:
    """The text, and of JSON what stands under names of secrets, however deep: a tool takes them out of it."""
    try:
        members = list(_secret_members(json.loads(text)))
    except ValueError:
        members = []
    known.add(name, text, *(value for value in members if len(value.strip()) >= MIN_SECRET_CHARS))


def _secret_members(value: Any, *, named: bool = False) -> Iterator[str]:
    """Texts and numbers under names of secrets, also in lists."""
    match value:
        case dict():
            for name, item in value.items():
                yield from _secret_members(item, named=is_secret_name(name))
        case list():
            for item in value:
                yield from _secret_members(item, named=named)
        case str() | int() if named:
            yield str(value)
