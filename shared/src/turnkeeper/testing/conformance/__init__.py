"""What the ports promise, as tests that every adapter and every fake passes.

Each class is a plain class of ``test_`` methods over one attribute. A test module derives from it and sets that
attribute before each test, with whatever it needs (a fixture, an emulator)::

    class TestMemoryTable(TableConformance):
        @pytest.fixture(autouse=True)
        def _table(self) -> None:
            self.table = MemoryTable()

Every test works in partitions, prefixes or bodies of its own, so that one table or bucket can serve them all.
"""

from turnkeeper.testing.conformance.blobs import BlobsConformance
from turnkeeper.testing.conformance.queue import QueueConformance
from turnkeeper.testing.conformance.table_queries import TableQueryConformance
from turnkeeper.testing.conformance.table_races import TableRaceConformance
from turnkeeper.testing.conformance.table_writes import TableWriteConformance

__all__ = [
    "BlobsConformance",
    "QueueConformance",
    "TableQueryConformance",
    "TableRaceConformance",
    "TableWriteConformance",
]
