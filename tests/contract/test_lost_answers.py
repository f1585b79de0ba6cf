"""A write whose answer is lost is applied once, on a table that keeps tokens."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ReadTimeoutError

from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.table import ABSENT, Cond, Key, Put, Update
from turnkeeper.testing.schema import create_table


class LosesFirstAnswers:
    """A client of which each call is done, and then not answered the first ``times``."""

    def __init__(self, client: Any, times: int) -> None:
        self._client = client
        self.left = times

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            answer = getattr(self._client, method)(**arguments)
            if self.left:
                self.left -= 1
                raise ReadTimeoutError(endpoint_url="https://dynamodb")
            return answer

        return call


@pytest.mark.emulator
def test_a_lost_answer_is_not_a_failed_condition_and_counts_once(emulator: str) -> None:
    aws = Aws(region="eu-west-1", endpoint_url=emulator, table_timeout_seconds=30)
    name = f"lost-{uuid.uuid4().hex}"
    create_table(aws.dynamodb, name)
    client: Any = LosesFirstAnswers(aws.table_requests, 0)
    table = DynamoTable(client, name)
    counter, lock = Key("p", "COUNTER"), Key("p", "LOCK")
    table.write([Put(counter, {"n": 0})])

    client.left = 2
    table.write([Update(counter, add={"n": 1}, conditions=(Cond("n", "=", 0),)), Put(lock, {}, (ABSENT,))])
    assert client.left == 0
    client.left = 1
    # One operation alone: a plain PutItem would fail here, on the item that it has put itself.
    table.write([Put(Key("p", "ALONE"), {}, (ABSENT,))])

    assert [item["sk"] for item in table.query_all("p")] == ["ALONE", "COUNTER", "LOCK"]
    assert table.get(counter) == {"pk": "p", "sk": "COUNTER", "n": 1}
