"""Starts the turn Lambda."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from turnkeeper.adapters.aws import code_of, outages
from turnkeeper.adapters.system import SystemClock
from turnkeeper.core.errors import Unavailable
from turnkeeper.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_lambda import LambdaClient

#: What Lambda says for some moments while a deployment moves an alias, though the function is there.
_MOVING = frozenset({"ResourceConflictException", "ResourceNotFoundException", "SnapStartNotReadyException"})
_PAUSES_SECONDS = (0.1, 0.3, 1.0)


class LambdaTurns:
    """A :class:`turnkeeper.ports.Turns`: an asynchronous invocation with ``{"tenant_id", "session_id"}``.

    Lambda keeps the event and retries it; a lost answer may start the turn twice, which its lease makes harmless.
    Raises Unavailable where Lambda does not take the event, also where the function was not found a few times in a row.
    """

    def __init__(self, client: LambdaClient, function_name: str, clock: Clock | None = None) -> None:
        self._client = client
        self._function_name = function_name
        self._clock = clock or SystemClock()

    def start(self, tenant_id: str, session_id: str) -> None:
        event = json.dumps({"tenant_id": tenant_id, "session_id": session_id}).encode()
        for pause in (*_PAUSES_SECONDS, None):
            try:
                with outages("Lambda"):
                    taken = self._client.invoke(FunctionName=self._function_name, InvocationType="Event", Payload=event)
                    # Of an answer that is not read, empty as it is, the connection would be closed.
                    taken["Payload"].read()
            except ClientError as error:
                if (code := code_of(error)) not in _MOVING:
                    raise
                if pause is None:
                    raise Unavailable(f"Lambda does not find the turn runner: {code}", retry_after_seconds=1) from error
                self._clock.sleep(pause)
            else:
                return
