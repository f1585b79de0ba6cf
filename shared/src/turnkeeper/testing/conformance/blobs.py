"""What large contents promise."""

from __future__ import annotations

from turnkeeper.table import Blobs
from turnkeeper.testing.conformance._help import fails, unique


class BlobsConformance:
    blobs: Blobs

    def test_bytes_come_back_as_they_were_put(self) -> None:
        key = f"{unique('blobs')}/ü +%?&"
        for data in (b"", b"\x00\xff" * 1000, b"x" * 1_000_000):
            self.blobs.put(key, data)
            assert self.blobs.get(key) == data

    def test_a_put_can_be_repeated(self) -> None:
        key = unique("blobs")
        self.blobs.put(key, b"same")
        self.blobs.put(key, b"same")
        assert self.blobs.get(key) == b"same"

    def test_what_is_not_there_is_a_key_error(self) -> None:
        fails(KeyError, lambda: self.blobs.get(unique("blobs")))

    def test_a_prefix_is_deleted_whole_and_nothing_else(self) -> None:
        root = unique("blobs")
        for name in ("a/1", "a/2", "a/b/3", "ab/4", "c"):
            self.blobs.put(f"{root}/{name}", name.encode())
        assert self.blobs.delete_prefix(f"{root}/a/") == 3
        assert self.blobs.delete_prefix(f"{root}/a/") == 0
        fails(KeyError, lambda: self.blobs.get(f"{root}/a/b/3"))
        assert self.blobs.get(f"{root}/ab/4") == b"ab/4"
        assert self.blobs.delete_prefix(f"{root}/") == 2

    def test_the_whole_bucket_is_never_deleted(self) -> None:
        fails(ValueError, lambda: self.blobs.delete_prefix(""))
