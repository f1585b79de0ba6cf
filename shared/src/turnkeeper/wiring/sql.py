"""The kit without AWS: a database for state and queues, files and the environment for secrets, a log for alerts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import SecretStr

from turnkeeper.adapters.known_secrets import KNOWN
from turnkeeper.adapters.log_alerts import LogAlerts
from turnkeeper.adapters.secrets import EnvironmentKey, FileKey, KeySource
from turnkeeper.adapters.sql import schema
from turnkeeper.adapters.sql.blobs import Bucket, Folder, Outside, SqlBlobs
from turnkeeper.adapters.sql.database import Database, refusals
from turnkeeper.adapters.sql.feed import Follower
from turnkeeper.adapters.sql.opening import database_of
from turnkeeper.adapters.sql.queue import SqlDeadLetters, SqlQueue, SqlWords
from turnkeeper.adapters.sql.table import SqlTable
from turnkeeper.adapters.tool_secrets import FolderValues, secret_file
from turnkeeper.adapters.webhook_alerts import WebhookAlerts
from turnkeeper.core.errors import Unavailable
from turnkeeper.core.late import late
from turnkeeper.core.tools import ToolValues
from turnkeeper.ports import Alerts, Bus, Clock, Replies, Turns, Wakes
from turnkeeper.runtime.receivers import NoReplies
from turnkeeper.runtime.tracing import TraceReceiver
from turnkeeper.settings import Settings
from turnkeeper.wiring.needs import MissingSetting, needed

if TYPE_CHECKING:
    from turnkeeper.adapters.aws import Aws

#: As many characters a signing key has at least.
_KEY_CHARACTERS = 32
_JOBS, _TRACES, _WORDS = "jobs", "traces", "words"


class SqlPlatform:
    """A :class:`turnkeeper.wiring.platform.Platform`. Who runs turns at once, instead of a Lambda, is the business
    of the process that has a place for them."""

    wakes: Wakes | None = None
    turns: Turns | None = None
    bus: Bus | None = None

    def __init__(self, settings: Settings, clock: Callable[[], Clock]) -> None:
        self.settings = settings
        self._clock = clock

    @cached_property
    def aws(self) -> Aws:
        from turnkeeper.wiring.aws import aws_of

        return aws_of(self.settings)

    @cached_property
    def opened(self) -> Database:
        """The database, of which nothing was asked yet."""
        url: SecretStr = needed(self.settings, "database_url")
        opened = database_of(url.get_secret_value(), self.settings.database_connections)
        # Tools run in this process, and see its environment. A plain word, as on a developer's machine, hides nothing.
        if (password := opened.password) is not None and not password.isalpha():
            KNOWN.add("of the database", password)
        return opened

    @cached_property
    def database(self) -> Database:
        """The database, with its tables. Raises UnsuitableDatabase, StoreBusy."""
        migrates = self.settings.database_migrate
        migrates = self.opened.kind == "sqlite" if migrates is None else migrates
        opened = self.opened
        with refusals(opened):
            if migrates:
                opened.make()
                # Who runs need not own the tables, where there is nothing to change.
                if schema.version(opened) < schema.needed_version(opened):
                    schema.migrate(opened)
            schema.check(opened)
        return opened

    @cached_property
    def table(self) -> SqlTable:
        return SqlTable(self.database)

    @cached_property
    def blobs(self) -> SqlBlobs:
        return SqlBlobs(self.database, self._outside(), self.settings.database_blob_bytes)

    @cached_property
    def queue(self) -> SqlQueue:
        return SqlQueue(self.database, _JOBS)

    @cached_property
    def dead_letters(self) -> SqlDeadLetters:
        return SqlDeadLetters(self.database, _JOBS)

    @cached_property
    def trace_queue(self) -> SqlQueue:
        return SqlQueue(self.database, _TRACES, receives=12)

    @cached_property
    def words(self) -> SqlWords:
        return SqlWords(self.database, _WORDS, receives=20)

    @cached_property
    def replies(self) -> Replies:
        if not self.settings.reply_queues:
            return NoReplies()
        from turnkeeper.adapters.words import SqsReplies

        return SqsReplies(late(lambda: self.aws.sqs), self.settings.reply_queues)

    def hook_keys(self) -> list[str]:
        # Whoever delivers here reads these as well: another file would keep nothing from it.
        return self.signing_keys()

    @cached_property
    def alerts(self) -> Alerts:
        url = self.settings.alert_url
        return WebhookAlerts(url.get_secret_value()) if url else LogAlerts()

    @cached_property
    def tool_values(self) -> ToolValues:
        settings = self.settings
        return FolderValues(
            settings.secrets_folder, settings.tool_secrets, settings.tool_settings, self._clock(), KNOWN
        )

    @cached_property
    def trace_receiver(self) -> TraceReceiver:
        from turnkeeper.adapters.otlp import OtlpReceiver, headers_of

        resource = {"service.name": "turnkeeper", "deployment.environment.name": self.settings.deployment}
        file = self.settings.otlp_secret_id

        def headers() -> dict[str, str]:
            return headers_of(secret_file(needed(self.settings, "secrets_folder"), file)) if file else {}

        return OtlpReceiver(needed(self.settings, "otlp_endpoint"), resource, headers=headers)

    def follower(self, name: str) -> Follower:
        """Who follows the table's changes by this name."""
        return Follower(self.database, name)

    def signing_keys(self) -> list[str]:
        file, key = self.settings.signing_key_file, self.settings.signing_key
        if file is None and key is None:
            raise MissingSetting("TURNKEEPER_SIGNING_KEY_FILE is not set, and this process needs it")
        try:
            text = file.read_text() if file is not None else key.get_secret_value() if key else ""
        except OSError as error:
            raise Unavailable(f"the signing keys cannot be read: {error.strerror}", retry_after_seconds=1) from None
        keys = text.split()
        if not keys or any(len(one) < _KEY_CHARACTERS for one in keys):
            raise MissingSetting(f"a signing key has at least {_KEY_CHARACTERS} characters: `openssl rand -hex 32`")
        for one in keys:
            KNOWN.add("that signs", one)
        return keys

    def model_key(self) -> KeySource | None:
        if self.settings.model_provider == "bedrock":
            return None
        file = self.settings.model_key_file
        return FileKey(file) if file else EnvironmentKey()

    def _outside(self) -> Outside | None:
        if self.settings.blob_folder is not None:
            return Folder(self.settings.blob_folder)
        if self.settings.bucket is None:
            return None
        from turnkeeper.adapters.s3 import S3Blobs

        return Bucket(S3Blobs(self.aws.s3, self.settings.bucket))
