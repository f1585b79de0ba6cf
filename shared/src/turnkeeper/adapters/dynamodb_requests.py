"""Requests to DynamoDB without what a client of botocore does around them: two thirds of a small write's CPU time.

The client checks arguments against the service's model, walks them twice more, reckons its endpoint and describes
itself anew with each request, and reads the answer by the model as well. The table's arguments are in wire form
already, and its conformance suite is what checks them. What is left is JSON, a signature and a connection. The last is
botocore's own, with its pool, timeouts, proxies and certificates. So are credentials; the signature is ours, because
botocore's takes any request apart to find out what all of these have in common.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from botocore.awsrequest import AWSPreparedRequest
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError
from botocore.hooks import first_non_none_response
from botocore.utils import normalize_url_path

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from mypy_boto3_dynamodb import DynamoDBClient

_TARGET = "DynamoDB_20120810"


class DynamoRequests:
    """The methods of a client that a table needs, with its errors. Bytes go in as bytes, and come back as base64.

    Sends what it is given once, and hears no event of the client's but ``before-send``. Safe to share between threads.
    """

    def __init__(self, client: DynamoDBClient) -> None:
        # None of this is said in public, and all of it is the client's own: to reckon it again would be to forget some.
        inside: Any = client
        self._events = inside.meta.events
        self._url = f"{inside._endpoint.host.rstrip('/')}/"
        self._connections = inside._endpoint.http_session
        self._signer = inside._request_signer
        self._user_agent = str(inside.meta.config.user_agent)

    def get_item(self, **arguments: Any) -> dict[str, Any]:
        return self._send("GetItem", arguments)

    def batch_get_item(self, **arguments: Any) -> dict[str, Any]:
        return self._send("BatchGetItem", arguments)

    def query(self, **arguments: Any) -> dict[str, Any]:
        return self._send("Query", arguments)

    def scan(self, **arguments: Any) -> dict[str, Any]:
        return self._send("Scan", arguments)

    def transact_write_items(self, **arguments: Any) -> dict[str, Any]:
        return self._send("TransactWriteItems", arguments)

    def update_item(self, **arguments: Any) -> dict[str, Any]:
        return self._send("UpdateItem", arguments)

    def _send(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """
        Raises:
            ClientError: DynamoDB refused it.
            HTTPClientError: there is no answer, or none that can be read.
        """
        body = _ENCODER.encode(arguments).encode()
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": f"{_TARGET}.{operation}",
        }
        if (credentials := self._signer._credentials) is None:
            raise NoCredentialsError
        signer = self._signer
        whose = credentials.get_frozen_credentials()
        scope = (signer.region_name, signer.signing_name)
        signed = signature(self._url, headers, body, whose, scope, datetime.now(UTC))
        # A plain dict: the headers of botocore's own kind are a thing of six calls for each that is read.
        sent: Any = {**headers, **signed, "User-Agent": self._user_agent, "Content-Length": str(len(body))}
        prepared = AWSPreparedRequest("POST", self._url, sent, body, False)
        heard = self._events.emit(f"before-send.dynamodb.{operation}", request=prepared)
        answer = first_non_none_response(heard) or self._connections.send(prepared)
        try:
            told = json.loads(answer.content) if answer.content else {}
        except ValueError as error:
            if answer.status_code < 300:
                raise HTTPClientError(error=error) from error
            told = {}
        if answer.status_code >= 300:
            raise _refusal(operation, answer.status_code, told)
        return told


def signature(
    url: str,
    headers: dict[str, str],
    body: bytes,
    whose: ReadOnlyCredentials,
    scope: tuple[str, str],
    now: datetime,
) -> dict[str, str]:
    """The headers that sign a ``POST`` with AWS Signature Version 4.

    Args:
        url: without a query.
        headers: those that are signed, beside the host, the time and the credentials' token.
        scope: region and service.
    """
    host, path = _place(url)
    at = now.strftime("%Y%m%dT%H%M%SZ")
    added = {"X-Amz-Date": at, **({"X-Amz-Security-Token": whose.token} if whose.token else {})}
    said = sorted((name.lower(), value) for name, value in ({"Host": host} | headers | added).items())
    names = ";".join(name for name, _ in said)
    lines = "".join(f"{name}:{value}\n" for name, value in said)
    canonical = f"POST\n{path}\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    where = f"{at[:8]}/{scope[0]}/{scope[1]}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{at}\n{where}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signed = hmac.digest(_signing_key(whose.secret_key, where), to_sign.encode(), "sha256").hex()
    told = f"Credential={whose.access_key}/{where}, SignedHeaders={names}, Signature={signed}"
    return {**added, "Authorization": f"AWS4-HMAC-SHA256 {told}"}


@lru_cache(maxsize=8)
def _place(url: str) -> tuple[str, str]:
    """Host as its header says it, without the port that the scheme has anyway, and path."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else f"{parts.hostname}"
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    return host if parts.port in (None, usual) else f"{host}:{parts.port}", quote(
        normalize_url_path(parts.path), safe="/~"
    )


@lru_cache(maxsize=4)
def _signing_key(secret: str, scope: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _base64(value: object) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"a request holds no {type(value).__name__}")


_ENCODER = json.JSONEncoder(separators=(",", ":"), default=_base64)


def _refusal(operation: str, status: int, told: dict[str, Any]) -> ClientError:
    """As a client of botocore tells it."""
    code = str(told.get("__type", status)).rsplit("#", 1)[-1]
    error = {"Code": code, "Message": told.get("message", told.get("Message", ""))}
    reasons, item = told.get("CancellationReasons"), told.get("Item")
    response: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    response |= {name: value for name, value in (("CancellationReasons", reasons), ("Item", item)) if value is not None}
    return ClientError(response, operation)
