"""A table that a backup was restored into is one to work on: docs/operations/restore.md, as far as an emulator goes."""

from __future__ import annotations

import uuid

import pytest

from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.table import Key, Put, Table
from turnkeeper.testing.conformance import TableQueryConformance, TableWriteConformance
from turnkeeper.testing.schema import create_table

pytestmark = pytest.mark.emulator


@pytest.fixture(scope="module")
def aws(emulator: str) -> Aws:
    return Aws(region="eu-west-1", endpoint_url=emulator, max_pool_connections=16, table_timeout_seconds=30)


@pytest.fixture(scope="module")
def restored(aws: Aws) -> str:
    """The name of a table that the steps of the runbook made of another, which was written to before and after."""
    client = aws.dynamodb
    before, after = f"before-{uuid.uuid4().hex}", f"after-{uuid.uuid4().hex}"
    create_table(client, before)
    client.update_continuous_backups(
        TableName=before, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    table = DynamoTable(aws.table_requests, before)
    table.write([Put(Key("tenant", "ITEM"), {"n": 1, "due_shard": "due#0", "due_at": "0"})])
    client.restore_table_to_point_in_time(SourceTableName=before, TargetTableName=after, UseLatestRestorableTime=True)
    client.get_waiter("table_exists").wait(TableName=after, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
    table.write([Put(Key("tenant", "LATER"), {"n": 2})])
    client.update_table(
        TableName=after, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    )
    client.update_time_to_live(
        TableName=after, TimeToLiveSpecification={"Enabled": True, "AttributeName": "expires_at_epoch"}
    )
    client.update_continuous_backups(
        TableName=after, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )
    return after


@pytest.fixture
def table(aws: Aws, restored: str) -> Table:
    return DynamoTable(aws.table_requests, restored)


def test_what_was_there_then_is_there_and_what_came_later_is_not(table: Table) -> None:
    assert table.get(Key("tenant", "ITEM")) is not None
    assert table.get(Key("tenant", "LATER")) is None


def test_it_has_what_the_kits_own_table_has(aws: Aws, restored: str) -> None:
    """Keys and indexes come along; stream, expiry and recovery are what the runbook switches on."""
    made = aws.dynamodb.describe_table(TableName=restored)["Table"]
    own = f"own-{uuid.uuid4().hex}"
    create_table(aws.dynamodb, own)
    wanted = aws.dynamodb.describe_table(TableName=own)["Table"]
    assert made["KeySchema"] == wanted["KeySchema"]
    assert {one["IndexName"]: one["KeySchema"] for one in made["GlobalSecondaryIndexes"]} == {
        one["IndexName"]: one["KeySchema"] for one in wanted["GlobalSecondaryIndexes"]
    }
    assert f":table/{restored}/stream/" in made["LatestStreamArn"]
    expiry = aws.dynamodb.describe_time_to_live(TableName=restored)["TimeToLiveDescription"]
    assert (expiry["TimeToLiveStatus"], expiry["AttributeName"]) == ("ENABLED", "expires_at_epoch")


class TestRestoredTableWrites(TableWriteConformance):
    @pytest.fixture(autouse=True)
    def _table(self, table: Table) -> None:
        self.table = table


class TestRestoredTableQueries(TableQueryConformance):
    @pytest.fixture(autouse=True)
    def _table(self, table: Table) -> None:
        self.table = table
