"""What the table does when DynamoDB does not simply answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError, ReadTimeoutError

from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.adapters.table_values import InvalidOperation
from turnkeeper.core.errors import Unavailable
from turnkeeper.table import ABSENT, ConditionFailed, Key, Put, StoreBusy, Update
from turnkeeper.testing.clock import ManualClock, SeededIds

KEY = Key("p", "s")
WIRE_KEY = {"pk": {"S": "p"}, "sk": {"S": "s"}}
PUT = [Put(KEY, {"n": 1}, (ABSENT,))]


def refusal(code: str, status: int = 400, **more: Any) -> ClientError:
    response: Any = {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}, **more}
    return ClientError(response, "Operation")


def cancelled(*reasons: Any) -> ClientError:
    filled = [{"Code": reason} if isinstance(reason, str) else reason for reason in reasons]
    return refusal("TransactionCanceledException", CancellationReasons=filled)


class ScriptedClient:
    """Answers from a list; the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def call(**arguments: Any) -> Any:
            self.requests.append({"method": method, **arguments})
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def table_on(client: ScriptedClient, **more: Any) -> DynamoTable:
    scripted: Any = client
    return DynamoTable(scripted, "table", clock=ManualClock(), ids=SeededIds(), **more)


LOST = ReadTimeoutError(endpoint_url="https://dynamodb")
NOT_SENT = ConnectTimeoutError(endpoint_url="https://dynamodb")
BUSY = [
    cancelled("None", "TransactionConflict"),
    cancelled("ThrottlingError", "None"),
    cancelled("ProvisionedThroughputExceeded"),
    refusal("ProvisionedThroughputExceededException"),
    refusal("ThrottlingException"),
    refusal("RequestLimitExceeded"),
    NOT_SENT,
]
UNKNOWN = [
    LOST,
    refusal("InternalServerError", 500),
    refusal("Whatever", 503),
    refusal("TransactionInProgressException"),
]


@pytest.mark.parametrize("trouble", [*BUSY, *UNKNOWN], ids=repr)
def test_a_write_is_tried_again_with_the_same_token(trouble: Exception) -> None:
    client = ScriptedClient(trouble, trouble, {})
    table_on(client).write(PUT)
    tokens = {request["ClientRequestToken"] for request in client.requests}
    assert len(client.requests) == 3
    assert len(tokens) == 1


def test_each_write_has_a_token_of_its_own() -> None:
    client = ScriptedClient({})
    table = table_on(client)
    table.write(PUT)
    table.write(PUT)
    assert client.requests[0]["ClientRequestToken"] != client.requests[1]["ClientRequestToken"]


@pytest.mark.parametrize("trouble", BUSY, ids=repr)
def test_a_busy_table_is_given_up_in_time(trouble: Exception) -> None:
    client, clock = ScriptedClient(trouble), ManualClock()
    scripted: Any = client
    table = DynamoTable(scripted, "table", clock=clock, ids=SeededIds(), busy_seconds=2)
    with pytest.raises(StoreBusy):
        table.write(PUT)
    assert 1 <= clock.monotonic() <= 2
    assert 3 < len(client.requests) < 40


@pytest.mark.parametrize("trouble", UNKNOWN, ids=repr)
def test_a_lost_answer_is_never_called_nothing_written(trouble: Exception) -> None:
    client = ScriptedClient(trouble, cancelled("TransactionConflict"))
    with pytest.raises(Unavailable):
        table_on(client).write(PUT)


def test_a_read_that_is_lost_is_only_busy() -> None:
    client = ScriptedClient(LOST)
    with pytest.raises(StoreBusy):
        table_on(client).get(KEY)


def test_every_failed_condition_is_told() -> None:
    old = {**WIRE_KEY, "n": {"N": "7"}}
    failed = {"Code": "ConditionalCheckFailed", "Item": old}
    client = ScriptedClient(cancelled(failed, "None", "ConditionalCheckFailed"))
    with pytest.raises(ConditionFailed) as caught:
        table_on(client).write(PUT)
    assert caught.value.failures == {0: {"pk": "p", "sk": "s", "n": 7}, 2: None}


