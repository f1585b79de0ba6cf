"""The table as the kit deploys it, for tests that make one of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from turnkeeper.adapters.table_rules import INDEXES, TTL_ATTRIBUTE

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


def create_table(client: DynamoDBClient, name: str) -> None:
    """A table with the kit's keys, indexes, stream and expiry; returns when it can be used."""
    keys: list[Any] = [("pk", "sk"), *INDEXES.values()]
    client.create_table(
        TableName=name,
        KeySchema=_key_schema("pk", "sk"),
        AttributeDefinitions=[
            {"AttributeName": attribute, "AttributeType": "S"}
            for attribute in sorted({n for pair in keys for n in pair})
        ],
        GlobalSecondaryIndexes=[
            {"IndexName": index, "KeySchema": _key_schema(*pair), "Projection": {"ProjectionType": "KEYS_ONLY"}}
            for index, pair in INDEXES.items()
        ],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"},
    )
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    client.update_time_to_live(
        TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
    )


def _key_schema(partition: str, sort: str) -> list[Any]:
    return [{"AttributeName": partition, "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]
