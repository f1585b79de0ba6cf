"""Large contents on S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from turnkeeper.adapters.aws import code_of, outages
from turnkeeper.core.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef


class S3Blobs:
    """A :class:`turnkeeper.table.Blobs` in one bucket, which must not be versioned: what is deleted has to be gone.

    Encryption is the bucket's default. All methods raise Unavailable where S3 is busy or out of reach.
    """

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket
        #: It has let this process put something.
        self._has_put = False

    def put(self, key: str, data: bytes) -> None:
        try:
            with outages("S3"):
                self._client.put_object(Bucket=self._bucket, Key=key, Body=data)
        except ClientError as error:
            if not self._has_put:
                raise
            # Somebody has taken that away and may give it back, for which what was paid for waits.
            raise Unavailable(f"S3 refuses what it took before: {code_of(error)}", retry_after_seconds=1) from error
        self._has_put = True

    def get(self, key: str) -> bytes:
        try:
            with outages("S3"):
                return self._client.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except ClientError as error:
            if code_of(error) == "NoSuchKey":
                raise KeyError(key) from error
            raise

    def delete_prefix(self, prefix: str) -> int:
        if not prefix:
            raise ValueError("an empty prefix is the whole bucket")
        deleted = 0
        with outages("S3"):
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
                objects: list[ObjectIdentifierTypeDef] = [{"Key": found["Key"]} for found in page.get("Contents", [])]
                if not objects:
                    continue
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": objects, "Quiet": True})
                # S3 reports failures of single objects in an answer that says 200.
                if errors := answer.get("Errors"):
                    codes = sorted({error.get("Code", "") for error in errors})
                    raise Unavailable(f"S3 did not delete {len(errors)} objects: {', '.join(codes)}")
                deleted += len(objects)
        return deleted
