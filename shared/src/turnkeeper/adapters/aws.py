"""Clients of AWS: timeouts, retries and pools in one place.

They are made by botocore. What boto3 adds to it (resources, transfers of files) nobody here uses, and importing that
takes a third as long as all that a client of DynamoDB needs.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.credentials import EnvProvider
from botocore.exceptions import ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.loaders import JSONFileLoader, Loader

from turnkeeper.adapters.dynamodb_endpoint import (
    Surroundings,
    connections_to,
    of_environment,
    of_session,
    region_and_url,
)
from turnkeeper.adapters.dynamodb_requests import DynamoRequests
from turnkeeper.core.errors import Unavailable

if TYPE_CHECKING:
    from botocore.credentials import Credentials
    from botocore.session import Session
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_events import EventBridgeClient
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient

    from turnkeeper.adapters.ecs import EcsClient

_THROTTLES = {
    "RequestThrottled",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
}


@dataclass(eq=False, repr=False)
class Aws:
    """Makes clients; each is made once, and may be shared by threads. ``max_pool_connections`` is the number of
    threads that use a client at a time."""

    region: str | None = None
    endpoint_url: str | None = None
    max_pool_connections: int = 10
    connect_timeout_seconds: float = 2.0
    table_timeout_seconds: float = 3.0
    other_timeout_seconds: float = 30.0
    attempts: int = 4
    #: A session is not made for threads; its clients are.
    _making: Lock = field(default_factory=Lock, init=False)

    @cached_property
    def _surroundings(self) -> Surroundings:
        said = of_environment(self.region, self._named, self._loader)
        return of_session(self._session) if said is None else said

    @cached_property
    def _named(self) -> Credentials | None:
        """Credentials that the environment names, as a Lambda's does: they come before all others."""
        return EnvProvider().load()

    @cached_property
    def _session(self) -> Session:
        """What makes clients, and reads what is configured in files. Only who needs either imports it."""
        import botocore.session

        session = botocore.session.Session()
        if self._named is not None:
            # The providers that come behind it would prepare connections, TLS and all.
            named: Any = SimpleNamespace(load_credentials=lambda: self._named)
            session.register_component("credential_provider", named)
        session.register_component("data_loader", self._loader)
        if self.region is not None:
            session.set_config_variable("region", self.region)
        return session

    @cached_property
    def _loader(self) -> Loader:
        return _Loader()

    @property
    def own_region(self) -> str | None:
        """Where it is, as far as anybody says."""
        return self._surroundings.region

    @property
    def credentials(self) -> Credentials:
        """What to sign requests with that no client makes. They are renewed by themselves."""
        if (found := self._surroundings.credentials) is None:
            raise Unavailable("there are no AWS credentials")
        return found

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        # One attempt: the table retries by itself, and has to see each of them.
        client: DynamoDBClient = self._client("dynamodb", timeout=self.table_timeout_seconds, attempts=1)
        return client

    @cached_property
    def table_requests(self) -> DynamoRequests:
        """What the table sends its requests with."""
        around = self._surroundings
        region, url = region_and_url(around, self.endpoint_url, lambda: self.dynamodb)
        timeouts = self.connect_timeout_seconds, self.table_timeout_seconds
        with self._making:
            connections = connections_to(url, around, region, timeouts, self.max_pool_connections)
            return DynamoRequests(around, region, connections)

    @cached_property
    def s3(self) -> S3Client:
        # An emulator serves buckets by path, not by host name.
        s3 = {"addressing_style": "path"} if self.endpoint_url else {}
        client: S3Client = self._client("s3", s3=s3)
        return client

    @cached_property
    def sqs(self) -> SQSClient:
        # A long poll keeps the connection silent for up to 20 s, hence the long timeout.
        client: SQSClient = self._client("sqs")
        return client

    @cached_property
    def sns(self) -> SNSClient:
        client: SNSClient = self._client("sns", timeout=5.0)
        return client

    @cached_property
    def lambda_(self) -> LambdaClient:
        client: LambdaClient = self._client("lambda")
        return client

    @cached_property
    def ecs(self) -> EcsClient:
        # A request waits for it, and can do without.
        client: EcsClient = self._client("ecs", timeout=2.0, attempts=2)
        return client

    @cached_property
    def events(self) -> EventBridgeClient:
        client: EventBridgeClient = self._client("events", timeout=5.0)
        return client

    @cached_property
    def secretsmanager(self) -> SecretsManagerClient:
        client: SecretsManagerClient = self._client("secretsmanager", timeout=5.0)
        return client

    def _client(self, service: str, *, timeout: float | None = None, attempts: int | None = None, **more: Any) -> Any:
        config = Config(
            connect_timeout=self.connect_timeout_seconds,
            read_timeout=timeout or self.other_timeout_seconds,
            max_pool_connections=self.max_pool_connections,
            retries={"mode": "standard", "total_max_attempts": attempts or self.attempts},
            # A connection that idles behind a NAT gateway for 350 s is cut without a word.
            tcp_keepalive=True,
            **more,
        )
        with self._making:
            make: Any = self._session.create_client
            return make(service, endpoint_url=self.endpoint_url, config=config)


class _Files(JSONFileLoader):
    """botocore's own, which makes an OrderedDict of each object: half of the time that reading takes."""

    def load_file(self, file_path: str) -> Any:
        for ending, opened in ((".json", open), (".json.gz", gzip.open)):
            with suppress(FileNotFoundError), opened(file_path + ending, "rb") as file:
                return json.loads(file.read())
        return None


class _Loader(Loader):
    """botocore's own, which opens the folder of each of AWS's services before it makes its first client: 400 of them, a
    sixth of the time that a client of DynamoDB takes."""

    FILE_LOADER_CLASS = _Files

    def list_available_services(self, type_name: str) -> list[str]:  # noqa: ARG002 - what there is of one shows later
        return [each.name for path in self.search_paths if Path(path).is_dir() for each in os.scandir(path)]


@contextmanager
def outages(service: str) -> Iterator[None]:
    """Turns throttling and outages that outlasted the client's own retries into Unavailable; lets the rest through."""
    try:
        yield
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status < 500 and status != 429 and code_of(error) not in _THROTTLES:
            raise
        raise Unavailable(f"{service} is busy: {code_of(error)}", retry_after_seconds=1) from error
    except (HTTPClientError, BotoConnectionError, IncompleteReadError) as error:
        raise Unavailable(f"{service} is out of reach", retry_after_seconds=1) from error


def code_of(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")
