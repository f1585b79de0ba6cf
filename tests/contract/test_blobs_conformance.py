"""One contract, three stores of large contents."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from moto import mock_aws

from turnkeeper.adapters.aws import Aws
from turnkeeper.adapters.s3 import S3Blobs
from turnkeeper.testing.conformance import BlobsConformance
from turnkeeper.testing.memory_blobs import MemoryBlobs


def bucket_of(aws: Aws) -> S3Blobs:
    name = f"conformance-{uuid.uuid4().hex}"
    aws.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    return S3Blobs(aws.s3, name)


class TestMemoryBlobs(BlobsConformance):
    @pytest.fixture(autouse=True)
    def _blobs(self) -> None:
        self.blobs = MemoryBlobs()


class TestMotoBlobs(BlobsConformance):
    @pytest.fixture(autouse=True)
    def _blobs(self) -> Iterator[None]:
        with mock_aws():
            self.blobs = bucket_of(Aws(region="eu-west-1"))
            yield

    def test_a_prefix_of_more_than_a_page(self) -> None:
        for n in range(1001):
            self.blobs.put(f"many/{n}", b"x")
        assert self.blobs.delete_prefix("many/") == 1001


@pytest.mark.emulator
class TestEmulatedBlobs(BlobsConformance):
    @pytest.fixture(autouse=True)
    def _blobs(self, emulator: str) -> None:
        self.blobs = bucket_of(Aws(region="eu-west-1", endpoint_url=emulator))
