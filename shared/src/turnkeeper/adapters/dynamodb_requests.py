"""Requests to DynamoDB without what a client of botocore does around them: two thirds of a small write's CPU time.

The client checks arguments against the service's model, walks them twice more, reckons its endpoint and describes
itself anew with each request, and reads the answer by the model as well. The table's arguments are in wire form
already, and its conformance suite is what checks them. What is left is JSON, a signature, which is botocore's own, and
a connection of urllib3's (:mod:`turnkeeper.adapters.dynamodb_connections`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import botocore
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.exceptions import ClientError, HTTPClientError, NoCredentialsError
from botocore.hooks import first_non_none_response
from pydantic_core import to_json

from turnkeeper.core.canonical import is_plain

if TYPE_CHECKING:
    from turnkeeper.adapters.dynamodb_connections import Connections
    from turnkeeper.adapters.dynamodb_endpoint import Surroundings

_TARGET = "DynamoDB_20120810"


class DynamoRequests:
    """The methods of a client that a table needs, with its errors. Bytes are base64, as they go over the wire.

    Sends what it is given once, and hears no event but ``before-send``. Safe to share between threads.
    """

    def __init__(self, around: Surroundings, region: str, connections: Connections) -> None:
        self._events: Any = around.events
        self._region = region
        self._url = connections.url
        self._connections = connections
        self._credentials = around.credentials
        self._headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "User-Agent": f"Botocore/{botocore.__version__}",
            # Else the signer reckons it twice, and who sends it once more.
            "Host": connections.host,
        }

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
        # Else bytes, say, would go out as if they were text.
        if not is_plain(arguments):
            raise TypeError(f"a request holds nothing but JSON: {operation}")
        body = to_json(arguments)
        if self._credentials is None:
            raise NoCredentialsError
        request: Any = _Request("POST", self._url, data=body)
        # A plain dict: each name is written in one way only.
        headers: Any = {**self._headers, "X-Amz-Target": f"{_TARGET}.{operation}"}
        request.headers = headers
        SigV4Auth(self._credentials.get_frozen_credentials(), "dynamodb", self._region).add_auth(request)
        prepared = AWSPreparedRequest("POST", self._url, headers, body, stream_output=False)
        heard = self._events.emit(f"before-send.dynamodb.{operation}", request=prepared)
        answer = first_non_none_response(heard) or self._connections.post(headers, body)
        try:
            told = json.loads(answer.content)
            if not isinstance(told, dict):
                raise ValueError("no object")
        except ValueError as error:
            # Not DynamoDB's: each of its answers is an object, if an empty one.
            if answer.status_code < 300:
                raise HTTPClientError(error=error) from error
            told = {}
        if answer.status_code >= 300:
            raise _refusal(operation, answer.status_code, told)
        return told


class _Request(AWSRequest):
    """One that is sent as it is. botocore's prepares another one whenever it is asked for its body."""

    @property
    def body(self) -> Any:
        return self.data


def _refusal(operation: str, status: int, told: dict[str, Any]) -> ClientError:
    """As a client of botocore tells it."""
    code = str(told.get("__type", status)).rsplit("#", 1)[-1].split(":", 1)[0]
    error = {"Code": code, "Message": told.get("message", told.get("Message", ""))}
    reasons, item = told.get("CancellationReasons"), told.get("Item")
    response: Any = {"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}
    response |= {name: value for name, value in (("CancellationReasons", reasons), ("Item", item)) if value is not None}
    return ClientError(response, operation)