def test_a_failed_condition_counts_more_than_a_conflict() -> None:
    client = ScriptedClient(cancelled("TransactionConflict", "ConditionalCheckFailed"))
    with pytest.raises(ConditionFailed) as caught:
        table_on(client).write(PUT)
    assert caught.value.failures == {1: None}
    assert len(client.requests) == 1


@pytest.mark.parametrize(
    "trouble",
    [refusal("ValidationException"), cancelled("TransactionConflict", {"Code": "ValidationError", "Message": "why"})],
    ids=repr,
)
def test_what_is_invalid_is_not_tried_again(trouble: Exception) -> None:
    client = ScriptedClient(trouble)
    with pytest.raises(InvalidOperation, match="why"):
        table_on(client).write(PUT)
    assert len(client.requests) == 1


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "ExpiredTokenException"])
def test_what_it_let_this_process_do_before_may_be_given_back(code: str) -> None:
    """An answer that was paid for waits for that, and is written once."""
    client = ScriptedClient({}, refusal(code), refusal(code), {})
    table = table_on(client)
    for n in range(2):
        table.write([Put(Key("p", str(n)), {})])
    assert len(client.requests) == 4
    assert len({request["ClientRequestToken"] for request in client.requests[1:]}) == 1
    client.answers = [refusal(code)]
    with pytest.raises(StoreBusy, match=code):
        table.write(PUT)


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException", "ExpiredTokenException"])
def test_what_cannot_get_better_comes_through(code: str) -> None:
    client = ScriptedClient(refusal(code))
    with pytest.raises(ClientError, match=code):
        table_on(client).write(PUT)
    assert len(client.requests) == 1


def test_an_update_that_adds_is_not_repeated_after_a_lost_answer() -> None:
    client = ScriptedClient(refusal("ThrottlingException"), LOST)
    with pytest.raises(Unavailable):
        table_on(client).update(Update(KEY, add={"n": 1}))
    assert len(client.requests) == 2


def test_an_update_that_only_sets_is() -> None:
    client = ScriptedClient(LOST, {"Attributes": WIRE_KEY})
    assert table_on(client).update(Update(KEY, set={"n": 1})) == {"pk": "p", "sk": "s"}
    assert len(client.requests) == 2


def test_keys_left_over_from_a_batch_are_asked_for_again() -> None:
    others = {"pk": {"S": "p"}, "sk": {"S": "t"}}
    none: Any = {"Responses": {}, "UnprocessedKeys": {"table": {"Keys": [others]}}}
    some: Any = {"Responses": {"table": [WIRE_KEY]}, "UnprocessedKeys": {"table": {"Keys": [others]}}}
    client = ScriptedClient(some, none, none, {"Responses": {"table": [others]}})
    found = table_on(client).batch_get([Key("p", "t"), KEY])
    assert [item["sk"] for item in found] == ["t", "s"]
    assert [request["RequestItems"]["table"]["Keys"] for request in client.requests[1:]] == [[others]] * 3

    with pytest.raises(StoreBusy):
        table_on(ScriptedClient(none)).batch_get([Key("p", "t")])


def test_every_request_is_counted() -> None:
    names: list[str] = []
    client = ScriptedClient(LOST, {})
    table = table_on(client, on_request=names.append)
    table.write(PUT)
    table.get(KEY)
    table.batch_get([Key("p", str(n)) for n in range(201)])
    assert names == ["TransactWriteItems"] * 2 + ["GetItem"] + ["BatchGetItem"] * 3


def test_nothing_a_caller_says_becomes_part_of_an_expression() -> None:
    client = ScriptedClient({"Attributes": WIRE_KEY})
    name = "n = :0 OR attribute_exists(pk)"
    table_on(client).update(Update(KEY, set={name: name}, remove=("other",)))
    (request,) = client.requests
    assert request["UpdateExpression"] == "SET #0 = :0 REMOVE #1"
    assert request["ExpressionAttributeNames"] == {"#0": name, "#1": "other"}
