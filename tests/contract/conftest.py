from __future__ import annotations

import uuid

import pytest

from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.dynamodb import DynamoTable
from turnkeeper.adapters.dynamodb_requests import DynamoRequests
from turnkeeper.ports import Table
from turnkeeper.testing.schema import create_table


@pytest.fixture(scope="module")
def emulated_table(emulator: str) -> Table:
    """A table of this module's own, on the emulator."""
    aws = Aws(region="eu-west-1", endpoint_url=emulator, max_pool_connections=16, table_timeout_seconds=30)
    name = f"contract-{uuid.uuid4().hex}"
    create_table(aws.dynamodb, name)
    return DynamoTable(DynamoRequests(aws.dynamodb), name)
