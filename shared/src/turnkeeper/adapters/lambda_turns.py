"""Starts the turn Lambda."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from turnkeeper.adapters.aws import outages

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient


class LambdaTurns:
    """A :class:`turnkeeper.ports.Turns`: an asynchronous invocation with ``{"tenant_id", "session_id"}``.

    Lambda keeps the event and retries it; a lost answer may start the turn twice, which its lease makes harmless.
    Raises Unavailable where Lambda does not take the event.
    """

    def __init__(self, client: LambdaClient, function_name: str) -> None:
        self._client = client
        self._function_name = function_name

    def start(self, tenant_id: str, session_id: str) -> None:
        event = json.dumps({"tenant_id": tenant_id, "session_id": session_id})
        with outages("Lambda"):
            self._client.invoke(FunctionName=self._function_name, InvocationType="Event", Payload=event.encode())
