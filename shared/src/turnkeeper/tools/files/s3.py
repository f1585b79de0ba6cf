"""A prefix in an S3 bucket as a root. Keys are joined from checked names, so they begin with the prefix, always."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from turnkeeper.core.tools import ToolDenied, ToolError
from turnkeeper.tools._common import shown
from turnkeeper.tools.files.source import MAX_ENTRIES, Entry, Listing, Piece

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_CONNECT_SECONDS = 3
_READ_SECONDS = 10


class S3Source:
    """Reads below ``s3://bucket/prefix``, with whatever the process's own role may read."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self._bucket = bucket
        self._prefix = prefix.strip("/") + "/" if prefix.strip("/") else ""
        self._client: S3Client | None = None
        self._lock = threading.Lock()

    def read(self, names: tuple[str, ...], offset: int, max_bytes: int) -> Piece | Listing:
        if not names:
            return self.list(names)
        from botocore.exceptions import BotoCoreError, ClientError

        key = self._key(names)
        try:
            answer = self._s3().get_object(
                Bucket=self._bucket, Key=key, Range=f"bytes={offset}-{offset + max_bytes - 1}"
            )
            total = answer.get("ContentRange", "").rpartition("/")[2]
            with answer["Body"] as stream:
                data = stream.read(max_bytes)
            return Piece(data, int(total) if total.isdigit() else offset + len(data))
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == "InvalidRange":  # empty, or the offset is past its end
                return Piece(b"", self._size(key))
            if code in ("NoSuchKey", "404"):
                return self.list(names)
            raise _explained(code, names) from error
        except BotoCoreError as error:
            raise ToolError("The storage cannot be reached at the moment.") from error

    def list(self, names: tuple[str, ...]) -> Listing:
        from botocore.exceptions import BotoCoreError, ClientError

        prefix = self._key(names) + "/" if names else self._prefix
        try:
            answer = self._s3().list_objects_v2(Bucket=self._bucket, Prefix=prefix, Delimiter="/", MaxKeys=MAX_ENTRIES)
        except ClientError as error:
            raise _explained(error.response.get("Error", {}).get("Code", ""), names) from error
        except BotoCoreError as error:
            raise ToolError("The storage cannot be reached at the moment.") from error
        entries = [Entry(item["Prefix"][len(prefix) : -1], "folder") for item in answer.get("CommonPrefixes", [])]
        entries += [
            Entry(item["Key"][len(prefix) :], "file", item["Size"])
            for item in answer.get("Contents", [])
            if item["Key"] != prefix  # the folder's own marker
        ]
        if not entries and not answer.get("Contents") and names:
            raise ToolError(f"There is no {shown('/'.join(names))}.")
        return Listing(sorted(entries, key=lambda entry: entry.name), bool(answer.get("IsTruncated")))

    def _key(self, names: tuple[str, ...]) -> str:
        return self._prefix + "/".join(names)

    def _size(self, key: str) -> int:
        return int(self._s3().head_object(Bucket=self._bucket, Key=key)["ContentLength"])

    def _s3(self) -> S3Client:
        with self._lock:  # boto3's session is not made for threads, its clients are
            if self._client is None:
                import boto3
                from botocore.config import Config

                config: Any = Config(
                    connect_timeout=_CONNECT_SECONDS,
                    read_timeout=_READ_SECONDS,
                    retries={"total_max_attempts": 2, "mode": "standard"},
                )
                self._client = boto3.session.Session().client("s3", config=config)
            return self._client


def _explained(code: str, names: tuple[str, ...]) -> ToolError:
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        return ToolDenied(f"The storage does not allow {shown('/'.join(names) or '.')} to be read.")
    return ToolError(f"{shown('/'.join(names) or '.')} cannot be read from the storage.")
